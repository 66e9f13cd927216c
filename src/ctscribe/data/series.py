"""Which stack of slices to read: score them all, choose one and say why."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from ctscribe.data.headers import Frame
from ctscribe.data.kernels import kernel_class
from ctscribe.data.limits import check_size
from ctscribe.data.separate import Fingerprint, is_reformat, stacks_of
from ctscribe.data.stack import Stack, measure, place
from ctscribe.data.study import IngestLog, IngestPolicy, SeriesSummary, hashed
from ctscribe.errors import GeometryRefused, InputRefused

MIN_PART = 3  # slices beyond the ends of the chosen stack that are worth a warning

#: Beginnings of words in body-part and description tags (whole words where short); Chinese anywhere.
CHEST_WORDS = ("CHEST", "THORA", "LUNG", "TORAX", "PULMO", "HRCT", "胸", "肺")
OTHER_PARTS = (
    "HEAD", "BRAIN", "SKULL", "NECK", "KNEE", "LEG", "HIP", "FOOT", "ANKLE", "HAND", "WRIST", "ELBOW", "ARM", "PELVIS",
    "ABDOMEN", "LIVER", "KIDNEY", "COLON", "SINUS", "ORBIT", "TEMPORAL", "DENTAL", "JAW", "LSPINE", "CSPINE",
    "EXTREMITY",
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """One stack that could be read."""

    stack: Stack
    summary: SeriesSummary
    refusal: InputRefused | None

    @property
    def frames(self) -> tuple[Frame, ...]:
        return self.stack.frames

    @property
    def series_uid(self) -> str:
        return self.frames[0].series_uid


def candidates(frames: list[Frame], fingerprint: Fingerprint, policy: IngestPolicy, log: IngestLog) -> list[Candidate]:
    """All stacks in the frames, best first."""
    by_series: dict[str, list[Frame]] = {}
    for frame in frames:
        by_series.setdefault(frame.series_uid, []).append(frame)
    found = [
        _candidate(stack, policy) for uid in sorted(by_series) for stack in stacks_of(by_series[uid], fingerprint, log)
    ]
    found.sort(key=lambda c: (-c.summary.score, c.summary.series_number or 0, c.series_uid, c.frames[0].instance or 0))
    return found


def _candidate(stack: Stack, policy: IngestPolicy) -> Candidate:
    refusal = _judge(stack, policy)
    frame = stack.frames[0]
    components = score(stack)
    summary = SeriesSummary(
        series_id=hashed(frame.series_uid) or "none",
        series_number=frame.series_number,
        n_slices=len(stack.frames),
        rows=frame.rows,
        columns=frame.columns,
        step_mm=round(stack.step, 4),
        thickness_mm=frame.thickness,
        coverage_mm=round(stack.coverage, 2),
        plane=plane(frame),
        kernel=frame.kernel,
        kernel_class=kernel_class(frame.kernel, frame.window),
        image_type=frame.image_type,
        score=round(sum(components.values()) - (1000 if refusal else 0), 2),
        components={k: round(v, 2) for k, v in components.items()},
        refusal=refusal.code if refusal else None,
    )
    return Candidate(stack, summary, refusal)


def _judge(stack: Stack, policy: IngestPolicy) -> InputRefused | None:
    try:
        if stack.kind == "single" and stack.extra:
            raise GeometryRefused(
                "all slices claim the same place",
                code="conflicting_duplicates",
                expected="an Image Position (Patient) of its own for every slice",
                got=f"{len(stack.extra[0])} slices at one position",
                hint="export the series again; the positions were lost",
            )
        place(stack, policy)
        check_size(len(stack.frames), policy)
        if stack.extra:
            raise GeometryRefused(
                "different slices claim the same place",
                code="conflicting_duplicates",
                expected="one slice at each position",
                got=f"{len(stack.extra)} positions with slices that differ",
                hint="two scans were mixed into one series; separate them, or name one with --series",
            )
    except InputRefused as refusal:
        return refusal
    return None


def plane(frame: Frame) -> str:
    """Nearest anatomical plane: axial, coronal or sagittal."""
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(frame.normal)))]


def score(stack: Stack) -> dict[str, float]:
    """Points for what makes a series good to report from. Weights are this project's choice: the plane and the
    body part outweigh coverage, coverage outweighs thinness, thinness outweighs the kernel."""
    frame = stack.frames[0]
    derived = is_reformat(frame) or "DERIVED" in frame.image_type[:1]
    axial = plane(frame) == "axial"
    thickness = max(frame.thickness or 0.0, stack.step)
    kernel = {"standard": 10.0, "unknown": 6.0, "lung": 5.0, "bone": 2.0}
    return {
        "axial": 40.0 if axial else 0.0,
        "original": 0.0 if is_reformat(frame) else 10.0 if derived else 20.0,
        "body_part": {"chest": 10.0, "other": -40.0}.get(body_part(frame), 0.0),
        "coverage": 30.0 * min(stack.coverage, 300.0) / 300.0,
        "thinness": 20.0 * float(np.clip((6.0 - thickness) / 5.0, 0.0, 1.0)),
        "kernel": kernel[kernel_class(frame.kernel, frame.window)],
        "regular": 0.0 if stack.kind == "regular" and stack.tilt_degrees < 0.5 else -15.0,
    }


def body_part(frame: Frame) -> str:
    """What the tags say: ``chest``, ``other`` or ``unknown``. Tags are often wrong; they never accept a scan."""
    for text in (frame.body_part, frame.words):
        words = re.findall(r"[A-Z]+", text)
        if any(w.startswith(CHEST_WORDS) for w in words) or any(c in text for c in CHEST_WORDS if not c.isascii()):
            return "chest"
        if any(w in OTHER_PARTS or w.startswith("ABDOM") for w in words):
            return "other"
    return "unknown"


def choose(found: list[Candidate], series: str | None, log: IngestLog) -> Candidate:
    """The best stack, or the one asked for.

    Raises:
        InputRefused: the best stack (or the one asked for) cannot be used; ``series_not_found``, ``several_patients``.
    """
    if series is not None:
        wanted = [c for c in found if series in (c.series_uid, c.summary.series_id)]
        if not wanted:
            listed = ", ".join(f"{c.summary.series_id} ({c.summary.n_slices} slices)" for c in found)
            raise InputRefused(
                "the series asked for is not here",
                code="series_not_found",
                expected="a Series Instance UID, or one of the short names listed",
                got=listed,
                hint="`ctscribe inspect` lists what is here",
            )
        log.note("series_asked_for", "info", "the series was named by the user")
        found = wanted
    best = found[0]
    log.why = "it was asked for" if series is not None and len(found) == 1 else _why(found)
    _one_patient(found, log)
    _note_other_parts(best, found, log)
    if best.refusal is not None:
        raise best.refusal
    return best


def _one_patient(found: list[Candidate], log: IngestLog) -> None:
    patients = {f.patient_id for c in found for f in c.frames} - {""}  # blank: de-identified, not somebody else
    if len(patients) > 1:
        raise InputRefused(
            "images of more than one patient lie here",
            code="several_patients",
            expected="one study of one patient",
            got=f"{len(patients)} patients",
            hint="give one patient's folder, or name the series with --series",
        )
    studies = {c.frames[0].study_uid for c in found}
    if len(studies) > 1:
        log.note("several_studies", "warning", "several studies lie here; one series of one of them was read")


def _note_other_parts(best: Candidate, found: list[Candidate], log: IngestLog) -> None:
    """Say so when the series goes on, in slices of another size, spacing or kernel, where the chosen stack ends."""
    normal = best.frames[0].normal
    depth = [float(f.at @ normal) for f in best.frames]
    for other in found:
        if other is best or other.series_uid != best.series_uid:
            continue
        if abs(float(other.frames[0].normal @ normal)) < 0.99:
            continue
        beyond = [d for f in other.frames if not min(depth) <= (d := float(f.at @ normal)) <= max(depth)]
        if len(beyond) >= MIN_PART:
            log.note(
                "part_left_out",
                "warning",
                f"the series goes on in {len(beyond)} slices of another size, spacing or reconstruction that were not"
                " read; findings there may be lost",
            )


def _why(found: list[Candidate]) -> str:
    """The sentence that explains the choice, from the points that differ."""
    best = found[0].summary
    if len(found) == 1:
        return "the only stack of slices here"
    second = found[1].summary
    if second.refusal is not None:
        return f"the only one of {len(found)} stacks that can be used (the next one: {second.refusal})"
    gains = {k: best.components[k] - second.components[k] for k in best.components}
    ahead = [k for k in sorted(gains, key=lambda k: -gains[k]) if gains[k] > 0]
    words = {
        "axial": f"plane ({best.plane}, not {second.plane})",
        "original": "original images, not derived ones",
        "body_part": "its tags name the chest",
        "coverage": f"coverage ({best.coverage_mm:g} against {second.coverage_mm:g} mm)",
        "thinness": f"thinner slices ({best.step_mm:g} against {second.step_mm:g} mm)",
        "kernel": f"kernel ({_kernel(best)}, not {_kernel(second)})",
        "regular": "regular slices",
    }
    reason = "; ".join(words[k] for k in ahead) or "first by series number, otherwise equal"
    return f"best of {len(found)} stacks: {reason}"


def _kernel(summary: SeriesSummary) -> str:
    return f"{summary.kernel or 'unknown'}: {summary.kernel_class}"


def newest_first(found: list[Candidate]) -> list[Candidate]:
    """Where several studies of a patient lie together, the newest comes first; the order inside a study stays."""
    return sorted(found, key=lambda c: (c.refusal is not None, _negated(c.frames[0].study_date)))


def _negated(date: str) -> int:
    return -int(date) if date.isdigit() else 0


def without(candidate: Candidate, broken: set[int], policy: IngestPolicy) -> Candidate:
    """The same stack without frames that could not be decoded (given by ``id``)."""
    rest = [f for f in candidate.frames if id(f) not in broken]
    again = _candidate(measure(rest), policy)
    return replace(again, summary=replace(again.summary, score=candidate.summary.score))
