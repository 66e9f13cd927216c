"""`Reporter`: from a path on disk to a report, in named steps.

```
load_study ─ segment ─ check_chest ─ place ─ describe ─ read back ─ evidence ─ impression ─ Report
```
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ctscribe.errors import UsageError
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import Finding, Provenance, QualityNote, Report

if TYPE_CHECKING:
    from ctscribe.beside import StudyBeside
    from ctscribe.checkpoint import LoadedModel
    from ctscribe.data import Study
    from ctscribe.data.anatomy import Segmentation
    from ctscribe.data.interval import Interval
    from ctscribe.impression import Context
    from ctscribe.impression.station import Station
    from ctscribe.model import Description, Detection
    from ctscribe.pipeline.evidence import Placed
    from ctscribe.pipeline.masks import Outlined
    from ctscribe.pipeline.nodes import LesionNode
    from ctscribe.pipeline.reading_back import ReadSentence

LanguageChoice = Literal["en", "zh", "both"]
Certainty = Literal["text", "words"]
STEPS = ("load", "segment", "check", "place", "describe", "ground", "write")
"""Names under which progress and timings are told, in order."""


@dataclass(frozen=True)
class ReportResult:
    """A report and everything needed to show where it comes from.

    Attributes:
        report: the report, in one language or two.
        study: the scan as read; its volume is the one evidence boxes refer to.
        segmentation: regions on the grid of ``study.volume``.
        placed: what the model saw.
        detections: what the model detected, heat maps included, most probable first.
        seconds: wall time of each step.
        nodes: single lesions below their regions: outlined ones, and those that the model's slots hold.
        since: days since the earlier scan, and who says so; None without one.
    """

    report: Report
    study: Study
    segmentation: Segmentation
    placed: Placed
    detections: tuple[Detection, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    nodes: tuple[LesionNode, ...] = ()
    since: Interval | None = None


class Reporter:
    """Writes reports with one model, loaded once.

    Args:
        checkpoint: model folder; None uses the bundled demonstration weights.
        device: a torch device.
        identifiers: True writes SOP Instance UIDs into the evidence; they identify the patient's images.
        pretrained: where the pretrained decoder lies that the model folder names, see `checkpoint.load`.
        station: who writes the impression, and from what; None takes the rules with what ships.
        segmenter: who outlines the regions, see `pipeline.masks`. A label map belongs to one scan: an earlier scan is
            then outlined by the rules.
        regions_scheme: what the values of a label map mean.
        lesions_scheme: what the values of a map of outlined lesions mean (`report(lesions=...)`).

    ```python
    result = Reporter().report("study/", language="both")
    print(result.report.to_text("en"))
    ```
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        *,
        identifiers: bool = False,
        pretrained: str | Path | None = None,
        segmenter: str = "classical",
        station: Station | None = None,
        regions_scheme: str = "",
        lesions_scheme: str = "",
    ) -> None:
        from ctscribe.pipeline.masks import Outliner

        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.device = device
        self.identifiers = identifiers
        self.pretrained = pretrained
        self.station = station
        self.lesions_scheme = lesions_scheme
        self.outliner = Outliner(segmenter, regions_scheme, lambda: self.model)
        self._model: LoadedModel | None = None

    @property
    def model(self) -> LoadedModel:
        """The loaded checkpoint (loaded on first use).

        Raises:
            CheckpointError: the folder is missing, truncated or does not fit this version.
        """
        if self._model is None:
            from ctscribe import checkpoint

            self._model = checkpoint.load(self.checkpoint, device=self.device, pretrained=self.pretrained)
        return self._model

    def report(
        self,
        path: str | Path,
        *,
        language: LanguageChoice | str = "en",
        series: str | None = None,
        created: str = "",
        context: Context | None = None,
        prior: str | Path | None = None,
        prior_days: float | None = None,
        history: str = "",
        labs: Mapping[str, float] | None = None,
        certainty: Certainty | str = "text",
        lesions: str | Path | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> ReportResult:
        """Read a scan and write its report.

        Args:
            path: DICOM folder (nested or not), zip, or NIfTI file.
            language: ``"en"``, ``"zh"`` or ``"both"``.
            series: Series Instance UID (or its hash) to read; None chooses one and says why.
            created: time of writing to put into the report (ISO 8601); "" leaves it out.
            context: what is known beside the scan (age, smoking, an earlier report), for the impression.
            prior: an earlier scan of the same patient, for models trained with one; `prior_days` lie between them, by
                the dates in the headers of both where nobody says.
            history: the clinical history, for models trained with it.
            labs: laboratory values by name, in the units of ``ontology/labs.yaml``, for models trained with them.
            certainty: ``"text"`` leaves sentences as the writer put them, with ``"words"`` they say likely or possible
                by calibrated probability, see `pipeline.certainty`.
            lesions: NIfTI label map of outlined lesions, for models with nodes for them.
            on_step: called with the name of each step as it begins, see `STEPS`.

        Raises:
            InputRefused: the scan is not something a report may be written from.
            CheckpointError: no usable model.
            UsageError: unknown language or series, something beside the scan that the model does not read, or words for
                the certainty of a model that is not calibrated.
            EndpointError: an endpoint was chosen for the impression, and its key or address is wrong.
        """
        from ctscribe.impression.station import Station
        from ctscribe.pipeline import framing, texts
        from ctscribe.pipeline.certainty import check_calibrated, worded
        from ctscribe.pipeline.comparing import larger_by, with_earlier
        from ctscribe.pipeline.earlier import notes
        from ctscribe.pipeline.nodes import lesion_nodes
        from ctscribe.pipeline.reading_back import unique_findings

        languages = _languages(language)
        if certainty not in get_args(Certainty):
            raise UsageError(f"certainty {certainty!r}", expected=" or ".join(get_args(Certainty)))
        self.outliner.check()
        clock = _Clock(on_step)
        with clock("load"):
            study, model = self._load(Path(path), series)
            if certainty == "words":
                check_calibrated(model.thresholds)
            if lesions is not None:
                model.model.check_lesions()
            beside, since = self._beside(model, study, Path(path), prior, prior_days, history, labs)
        with clock("segment"):
            outlined = self.outliner(study)
            segmentation = outlined.segmentation
        with clock("check"):
            chest_notes = self._check(study, outlined.chest)
        with clock("place"):
            placed = self._place(study, outlined, model)
            if lesions is not None:
                placed = self._with_lesions(placed, Path(lesions))
        with clock("describe"):
            description = self._describe(model, placed, languages, beside)
        with clock("ground"):
            nodes = lesion_nodes(placed, description.slots)
            read = self._ground(description, segmentation, placed, languages, nodes)
        with clock("write"):
            said = read
            if certainty == "words":
                said = {code: worded(sentences, code) for code, sentences in read.items()}
            findings = _findings(said)
            now = {code: unique_findings(sentences) for code, sentences in said.items()}
            prior_days = None if since is None else since.days
            compared, earlier = (description.changes, description.earlier) if prior is not None else (None, ())
            known = {code: with_earlier(context, compared, earlier, now[code], prior_days) for code in languages}
            by_mm = {code: larger_by(compared or {}, earlier, now[code]) for code in languages}
            written = texts.impressions(self.station or Station(), said, known)
            sections = {
                code: texts.report_text(
                    said[code],
                    written[code],
                    findings,
                    study,
                    framing.comparison(code, compared, prior_days, by_mm[code]),
                )
                for code in languages
            }
            quality = _quality(study, outlined, placed, chest_notes, read, description.detections)
            quality += framing.impression_notes(written)
            quality += [] if since is None else notes(since)
            quality += _confidence(model, findings, description.detections)
            quality += [framing.violation_note(v.amount, v.says) for v in description.violations]
            report = Report(
                findings=findings,
                texts=sections,
                quality=tuple(_worst_first(quality)),
                provenance=_provenance(
                    model, study, created, [made.method for made in written.values()], segmentation.source
                ),
                watermark=dict(model.info.watermark),
            )
        return ReportResult(report, study, segmentation, placed, description.detections, clock.seconds, nodes, since)

    def _load(self, path: Path, series: str | None) -> tuple[Study, LoadedModel]:
        from ctscribe.data import load_study

        return load_study(path, series=series), self.model

    def _check(self, study: Study, segmentation: Segmentation) -> tuple:
        from ctscribe.data.bodypart import check_chest

        return tuple(check_chest(study.volume, segmentation) or ())

    def _place(self, study: Study, outlined: Outlined, model: LoadedModel) -> Placed:
        from ctscribe.pipeline.masks import place_outlined

        return place_outlined(
            study,
            outlined,
            shape=model.grid.shape,
            spacing=model.grid.spacing,
            regions=model.regions,
            cells=model.cells,
        )

    def _with_lesions(self, placed: Placed, path: Path) -> Placed:
        """Outlined lesions join what the model sees."""
        from ctscribe.pipeline.lesions import outlines_of_map

        outlines = outlines_of_map(path, placed.original, self.lesions_scheme, placed.volume)
        return replace(placed, lesions=outlines)

    def _beside(
        self,
        model: LoadedModel,
        study: Study,
        path: Path,
        prior: str | Path | None,
        days: float | None,
        history: str,
        labs: Mapping[str, float] | None,
    ) -> tuple[StudyBeside | None, Interval | None]:
        """What is known beside the scan, refused before anything is computed where the model does not read it."""
        if prior is None and not history.strip() and not labs:
            if days is not None:
                raise UsageError("the days between two scans", expected="an earlier scan to go with them")
            return None, None
        from ctscribe.beside import StudyBeside, history_ids, lab_values, read_labs
        from ctscribe.pipeline.earlier import days_since, with_prior
        from ctscribe.pipeline.masks import Outliner

        known = StudyBeside(history=history_ids([history]), labs=lab_values([read_labs(labs or {})]))
        names = (*known.given, *(("prior",) if prior is not None else ()))
        model.model.check_inputs(names)
        if prior is None:
            return known, None
        before, _ = self._load(Path(prior), None)
        since = days_since(study, before, days, path, Path(prior))
        outliner = self.outliner if self.outliner.word.partition(":")[0] != "labelmap" else Outliner()
        outlined = outliner(before)
        self._check(before, outlined.chest)
        return with_prior(known, self._place(before, outlined, model), since.days), since

    def _describe(
        self,
        model: LoadedModel,
        placed: Placed,
        languages: Sequence[Language],
        beside: StudyBeside | None,
    ) -> Description:
        more: dict[str, Any] = {"beside": beside, "lesions": placed.lesions}
        more = {name: value for name, value in more.items() if value is not None}
        return model.describe(placed.volume, placed.occupancy, placed.present, languages, **more)

    def _ground(
        self,
        description: Description,
        segmentation: Segmentation,
        placed: Placed,
        languages: Sequence[Language],
        nodes: Sequence[LesionNode],
    ) -> dict[Language, list[ReadSentence]]:
        from ctscribe.pipeline.evidence import Extents, evidence_of
        from ctscribe.pipeline.reading_back import read_back

        extents = Extents(segmentation, placed)
        known: dict[str, tuple] = {}

        def locate(detection: Detection) -> tuple:
            if detection.kind not in known:
                single = tuple(node.evidence for node in nodes if node.speaks_for(detection.kind))
                known[detection.kind] = single + evidence_of(detection, placed, identifiers=self.identifiers)
            return known[detection.kind]

        return {
            code: read_back(description.texts[code], code, description.detections, locate, extents.of_finding)
            for code in languages
        }


class _Clock:
    """Tells the name of each step as it begins and how long it took."""

    def __init__(self, on_step: Callable[[str], None] | None) -> None:
        self.seconds: dict[str, float] = {}
        self._tell = on_step or (lambda name: None)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._tell(name)
        begun = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 3)


