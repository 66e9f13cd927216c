"""What the tags of the chosen series say that a reader of the report should know."""

from __future__ import annotations

from ctscribe.data.headers import Frame
from ctscribe.data.stack import Placement, Stack
from ctscribe.data.study import IngestLog, IngestPolicy

#: Above this slice thickness small solid nodules (< 6 mm) may be missed or mis-sized; the Fleischner Society asks for
#: contiguous thin sections (<= 1.5 mm) to characterise nodules (MacMahon et al., Radiology 2017,
#: doi 10.1148/radiol.2017161659).
THICK_MM = 3.0


def header_notes(stack: Stack, placement: Placement, policy: IngestPolicy, log: IngestLog) -> None:
    """Add all notes that follow from headers and geometry to the log."""
    _geometry(stack, placement, policy, log)
    _thickness(stack, log)
    _origin(stack.frames[0], stack, log)
    _patient(stack.frames[0], log)


def _geometry(stack: Stack, placement: Placement, policy: IngestPolicy, log: IngestLog) -> None:
    if stack.kind == "gaps":
        log.note(
            "missing_slices_filled",
            "warning",
            f"{stack.missing} missing slice(s) were interpolated from their neighbours; findings there may be lost",
        )
    elif not placement.is_identity:
        steps = ", ".join(f"{n} x {s:.2f} mm" for n, s in stack.runs[:6])
        log.note(
            "uneven_spacing_resampled",
            "warning",
            f"uneven slice steps ({steps}) were resampled to {placement.step:.2f} mm",
        )
    if stack.tilt_degrees > policy.tilt_degrees:
        log.note(
            "gantry_tilt_corrected",
            "warning",
            f"the slices are sheared by {stack.tilt_degrees:.1f} degrees (gantry tilt); the volume was resampled",
        )
    if stack.jitter > 0.01 * stack.step:
        log.note("slice_jitter", "info", f"slices lie up to {stack.jitter:.3f} mm off their regular place")


def _thickness(stack: Stack, log: IngestLog) -> None:
    thicknesses = sorted({f.thickness for f in stack.frames if f.thickness})
    if not thicknesses:
        log.note("no_slice_thickness", "info", "the slice thickness is not stated")
        return
    thickness = thicknesses[-1]
    if len(thicknesses) > 1:
        log.note(
            "slice_thickness_varies", "info", f"stated slice thickness from {thicknesses[0]:g} to {thickness:g} mm"
        )
    if stack.step > 1.2 * thickness + 0.01:
        log.note(
            "not_contiguous",
            "warning",
            f"slices of {thickness:g} mm every {stack.step:.2f} mm: what lies between them was not imaged",
        )
    if thickness > THICK_MM:
        log.note(
            "thick_slices", "warning", f"slice thickness {thickness:g} mm: small nodules may be missed or mis-sized"
        )


def _origin(frame: Frame, stack: Stack, log: IngestLog) -> None:
    if frame.spacing_source != "PixelSpacing":
        log.note(
            "pixel_spacing_derived",
            "warning",
            f"Pixel Spacing is missing; it was taken from {frame.spacing_source}, so sizes may be off",
        )
    if frame.slice_step and abs(abs(frame.slice_step) - stack.step) > 0.1 * stack.step:
        log.note(
            "spacing_tag_contradicts",
            "info",
            f"Spacing Between Slices is {frame.slice_step:g} mm, the positions (believed) say {stack.step:.2f} mm",
        )
    if all(f.slope is None and f.intercept is None for f in stack.frames):
        log.note(
            "rescale_missing",
            "warning",
            "no rescale slope and intercept in the headers; stored values taken as they are",
        )
    if len({(f.slope, f.intercept) for f in stack.frames}) > 1:
        log.note("rescale_varies", "info", "slope or intercept differ between slices; each was applied to its own")
    if any(f.slope == 0 for f in stack.frames):
        log.note("rescale_slope_zero", "warning", "a rescale slope of 0 was taken for 1")
    if frame.rescale_type not in ("", "HU", "US"):
        log.note("rescale_type", "warning", f"the rescale type is {frame.rescale_type}, not HU")
    if frame.lossy:
        log.note("lossy_compression", "warning", "the images were compressed with loss")
    if {"MPR", "REFORMATTED"} & set(frame.image_type):
        log.note("reformatted", "warning", "the series is a reformat, not the original reconstruction")
    if not frame.series_uid:
        log.note("no_series_uid", "info", "the files carry no Series Instance UID")
    declared = frame.declared_images
    if declared and declared > len(stack.frames) + stack.missing and all(f.index is None for f in stack.frames):
        log.note(
            "fewer_images_than_declared",
            "info",
            f"the header announces {declared} images in the acquisition, {len(stack.frames)} are in this series",
        )


def _patient(frame: Frame, log: IngestLog) -> None:
    position = frame.patient_position or ""
    if position.endswith("P"):
        log.note("prone", "info", "the patient lay prone")
    elif position.endswith(("DL", "DR")):
        log.note("decubitus", "info", "the patient lay on the side")
    if position.startswith("FF"):
        log.note("feet_first", "info", "the patient went in feet first")
    if not position:
        log.note("no_patient_position", "info", "the patient position is not stated")
    if frame.kernel is None:
        log.note("no_kernel", "info", "the reconstruction kernel is not stated")
    if frame.photometric == "MONOCHROME1":
        log.note("monochrome1", "info", "display is stated as inverted (MONOCHROME1); stored values keep their meaning")
