"""Which stack of slices to read: sort out what is no scan, split mixed series, score the rest and say why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ctscribe.data.headers import Frame
from ctscribe.data.kernels import kernel_class
from ctscribe.data.limits import check_size
from ctscribe.data.stack import Stack, measure, place
from ctscribe.data.study import IngestLog, IngestPolicy, SeriesSummary, hashed
from ctscribe.errors import GeometryRefused, InputRefused, WrongModality

#: Fingerprint of a frame's Hounsfield units, None when it cannot be decoded.
Fingerprint = Callable[[Frame], bytes | None]

MIN_PART = 3  # slices beyond the ends of the chosen stack that are worth a warning

LOCALIZER_WORDS = ("LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM")
PROJECTION_WORDS = (
    "MIP",
    "MINIP",
    "MIN_IP",
    "MAX_IP",
    "PROJECTION IMAGE",
    "VOLUME RENDERING",
    "VRT",
    "VOLUME_RENDERED",
    "SSD",
    "3D",
)
CAPTURE_WORDS = ("DOSE", "DOSE_INFO", "SCREEN SAVE", "SCREENSAVE", "CSAPARALLEL", "PROTOCOL", "REPORT")
REFORMAT_WORDS = ("MPR", "REFORMATTED", "CPR", "CURVED")
NOT_HU_TYPES = ("MGML", "Z_EFF", "ED", "EDW", "PCT", "MG", "IOD", "VIRTUAL_NON_CALCIUM", "OD", "MATERIAL")

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


# ------------------------------------------------------------------------------------------- what is no slice


def why_unusable(frame: Frame) -> str | None:
    """Reason for which a frame cannot be part of a scan, None when it can."""
    words = set(frame.image_type)
    if frame.modality and frame.modality != "CT":
        return f"modality {frame.modality}"
    if not frame.modality and "1.2.840.10008.5.1.4.1.1.2" not in frame.sop_class:
        return "modality not stated"
    if frame.samples != 1:
        return "colour image"
    if any(any(word in value for word in LOCALIZER_WORDS) for value in words):
        return "localizer"
    if words & set(PROJECTION_WORDS):
        return "projection (MIP, MinIP, rendering)"
    if words & set(CAPTURE_WORDS):
        return "dose sheet or screen capture"
    if frame.rescale_type in NOT_HU_TYPES or any(
        v.startswith(("MATERIAL_", "EFFECTIVE_Z", "ELECTRON_")) for v in words
    ):
        return "values are not Hounsfield units"
    if frame.burned_in:
        return "text burned into the image"
    if frame.slope is not None and frame.slope < 0:
        return "negative rescale slope"
    if frame.position is None:
        return "no Image Position (Patient)"
    if frame.orientation is None or not _orthonormal(frame.orientation):
        return "no valid Image Orientation (Patient)"
    if frame.spacing is None:
        return "no Pixel Spacing"
    return None


def _orthonormal(orientation: tuple[float, ...]) -> bool:
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    return bool(np.all(np.abs(lengths - 1) < 0.05) and abs(row @ column) < 0.05)


_GEOMETRY_HINT = "export the series again with its geometry tags"
#: Reason for which frames were left out -> the error when nothing else is there (kind, code, what to do).
SPECIFIC: dict[str, tuple[type[InputRefused], str, str]] = {
    "no Image Position (Patient)": (GeometryRefused, "no_position", _GEOMETRY_HINT),
    "no valid Image Orientation (Patient)": (GeometryRefused, "no_orientation", _GEOMETRY_HINT),
    "no Pixel Spacing": (GeometryRefused, "no_pixel_spacing", _GEOMETRY_HINT),
    "multi-frame without a plane for each frame": (
        GeometryRefused,
        "no_position",
        "export as Enhanced CT or as single slices",
    ),
    "values are not Hounsfield units": (WrongModality, "not_hounsfield", "give the conventional reconstruction, in HU"),
    "localizer": (GeometryRefused, "only_localizers", "give the axial series of the study"),
    "projection (MIP, MinIP, rendering)": (
        GeometryRefused,
        "only_derived",
        "give the axial series it was made from",
    ),
    "text burned into the image": (InputRefused, "burned_in_text", "it may name the patient; give the original images"),
    "negative rescale slope": (WrongModality, "negative_slope", "no scanner writes it; export the series again"),
    "CT object without an image": (WrongModality, "no_images", "give the image series"),
}


def refuse_nothing_left(reasons: Counter[str]) -> InputRefused:
    """One clear error when no frame is usable, from the reasons for which all were left out."""
    got = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(4))
    images = {r: n for r, n in reasons.items() if not r.startswith(("not an image", "DICOMDIR", "file of the"))}
    main = max(images, key=lambda r: images[r]) if images else ""
    modalities = sorted(r.removeprefix("modality ") for r in reasons if r.startswith("modality "))
    if main in SPECIFIC:
        kind, code, hint = SPECIFIC[main]
        return kind("no slice of a CT scan can be used", code=code, expected="an axial CT series", got=got, hint=hint)
    what = "these are not CT images" if modalities or images else "there are no images here"
    return WrongModality(
        what,
        code="wrong_modality" if images else "no_images",
        expected="modality CT, in Hounsfield units",
        got=got,
        hint="ctscribe reads chest CT only",
    )


# ------------------------------------------------------------------------------------------- stacks


def candidates(frames: list[Frame], fingerprint: Fingerprint, policy: IngestPolicy, log: IngestLog) -> list[Candidate]:
    """All stacks in the frames, best first. Duplicates are dropped or become stacks of their own on the way."""
    by_series: dict[str, list[Frame]] = {}
    for frame in frames:
        by_series.setdefault(frame.series_uid, []).append(frame)
    found: list[Candidate] = []
    for uid in sorted(by_series):
        parts = _split_by_header(by_series[uid])
        stacks = [stack for part in parts for stack in _separate(part, fingerprint, log)]
        if len(stacks) > 1:
            log.note("series_split", "info", f"one series held {len(stacks)} stacks of slices; they were taken apart")
        found += [_candidate(stack, fingerprint, policy) for stack in stacks]
    found.sort(key=lambda c: (-c.summary.score, c.summary.series_number or 0, c.series_uid, c.frames[0].instance or 0))
    return found


def _split_by_header(frames: list[Frame]) -> list[list[Frame]]:
    """Frames that can share a grid: same size, spacing, orientation, frame of reference and reconstruction.

    A frame whose kernel or frame of reference is not stated goes to the largest part it may belong to, unless that
    part has a slice at its place already.
    """
    parts: list[list[Frame]] = []
    ordered = sorted(frames, key=lambda f: (f.instance or 0, f.sop_uid, f.index or 0))
    for frame in sorted(ordered, key=lambda f: not (f.kernel and f.frame_of_reference)):
        fits = [part for part in parts if _same_grid(part[0], frame)]
        exact = [part for part in fits if all(getattr(part[0], n) == getattr(frame, n) for n in MAY_BE_UNKNOWN)]
        free = [part for part in fits if not _occupied(part, frame)]
        if chosen := exact or sorted(free, key=len, reverse=True):
            chosen[0].append(frame)
        else:
            parts.append([frame])
    return parts


MAY_BE_UNKNOWN = ("kernel", "frame_of_reference")


def _same_grid(a: Frame, b: Frame) -> bool:
    """Nothing that both state differs."""
    return (
        (a.rows, a.columns) == (b.rows, b.columns)
        and all(getattr(a, n) == getattr(b, n) or not (getattr(a, n) and getattr(b, n)) for n in MAY_BE_UNKNOWN)
        and is_reformat(a) == is_reformat(b)
        and np.allclose(a.pixel, b.pixel, rtol=1e-3)
        and np.allclose(a.cosines, b.cosines, atol=5e-3)
    )


def _occupied(part: list[Frame], frame: Frame) -> bool:
    return bool(np.any(np.all(np.abs(np.stack([f.at for f in part]) - frame.at) < 0.01, axis=1)))


def is_reformat(frame: Frame) -> bool:
    """True for images computed from another series on a plane of the operator's choice."""
    return bool(set(frame.image_type) & set(REFORMAT_WORDS))


