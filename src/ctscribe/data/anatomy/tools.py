"""Segmentation programs of others, called when they are installed.

None of them is required, none is installed here, and none of their weights ship. Each runs as a process of its own and
hands over a label map, so that neither its dependencies nor its licence reach this package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ctscribe.data.anatomy.classical import segment
from ctscribe.data.anatomy.labelmaps import from_label_map, names_of
from ctscribe.data.anatomy.segmentation import Segmentation, Segmenter
from ctscribe.data.nifti import RAS_TO_LPS
from ctscribe.errors import DependencyMissing, InputRefused, UsageError
from ctscribe.tensors import Volume

SECONDS = 3600.0
"""After so long a program is given up."""
NOBODY = "none"
"""Source of a segmentation that names nothing."""


@dataclass(frozen=True)
class Tool:
    """A segmentation program.

    Attributes:
        command: the program that must be on the path.
        licence: of its code, and what is known about its weights.
        install: how to get it; best into an environment of its own.
        arguments: ``(scan, result, variant) -> arguments`` of the command.
        scheme: ``variant -> scheme`` that names the label values.
        variant: used when none is named; empty where one must be named.
    """

    command: str
    licence: str
    install: str
    arguments: Callable[[Path, Path, str], list[str]]
    scheme: Callable[[str], str | Path]
    variant: str


def _nnunet(scan: Path, result: Path, variant: str) -> list[str]:
    """nnU-Net reads and writes folders; a scan's file name ends in its channel."""
    return ["-i", str(scan.parent), "-o", str(result.parent), "-m", variant, "-f", "all", "-device", "cpu"]


TOOLS: Mapping[str, Tool] = MappingProxyType(
    {
        "totalsegmentator": Tool(
            "TotalSegmentator",
            "code and weights of the task 'total': Apache-2.0 (other tasks need a licence number of their makers)",
            "pip install TotalSegmentator, in an environment of its own: it replaces torch",
            lambda scan, result, variant: ["-i", str(scan), "-o", str(result), "--ml", "--task", variant],
            lambda variant: "totalsegmentator_v2" if variant == "total" else f"totalsegmentator_{variant}",
            "total",
        ),
        "lungmask": Tool(
            "lungmask",
            "code: Apache-2.0; weights: fetched by the program from its makers' release",
            "pip install lungmask",
            lambda scan, result, variant: [str(scan), str(result), "--modelname", variant, "--cpu"],
            lambda variant: "lungmask_r231" if variant.startswith("R231") else "lungmask_ltrclobes",
            "R231",
        ),
        "nnunet": Tool(
            "nnUNetv2_predict_from_modelfolder",
            "code: Apache-2.0; weights: those of the model folder you name, under their own terms",
            "pip install nnunetv2, in an environment of its own: it replaces torch",
            _nnunet,
            lambda variant: Path(variant) / "dataset.json",
            "",
        ),
    }
)


WORDS = ("classical", "labelmap", *TOOLS, "own", "none")
"""First words of every segmenter. ``own`` masks come from a model, see `ctscribe.pipeline.masks`."""


def segmenter(word: str, scheme: str = "") -> Segmenter:
    """The segmenter that a word stands for.

    Args:
        word: ``"classical"``, ``"none"``, ``"labelmap:FILE"``, ``"totalsegmentator"``, ``"lungmask"``,
            ``"lungmask:LTRCLobes"``, or ``"nnunet:MODEL_FOLDER"``.
        scheme: what the values of a label map mean, see `from_label_map`; other words take none.

    Raises:
        UsageError: an unknown word, a program that needs a variant, a label map without file or scheme.
        DependencyMissing: the program is not installed; nothing else is used in its place.
    """
    name, _, variant = word.partition(":")
    if name not in WORDS or (variant and name in ("classical", "own", "none")):
        raise UsageError(f"unknown segmenter {word!r}", expected=", ".join(WORDS))
    if name == "labelmap":
        return _label_map(variant, scheme)
    if name == "classical":
        return segment
    if name == "none":
        return nothing
    if name == "own":
        raise UsageError("the segmenter 'own' is a model's own head", expected="a model that has one")
    return _program(name, variant)