def _languages(choice: str) -> tuple[Language, ...]:
    if choice == "both":
        return LANGUAGES
    for code in LANGUAGES:
        if choice == code:
            return (code,)
    raise UsageError(f"language {choice!r}", expected=f"{', '.join(LANGUAGES)} or both")


def _findings(read: dict[Language, list[ReadSentence]]) -> tuple[Finding, ...]:
    """Every statement of any language once; languages that agree share their findings."""
    from ctscribe.pipeline.reading_back import unique_findings

    return unique_findings([sentence for sentences in read.values() for sentence in sentences])


def _quality(
    study: Study,
    outlined: Outlined,
    placed: Placed,
    chest_notes: tuple,
    read: dict[Language, list[ReadSentence]],
    detections: Sequence[Detection],
) -> list[QualityNote]:
    """Everything a reader must know."""
    from ctscribe.pipeline import framing, placing
    from ctscribe.pipeline.reading_back import kinds_that_differ

    notes = framing.scan_notes(study.ingest, outlined.segmentation, chest_notes)
    outside = placing.outside_share(outlined.chest, study.volume, placed.volume)
    if outside > placing.OUTSIDE_TOLERANCE:
        notes.append(framing.note("outside_field_of_view", value=round(100 * outside)))
    notes += _disagreements(read, detections)
    if never := tuple(d.kind for d in detections if d.threshold >= 1):
        notes.append(framing.note("never_stated", kinds=never))
    if differing := kinds_that_differ(read):
        notes.append(framing.note("languages_differ", kinds=differing))
    unread = sum(not s.findings for sentences in read.values() for s in sentences)
    if unread:
        notes.append(framing.note("unread_sentence", value=unread))
    if any(
        e.source == "detector" for sentences in read.values() for s in sentences for f in s.findings for e in f.evidence
    ):
        cell = (length / count for length, count in zip(placed.volume.extent_mm, detections[0].heat.shape, strict=True))
        notes.append(framing.note("evidence_resolution", value=" x ".join(f"{mm:.0f}" for mm in cell)))
    return notes