SPLIT_KEYS: tuple[tuple[str, Callable[[Frame], object]], ...] = (
    ("acquisition number", lambda f: f.acquisition),
    ("temporal position", lambda f: f.temporal),
    ("slice thickness", lambda f: f.thickness),
    ("image type", lambda f: f.image_type),
    ("tube voltage", lambda f: f.kvp),
    ("contrast", lambda f: f.contrast),
    ("display window", lambda f: f.window),
    ("acquisition time", lambda f: f.time),
)


def _separate(frames: list[Frame], fingerprint: Fingerprint, log: IngestLog) -> list[Stack]:
    """Take apart scans that lie in one another: two reconstructions or phases under one series UID."""
    stack = measure(frames)
    if stack.kind == "single" and not stack.extra:
        return [stack]
    stack = _drop_copies(frames, stack, fingerprint, log)
    if not stack.extra and stack.kind in ("regular", "gaps", "mixed"):
        return [stack]
    rest = list(stack.frames) + [f for group in stack.extra for f in group[1:]]
    for name, key in SPLIT_KEYS:
        groups: dict[object, list[Frame]] = {}
        for frame in rest:
            groups.setdefault(key(frame), []).append(frame)
        parts = [measure(group) for group in groups.values()]
        if 1 < len(parts) <= 8 and any(_complete(part, stack, 0.9) for part in parts):
            log.note(
                "stacks_by_tag", "warning", f"{len(parts)} scans lay in one series; they were told apart by {name}"
            )
            return parts
    parts = [measure(group) for group in _by_repetition(rest)] if stack.extra else []
    if len(parts) > 1 and all(_complete(part, stack, 0.8) for part in parts):
        log.note(
            "stacks_by_number",
            "warning",
            f"{len(parts)} scans lay in one series; only their instance numbers tell them apart",
        )
        return parts
    return [stack]


