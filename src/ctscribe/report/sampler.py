"""Random plausible lists of findings, for tests and for teaching a language model how reports are worded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctscribe import ontology
from ctscribe.ontology import FindingKind
from ctscribe.report.words import Finding, Status, report_order

if TYPE_CHECKING:
    from numpy.random import Generator

# Which absences a report usually mentions, by organ section.
PERTINENT_NEGATIVES: dict[str, tuple[str, ...]] = {
    "lungs": ("consolidation", "mass", "lung_nodule", "ground_glass_opacity", "atelectasis", "emphysema"),
    "airways": ("bronchiectasis", "peribronchial_thickening", "airway_stenosis"),
    "pleura": ("pleural_effusion", "pleural_thickening", "pneumothorax"),
    "mediastinum": ("lymphadenopathy", "hiatal_hernia"),
    "heart": ("cardiomegaly", "pericardial_effusion", "coronary_artery_wall_calcification"),
    "vessels": ("arterial_wall_calcification", "aortic_aneurysm", "enlarged_pulmonary_artery"),
    "bones": ("rib_fracture", "vertebral_fracture", "bone_lesion"),
    "neck": ("thyroid_nodule",),
    "abdomen": ("hepatic_cyst", "adrenal_nodule"),
    "devices": ("medical_material",),
}

# Site of each device: a pacemaker does not lie in the mediastinum.
_DEVICE_SITE = {
    "pacemaker": "chest_wall",
    "port_catheter": "chest_wall",
    "stent": "heart",
    "sternal_wires": "chest_wall",
    "tracheal_tube": "thorax",
}


def sample_findings(
    rng: Generator,
    *,
    kinds: tuple[str, ...] | None = None,
    mean_present: float = 4.0,
    uncertain: float = 0.12,
    negatives: float = 0.6,
    fine_regions: float = 0.15,
) -> tuple[Finding, ...]:
    """Draw one study's findings, in report order.

    Args:
        rng: the only source of randomness.
        kinds: kinds to choose from, all of the ontology when None.
        mean_present: expected number of findings that are not absent (Poisson).
        uncertain: share of those that are uncertain.
        negatives: probability that a pertinent negative is mentioned.
        fine_regions: probability that a site is narrowed to a bronchopulmonary segment or nodal station.

    Returns:
        Findings whose regions, sizes (whole mm) and attributes the ontology allows; no kind is both present and absent
        unless the absence names a site of its own.
    """
    pool = [ontology.findings()[k] for k in kinds or tuple(ontology.findings())]
    said: list[Finding] = []
    for _ in range(int(rng.poisson(mean_present))):
        kind = pool[int(rng.integers(len(pool)))]
        status: Status = "uncertain" if rng.random() < uncertain else "present"
        finding = _sample_one(kind, status, rng, fine_regions)
        if all((f.kind, f.regions) != (finding.kind, finding.regions) for f in said):
            said.append(finding)
    mentioned = {f.kind for f in said}
    mentioned |= {implied for k in mentioned for implied in ontology.findings()[k].implies}
    allowed_negatives = {k.id for k in pool}
    for names in PERTINENT_NEGATIVES.values():
        for name in names:
            if name in allowed_negatives and rng.random() < negatives:
                if name not in mentioned:
                    said.append(Finding(name, "absent"))
                elif name == "pleural_effusion" or name == "pneumothorax":
                    said += _other_side(name, said)
    return report_order(said)


def _other_side(name: str, said: list[Finding]) -> list[Finding]:
    """ "No left pleural effusion" when there is one on the right only."""
    taken = {region for f in said if f.kind == name for region in f.regions}
    free = [region for region in ontology.findings()[name].regions if region not in taken]
    return [Finding(name, "absent", (free[0],))] if len(free) == 1 else []


def _sample_one(kind: FindingKind, status: Status, rng: Generator, fine_regions: float) -> Finding:
    attributes = {}
    for name, values in kind.attributes.items():
        if rng.random() < (0.85 if name == "device" else 0.55):
            attributes[name] = values[int(rng.integers(len(values)))]
    regions = _sample_regions(kind, attributes, rng, fine_regions)
    size: tuple[float, ...] = ()
    if kind.size_mm and rng.random() < 0.75:
        low, high = kind.size_mm
        long = round(low * (high / low) ** (rng.random() * 0.9))  # small lesions are commoner than large ones
        short = round(long * (0.55 + 0.4 * rng.random()))
        two_axes = kind.section != "vessels" and short < long and rng.random() < 0.5  # a vessel has one diameter
        size = (long, max(short, 1)) if two_axes else (long,)
    return Finding(kind.id, status, regions, size, tuple(attributes.items()))


def _sample_regions(
    kind: FindingKind, attributes: dict[str, str], rng: Generator, fine_regions: float
) -> tuple[str, ...]:
    if "device" in attributes:
        return (_DEVICE_SITE[attributes["device"]],) if rng.random() < 0.7 else ()
    if kind.only_place:
        return ()
    draw = rng.random()
    if draw < 0.08:
        return ()
    one_only = attributes.get("number") == "single" or (kind.size_mm and "number" not in attributes)
    how_many = 1 if draw < 0.85 or one_only else 2
    chosen = [str(r) for r in rng.choice(kind.regions, size=min(how_many, len(kind.regions)), replace=False)]
    if any(a != b and a in ontology.ancestors(b) for a in chosen for b in chosen):
        chosen = chosen[:1]
    return tuple(_narrowed(region, rng) if rng.random() < fine_regions else region for region in chosen)


def _narrowed(region: str, rng: Generator) -> str:
    finer = [r for r in ontology.parts(region) if ontology.regions()[r].level in ("segment", "station")]
    return finer[int(rng.integers(len(finer)))] if finer else region