def nothing(volume: Volume) -> Segmentation:
    """No region at all: absent masks are a normal case."""
    return Segmentation(np.zeros(volume.shape, np.uint8), {}, NOBODY)


def _label_map(file: str, scheme: str) -> Segmenter:
    if not file:
        raise UsageError("the segmenter 'labelmap' needs a file", expected="labelmap:FILE, a NIfTI label map")
    if not Path(file).is_file():
        raise UsageError(f"labelmap:{file}", expected="a NIfTI label map", got="no such file")
    names_of(scheme)
    return lambda volume: from_label_map(file, volume, scheme)


def _program(name: str, variant: str) -> Segmenter:
    tool = TOOLS[name]
    variant = variant or tool.variant
    if not variant:
        raise UsageError(f"{name} needs a model folder", expected=f"{name}:PATH, a folder with dataset.json")
    if shutil.which(tool.command) is None:
        raise DependencyMissing(
            f"{name} is not installed: no program {tool.command} on the path",
            expected=f"licence: {tool.licence}",
            hint=f"{tool.install}; or use the classical rules, or a label map that it made elsewhere",
        )
    return lambda volume: run_tool(name, volume, variant)


def run_tool(name: str, volume: Volume, variant: str, *, seconds: float = SECONDS) -> Segmentation:
    """Run a program on a volume and read its label map.

    Raises:
        InputRefused: ``segmenter_failed``, with the last line the program wrote.
        UnreadableInput, GeometryRefused: its label map does not fit, see `from_label_map`.
    """
    tool = TOOLS[name]
    with tempfile.TemporaryDirectory(prefix="ctscribe-segment-") as scratch:
        folder = Path(scratch)
        scan, result = folder / "in" / "scan_0000.nii.gz", folder / "out" / "scan.nii.gz"
        for path in (scan, result):
            path.parent.mkdir()
        _write(volume, scan)
        command = [shutil.which(tool.command) or tool.command, *tool.arguments(scan, result, variant)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, check=False, env=_surroundings(folder)
            )
            said, code = done.stderr or done.stdout, str(done.returncode)
        except subprocess.TimeoutExpired:
            said, code = "", f"still running after {seconds:.0f} seconds"
        if code != "0" or not result.is_file():
            last = next((line for line in reversed(said.splitlines()) if line.strip()), "it wrote nothing")
            raise InputRefused(
                f"{name} made no label map",
                code="segmenter_failed",
                expected="exit code 0 and a label map",
                got=f"exit code {code}: {last[:200]}",
                hint="run the program by hand on the same scan to see what it needs (its weights, for one)",
            )
        found = from_label_map(result, volume, tool.scheme(variant))
    return replace(found, source=f"{name} {variant}" if name != "nnunet" else f"nnunet {Path(variant).name}")


def _write(volume: Volume, path: Path) -> None:
    """Hounsfield units as NIfTI; nothing of the patient goes with them."""
    import nibabel as nib

    hu = np.clip(np.rint(volume.hu), -32768, 32767).astype(np.int16)
    nib.save(nib.Nifti1Image(hu.transpose(2, 1, 0), RAS_TO_LPS @ volume.affine.matrix), path)


def _surroundings(folder: Path) -> dict[str, str]:
    """Environment of the program: TotalSegmentator would report its use to its makers unless told not to."""
    home = Path(os.environ.get("TOTALSEG_HOME_DIR", Path.home() / ".totalsegmentator"))
    quiet = folder / "totalsegmentator"
    quiet.mkdir()
    settings = {"totalseg_id": "totalseg_quiet", "send_usage_stats": False, "prediction_counter": 0}
    (quiet / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    weights = os.environ.get("TOTALSEG_WEIGHTS_PATH", str(home / "nnunet" / "results"))
    return {**os.environ, "TOTALSEG_HOME_DIR": str(quiet), "TOTALSEG_WEIGHTS_PATH": weights}