def _drop_copies(frames: list[Frame], stack: Stack, fingerprint: Fingerprint, log: IngestLog) -> Stack:
    """Forget frames that repeat another one at the same place, pixel for pixel."""
    copies: list[Frame] = []
    for group in stack.extra:
        kept: list[tuple[Frame, bytes]] = []
        for frame in group:
            pixels = fingerprint(frame)
            if any(pixels == other and np.allclose(frame.at, k.at, atol=0.01) for k, other in kept):
                copies.append(frame)
            elif pixels is not None:
                kept.append((frame, pixels))
    if not copies:
        return stack
    log.drop("identical copy of a slice", len(copies))
    log.facts["duplicates"] = log.facts.get("duplicates", 0) + len(copies)
    log.note("duplicates_dropped", "info", f"{len(copies)} slices were there more than once, pixel for pixel")
    gone = {id(f) for f in copies}
    return measure([f for f in frames if id(f) not in gone])


def _complete(part: Stack, whole: Stack, share: float) -> bool:
    """True when a part is regular by itself and spans nearly all that the whole spans (so no half is lost)."""
    span = part.depth[-1] if len(part.depth) else 0.0
    return part.kind == "regular" and not part.extra and bool(span >= share * whole.depth[-1])


def _by_repetition(frames: list[Frame]) -> list[list[Frame]]:
    """Cut the series, in order of instance number, where a position comes back."""
    runs: list[list[Frame]] = [[]]
    seen: set[float] = set()
    for frame in sorted(frames, key=lambda f: (f.instance or 0, f.index or 0)):
        place_ = round(float(np.dot(frame.at, frames[0].normal)), 1)
        if place_ in seen:
            runs.append([])
            seen = set()
        runs[-1].append(frame)
        seen.add(place_)
    return runs


# ------------------------------------------------------------------------------------------- choice


def _candidate(stack: Stack, fingerprint: Fingerprint, policy: IngestPolicy) -> Candidate:
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


def without(candidate: Candidate, broken: set[int], policy: IngestPolicy, fingerprint: Fingerprint) -> Candidate:
    """The same stack without frames that could not be decoded (given by ``id``)."""
    rest = [f for f in candidate.frames if id(f) not in broken]
    again = _candidate(measure(rest), fingerprint, policy)
    return replace(again, summary=replace(again.summary, score=candidate.summary.score))