def _worst_first(notes: Sequence[QualityNote]) -> list[QualityNote]:
    rank = {"critical": 0, "warning": 1, "info": 2}
    return sorted(notes, key=lambda item: rank[item.severity])


def _confidence(model: LoadedModel, findings: Sequence[Finding], detections: Sequence[Detection]) -> list[QualityNote]:
    """How sure a calibrated model is of what is stated, and on what it does not commit itself."""
    from ctscribe.pipeline import framing
    from ctscribe.pipeline.certainty import level

    notes = []
    if kinds := tuple(d.kind for d in detections if d.abstained):
        notes.append(framing.note("abstained", kinds=kinds))
    stated = {
        f.kind: f.confidence or level(f.certainty) for f in findings if f.status != "absent" and f.certainty is not None
    }
    if model.thresholds.calibration_error and stated:
        notes.append(framing.confidence_note(stated))
    return notes


def _disagreements(read: dict[Language, list[ReadSentence]], detections: Sequence[Detection]) -> list[QualityNote]:
    """Where text and detector differ: one note for all texts where they agree with each other, else one for each."""
    from ctscribe.pipeline import framing
    from ctscribe.pipeline.reading_back import DISAGREEMENTS, disagreements

    found = {language: disagreements(sentences, detections) for language, sentences in read.items()}
    notes = []
    for code in DISAGREEMENTS:
        kinds: dict[str, tuple[str, ...]] = {
            language: tuple(kind for c, kind in pairs if c == code) for language, pairs in found.items()
        }
        if len(set(kinds.values())) == 1:
            kinds = {"any": next(iter(kinds.values()))}
        notes += [framing.note(code, kinds=listed, text=text) for text, listed in kinds.items() if listed]
    return notes


def _provenance(model: LoadedModel, study: Study, created: str, impression_by: Sequence[str], masks: str) -> Provenance:
    from ctscribe import __version__

    return Provenance(
        model=model.info.name,
        checkpoint_hash=model.info.checkpoint_hash,
        software=f"ctscribe {__version__}",
        series=tuple(s for s in (study.ingest.series_id,) if s),
        created=created,
        impression_by=", ".join(dict.fromkeys(impression_by)),
        masks=masks,
    )
