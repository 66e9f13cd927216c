"""What is known beside the findings: the patient, why the scan was made, earlier scans, details of single findings.

Everything may be unknown (``None``), and unknown is never taken for "no": a guideline that needs a fact which is not
here asks for it.

```
Context ── who and why        age, sex, smoker, cancer, immunosuppressed, screening, ...
        ├─ details            facts about single findings that the ontology has no word for (solid part, calcification)
        └─ prior              the findings of an earlier scan, how long ago
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ctscribe import config
from ctscribe.errors import UsageError
from ctscribe.report import Finding

Sign = Literal["mediastinal_shift", "diaphragm_flattened", "dissection", "rupture", "right_heart_strain"]
Change = Literal["new", "growing", "slowly_growing", "stable", "smaller", "resolved"]


@dataclass(frozen=True)
class Details:
    """Facts about one finding that the ontology has no word for; None where nobody said so.

    Attributes:
        finding: index of the finding they belong to.
        volume_mm3: volume of a nodule.
        solid_part_mm: mean diameter of the solid part of a part-solid nodule.
        benign_pattern: calcified completely, centrally, in rings or like popcorn, or with fat in it.
        calcified: contains calcification of any pattern.
        perifissural: on a fissure or the pleura, solid, smooth, and oval, lens-shaped or triangular.
        airway: an airway nodule, ``"subsegmental"`` or ``"proximal"`` (segmental or more proximal).
        cyst: wall of an atypical cyst: ``"thick"`` or ``"multilocular"``; ``"thin"`` for a simple one.
        cyst_change: what changed in a cyst: ``"cystic_part_growing"``, ``"wall_growing"``, ``"became_multilocular"``,
            ``"growing"`` (a multilocular one) or ``"more_loculated"`` (or a new opacity beside it).
        change: against the earlier scan; worked out from `Context.prior` where it is not said.
        solid_part_change: the same for the solid part.
        earlier_category: category of this nodule at the earlier scan, such as ``"3"`` or ``"4A"``.
        proven_benign: work-up has shown it to be benign.
        suspicious: further suspicious features (spiculation, adenopathy, metastasis, doubling within a year).
        suspicious_look: a small subsolid nodule that looks suspicious, a lymph node or thyroid nodule likewise.
        explained: a known cause explains it (an infection, sarcoidosis, heart failure).
        attenuation_hu: mean attenuation without contrast.
        macroscopic_fat: fat can be seen in it.
        segment: of the aorta: ``"root"``, ``"ascending"``, ``"arch"`` or ``"descending"``.
        extent_percent: share of a lung zone that an interstitial abnormality takes up.
        fibrosis_signs: honeycombing (a finding of it says so itself), or traction bronchiectasis with distortion.
        subpleural: lies mainly beneath the pleura.
        signs: signs beside it that decide on urgency: ``"mediastinal_shift"``, ``"diaphragm_flattened"``,
            ``"dissection"``, ``"rupture"``, ``"right_heart_strain"``.
    """

    finding: int
    volume_mm3: float | None = None
    solid_part_mm: float | None = None
    benign_pattern: bool | None = None
    calcified: bool | None = None
    perifissural: bool | None = None
    airway: Literal["subsegmental", "proximal"] | None = None
    cyst: Literal["thin", "thick", "multilocular"] | None = None
    cyst_change: (
        Literal["cystic_part_growing", "wall_growing", "became_multilocular", "growing", "more_loculated"] | None
    ) = None
    change: Change | None = None
    solid_part_change: Change | None = None
    earlier_category: str | None = None
    proven_benign: bool | None = None
    suspicious: bool | None = None
    suspicious_look: bool | None = None
    explained: bool | None = None
    attenuation_hu: float | None = None
    macroscopic_fat: bool | None = None
    segment: Literal["root", "ascending", "arch", "descending"] | None = None
    extent_percent: float | None = None
    fibrosis_signs: bool | None = None
    subpleural: bool | None = None
    signs: tuple[Sign, ...] = ()


@dataclass(frozen=True)
class Prior:
    """An earlier scan of the same patient.

    Attributes:
        findings: what it showed.
        days: how many days before this one it was made; None when not known.
        details: facts about its findings; `Details.finding` counts in `findings`.
    """

    findings: tuple[Finding, ...] = ()
    days: int | None = None
    details: tuple[Details, ...] = ()


@dataclass(frozen=True)
class Context:
    """Who was scanned and why; None means not known.

    Attributes:
        age: years.
        sex: for words only; no rule that ships uses it.
        smoker: smokes now or did.
        pack_years: packs a day times years.
        family_history: lung cancer in a parent, brother, sister or child.
        exposure: to asbestos, radon or uranium.
        emphysema: known or seen; also read from the findings.
        fibrosis: known or seen; also read from the findings.
        risk: of lung cancer, where a clinician has already said; else worked out from the facts above.
        cancer: a known cancer that may have spread to the lungs.
        immunosuppressed: by disease or treatment.
        screening: a lung-cancer screening examination (True) or a diagnostic one (False).
        infection: signs of a lung infection or inflammation now.
        prior_pending: an earlier scan exists and is being looked for.
        incomplete: part of the lungs cannot be judged.
        model_probability: of malignancy, by a model the site uses (0..1).
        prior: an earlier scan.
        details: facts about single findings.
        extra: facts that only a site's own rule sets ask for, by name.
    """

    age: int | None = None
    sex: Literal["female", "male"] | None = None
    smoker: bool | None = None
    pack_years: float | None = None
    family_history: bool | None = None
    exposure: bool | None = None
    emphysema: bool | None = None
    fibrosis: bool | None = None
    risk: Literal["low", "high"] | None = None
    cancer: bool | None = None
    immunosuppressed: bool | None = None
    screening: bool | None = None
    infection: bool | None = None
    prior_pending: bool | None = None
    incomplete: bool | None = None
    model_probability: float | None = None
    prior: Prior | None = None
    details: tuple[Details, ...] = ()
    extra: Mapping[str, bool | float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.age is not None and not 0 <= self.age <= 130:
            raise UsageError("age in the context", expected="0 to 130 years", got=str(self.age))
        if self.model_probability is not None and not 0 <= self.model_probability <= 1:
            raise UsageError("model_probability in the context", expected="0 to 1", got=str(self.model_probability))
        told = [d.finding for d in self.details]
        if twice := [index for index in told if told.count(index) > 1]:
            raise UsageError(f"details of finding {twice[0]}", expected="one entry for each finding", got="two")

    def check(self, findings: Sequence[Finding]) -> None:
        """Refuse details of findings that do not exist: they would be lost.

        Raises:
            UsageError: an index beyond the findings.
        """
        earlier = self.prior or Prior()
        lists = {"finding": (self.details, findings), "earlier finding": (earlier.details, earlier.findings)}
        for what, (details, known) in lists.items():
            if lost := [d.finding for d in details if not 0 <= d.finding < len(known)]:
                expected = f"an index below {len(known)}, the number of findings"
                raise UsageError(f"details of {what} {lost[0]}", expected=expected, got=str(lost[0]))

    def details_of(self, index: int) -> Details:
        """The facts about one finding; all unknown when nobody gave any."""
        return next((d for d in self.details if d.finding == index), Details(index))


def from_plain(data: Mapping[str, Any]) -> Context:
    """A context from JSON or YAML data; findings of the earlier scan as in ``report.json``.

    Raises:
        ConfigError: an unknown key or a value that does not fit.
        UnreadableInput: the earlier findings are not findings.
    """
    from ctscribe.report.codec import from_plain as finding_from_plain

    table = dict(data)
    prior = table.pop("prior", None)
    earlier: tuple[Finding, ...] = ()
    if isinstance(prior, Mapping):
        prior = dict(prior)
        earlier = finding_from_plain(tuple[Finding, ...], list(prior.pop("findings", [])), "context.prior.findings")
        table["prior"] = prior
    context = config.from_dict(Context, table)
    if context.prior is None:
        return context
    return replace(context, prior=replace(context.prior, findings=earlier))


def read(words: str, base: Context | None = None) -> Context:
    """A context from the command line: ``age=61,smoker=true``, or the name of a JSON or YAML file.

    Args:
        words: ``key=value`` pairs with commas between them, or a file name.
        base: what is known already; `words` overrule it.

    Raises:
        UsageError: not pairs, an unknown key or a value that does not fit.
    """
    words = words.strip()
    if "=" not in words:
        return from_plain(_read_file(Path(words)))
    pairs = [pair.strip() for pair in words.split(",") if pair.strip()]
    if wrong := [pair for pair in pairs if "=" not in pair]:
        known = ", ".join(f.name for f in fields(Context) if f.name not in ("prior", "details", "extra"))
        raise UsageError(f"--context: {wrong[0]!r}", expected=f"key=value, with a key out of {known}")
    try:
        return config.apply_overrides(base or Context(), pairs)
    except UsageError as error:
        error.what = f"--context: {error.what}"
        raise


def _read_file(path: Path) -> Mapping[str, Any]:
    import yaml

    hint = "key=value pairs such as age=61,smoker=true, or the name of a JSON or YAML file"
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"--context {path}", expected="a readable JSON or YAML file", got=str(error), hint=hint
        ) from error
    if not isinstance(data, Mapping):
        raise UsageError(f"--context {path}", expected="a table of keys", got=type(data).__name__, hint=hint)
    return data
