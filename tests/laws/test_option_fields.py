"""No option is read and then ignored: of reading, preparing, de-identifying, augmenting and drawing; of any command."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
import typer
from pydicom.dataset import Dataset
from tests import badinput as bad
from tests import tiny as small

from ctscribe import ontology
from ctscribe.cli import table
from ctscribe.cli.train import overridden, resolve
from ctscribe.data import IngestPolicy, load_study
from ctscribe.data.augment import Augment
from ctscribe.data.batch import Sample
from ctscribe.data.deidentify.headers import Options, clean_dicom
from ctscribe.data.mirror import Mirror
from ctscribe.data.pseudonym import Pseudonyms
from ctscribe.data.reword import Reword
from ctscribe.data.scanners import Scanner
from ctscribe.data.warp import Warp
from ctscribe.errors import InputRefused
from ctscribe.impression.retrieval import library
from ctscribe.impression.station import Station
from ctscribe.model import CTReportModel, GridContract
from ctscribe.phantom import GridSpec, LesionPrior
from ctscribe.report import Finding
from ctscribe.tensors import Affine, Volume
from ctscribe.training import phantoms, prepare
from ctscribe.training.course import CourseConfig
from ctscribe.training.phantoms import PhantomPlan
from ctscribe.training.prepare import Preparation
from ctscribe.training.pretraining.model import with_heads
from ctscribe.training.stages import trainable_names


def straight(folder: Path) -> Path:
    return bad.write_nifti(folder / "scan.nii", bad.truth())


def nowhere(folder: Path) -> Path:
    return bad.write_nifti(folder / "scan.nii", bad.truth(), codes=(0, 0))


def one_missing(folder: Path) -> Path:
    return bad.write_series(folder, bad.truth(), lambda k, ds: None if k == 10 else ds)


def mixed_spacing(folder: Path) -> Path:
    return bad.write_series(folder, bad.truth(), lambda k, ds: ds if k < 18 or k % 2 == 0 else None)


def jittering(folder: Path) -> Path:
    def shift(k: int, ds: Dataset) -> Dataset:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, float(z) + 0.02 * (-1) ** k]
        return ds

    return bad.write_series(folder, bad.truth(), shift)


def tilted(folder: Path) -> Path:
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    lean = Affine.from_spacing(bad.SPACING, bad.ORIGIN, np.array([[1, 0, 0], [0, c, 0], [0, s, 1.0]]))
    return bad.write_series(folder, Volume(bad.truth().hu, lean))


#: field -> (what is wrong with the scan, another value)
POLICY: dict[str, tuple[Callable[[Path], Path], Any]] = {
    "max_filled_slices": (one_missing, 0),
    "max_gap_mm": (one_missing, 4.0),
    "mixed_spacing": (mixed_spacing, "refuse"),
    "max_mixed_step_mm": (mixed_spacing, 4.0),
    "jitter_fraction": (jittering, 0.001),
    "tilt_degrees": (tilted, 20.0),
    "min_slices": (straight, 40),
    "min_coverage_mm": (straight, 100.0),
    "min_spacing_mm": (straight, 3.0),
    "max_spacing_mm": (straight, 4.0),
    "max_memory_gb": (straight, 1e-6),
    "allow_unknown_orientation": (nowhere, True),
}
PREPARATION: dict[str, Any] = {
    "grid": GridContract((32, 64, 64), (10.0, 5.5, 5.5)),
    "region_grid": (16, 8, 8),
    "policy": IngestPolicy(min_slices=3),
    "segmenter": "none",
    "regions_scheme": "lungmask_r231",
    "lesions_scheme": "another",
    "model": Path("two"),
}
DEIDENTIFY: dict[str, Any] = {"characteristics": False, "shift_dates": False}
AUGMENT: dict[str, Any] = {
    "cells": (0, 0, 0),
    "jitter": (0, 0, 0),
    "noise": 0.0,
    "gain": 0.0,
    "offset": 0.0,
    "forget": 1.0,
    "forget_lesions": 1.0,
}
WARP: dict[str, Any] = {"degrees": (0.0, 0.0, 0.0), "zoom": 0.0, "elastic_mm": 0.0, "chance": 0.0}
SCANNER: dict[str, Any] = {
    "chance": 0.0,
    "thickness": 5,
    "blur": 0.0,
    "noise": 0.0,
    "gain": 0.0,
    "gamma": 1.0,
    "window": (-500.0, 100.0),
}
MIRROR: dict[str, Any] = {"chance": 1.0}
REWORD: dict[str, Any] = {"synonyms": 0.0, "order": 0.0}
PRIOR: dict[str, Any] = {
    "prevalence": {"mass": 0.9},
    "normal_rate": 1.0,
    "max_kinds": 1,
    "force": ("mass",),
}
PLAN: dict[str, Any] = {
    "n": 3,
    "first_seed": 4,
    "grid": GridSpec((32, 32, 32), (10.0, 10.0, 10.0)),
    "region_grid": (8, 4, 4),
    "token_grid": (8, 4, 4),
    "lesions": LesionPrior.crowded(2.0),
}
STATION: dict[str, Any] = {
    "writer": SimpleNamespace(name="own", draft=lambda *_: ()),
    "rule_sets": (),
    "library": "# Nodules\n\nA pulmonary nodule goes to the Tuesday board.\n",
}


def test_there_is_a_case_for_every_field() -> None:
    listed = (
        (IngestPolicy, POLICY),
        (Preparation, PREPARATION),
        (Options, DEIDENTIFY),
        (Augment, AUGMENT),
        (Warp, WARP),
        (Scanner, SCANNER),
        (Mirror, MIRROR),
        (Reword, REWORD),
        (LesionPrior, PRIOR),
        (PhantomPlan, PLAN),
        (Station, STATION),
    )
    for cls, cases in listed:
        assert {f.name for f in fields(cls)} == set(cases), cls.__name__


# ------------------------------------------------------------------------------- reading and preparing
@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], Path]], tuple[Path, Any]]:
    """A scan with a defect, and what reading it plainly gives; each is made once."""

    @cache
    def made(build: Callable[[Path], Path]) -> tuple[Path, Any]:
        path = build(tmp_path_factory.mktemp(build.__name__))
        return path, outcome(path, IngestPolicy())

    return made


def outcome(path: Path, policy: IngestPolicy) -> Any:
    try:
        study = load_study(path, policy=policy)
    except InputRefused as error:
        return error.code
    return study.volume.shape, int(study.volume.hu.sum()), sorted(note.code for note in study.ingest.notes)


@pytest.mark.parametrize("name", POLICY)
def test_a_field_of_the_policy_matters(name: str, scans: Any) -> None:
    build, value = POLICY[name]
    path, plain = scans(build)
    assert outcome(path, IngestPolicy(**{name: value})) != plain


@pytest.mark.parametrize("name", PREPARATION)
def test_a_field_of_the_preparation_names_another_cache(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(folder: Path | None) -> Any:
        return SimpleNamespace(info=SimpleNamespace(checkpoint_hash=str(folder)))

    monkeypatch.setattr(prepare, "_load", loaded)
    plain = Preparation(segmenter="own", model=Path("one")) if name == "model" else Preparation()
    assert plain.recipe() != replace(plain, **{name: PREPARATION[name]}).recipe()


@pytest.mark.parametrize("name", DEIDENTIFY)
def test_a_field_of_de_identification_matters(name: str, tmp_path: Path) -> None:
    path = tmp_path / "slice.dcm"
    bad.write(path, bad.slice_dataset(bad.truth(), 0))
    names = Pseudonyms(b"a secret that is long enough for this")
    made = [clean_dicom(path.read_bytes(), names, Options(**words)).content for words in ({}, {name: DEIDENTIFY[name]})]
    kept = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(content)) for content in made]
    what = {"characteristics": "PatientSex", "shift_dates": "StudyDate"}[name]
    assert kept[0].get(what)
    assert not kept[1].get(what)


# --------------------------------------------------------------------------- augmenting and drawing
def sample() -> Sample:
    noise = np.random.default_rng(0)
    count = len(ontology.model_regions())
    return Sample(
        "s",
        noise.integers(-900, 400, (16, 16, 16), np.int16),
        (5.0, 5.0, 5.0),
        noise.integers(0, 255, (count, 8, 8, 8), np.uint8),
        np.ones(count, bool),
        lesions=noise.integers(0, 255, (1, 8, 8, 8), np.uint8),
        lesion_kinds=np.zeros(1, np.int64),
        text="There is a pulmonary nodule in the right upper lobe. No pleural effusion. The heart is enlarged.",
        language="en",
    )


def changed(transform: Callable[..., Sample]) -> list[Any]:
    """What becomes of one sample under several draws."""
    made = [transform(sample(), np.random.default_rng(seed)) for seed in range(6)]
    return [(one.hu.tobytes(), one.present.any(), one.lesions is None, one.text) for one in made]


PLAINLY: tuple[tuple[Any, dict[str, Any]], ...] = (
    (Augment(), AUGMENT),
    (Warp(chance=1.0), WARP),
    (Scanner(chance=1.0), SCANNER),
    (Mirror(), MIRROR),
)


@pytest.mark.parametrize(("plain", "name", "value"), [(p, n, v) for p, cases in PLAINLY for n, v in cases.items()])
def test_a_field_of_augmentation_matters(plain: Any, name: str, value: Any) -> None:
    assert changed(plain) != changed(replace(plain, **{name: value}))


@pytest.mark.parametrize("name", REWORD)
def test_a_field_of_rewording_matters(name: str) -> None:
    often = Reword(synonyms=1.0, order=1.0)
    assert changed(often) != changed(replace(often, **{name: REWORD[name]}))


@pytest.mark.parametrize("name", PRIOR)
def test_a_field_of_what_may_be_drawn_matters(name: str) -> None:
    def kinds(prior: LesionPrior) -> list[tuple[str, ...]]:
        return [prior.sample(np.random.default_rng(seed)) for seed in range(20)]

    assert kinds(LesionPrior()) != kinds(LesionPrior(**{name: PRIOR[name]}))


@pytest.mark.parametrize("name", PLAN)
def test_a_field_of_a_plan_of_phantoms_matters(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Drawn(Exception):
        pass

    def generate(seed: int, grid: GridSpec, *, lesions: LesionPrior | None) -> None:
        raise Drawn(seed, grid, lesions)

    def about(plan: PhantomPlan) -> Any:
        with pytest.raises(Drawn) as caught:
            phantoms.phantom_sample(plan.first_seed, plan)
        return caught.value.args, plan.seeds, plan.layout

    monkeypatch.setattr(phantoms, "generate", generate)
    assert about(PhantomPlan(2)) != about(replace(PhantomPlan(2), **{name: PLAN[name]}))


@pytest.mark.parametrize("name", STATION)
def test_a_field_of_the_impression_station_matters(name: str, tmp_path: Path) -> None:
    solid = Finding("lung_nodule", "present", ("right_upper_lobe",), (7,), (("density", "solid"),))
    value = STATION[name]
    if name == "library":
        (tmp_path / "house.md").write_text(value, encoding="utf-8")
        value = library(tmp_path)
    assert Station().write([solid], "en") != Station(**{name: value}).write([solid], "en")


# --------------------------------------------------------------------------------------------- commands
def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    def below(app: typer.Typer, before: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        for command in app.registered_commands:
            assert command.callback is not None
            yield f"{before}{command.name}", command.callback
        for group in app.registered_groups:
            assert group.typer_instance is not None
            yield from below(group.typer_instance, f"{before}{group.name} ")

    yield from below(table.app, "")


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_option_of_a_command_is_read(name: str, command: Callable[..., Any]) -> None:
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(command))).body
    assert isinstance(function, ast.FunctionDef)
    read = {node.id for part in function.body for node in ast.walk(part) if isinstance(node, ast.Name)}
    assert set(inspect.signature(command).parameters) <= read, name


def trainings() -> Iterator[tuple[str, str]]:
    """(where, command) for every training that the documents, the recipes and the help show."""
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "recipes").glob("*.py")]
    for page in [*pages, *(root / "src").rglob("*.py")]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for match in re.finditer(r"(torchrun [^\n`]*)?ctscribe train ([a-z_]+)(?= )([^\n`#|&;]*)", text):
            yield page.relative_to(root).as_posix(), match[0]


def test_every_training_that_is_shown_can_be_started() -> None:
    """Its keys exist, its patterns fit the network that it builds, and its processes can share its passes."""
    tried = 0
    for where, line in trainings():
        name, *words = shlex.split(line.partition("ctscribe train ")[2])
        if not (Path(__file__).parents[2] / "recipes" / f"{name}.py").is_file():
            continue
        keys = [word for word in words if re.match(r"[a-z_.*0-9]+=[^.]", word)]
        config = overridden(resolve(name)[1], [key for key in keys if "NAME" not in key and "STORE" not in key])
        processes = [int(n) for n in re.findall(r"--nproc-per-node (\d+)", line)]
        for stage in config.train.stages if processes else ():
            assert stage.accumulate % processes[0] == 0, f"{where}: {line}"
        if isinstance(config, CourseConfig) and any(key.startswith("model.encoder") for key in keys):
            with torch.device("meta"):
                model = CTReportModel(config.model, small.tokenizer())
                names = (loss for stage in config.train.stages for loss in stage.losses)
                learner = with_heads(model, config.pretrain, names)
            assert all(trainable_names(learner, stage) for stage in config.train.stages), f"{where}: {line}"
        tried += 1
    assert tried > 15


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prepare", "x", "--out", "y", "--model", "m"], "--model without --segmenter own"),
        (["segment", "x", "--out", "l.nii", "--model", "m"], "--model without --segmenter own"),
        (["evaluate", "x", "--ref", "y", "--permutations", "9"], "--permutations without --compare"),
        (["evaluate", "--ref", "y", "--compare", "a", "b", "--system", "s"], "--system with --compare"),
        (["evaluate", "x", "--ref", "y", "--pool", "p", "--no-baselines"], "--pool with --no-baselines"),
        (["train", "tiny", "data.prepared=x", "data.studies=3"], "data.studies counts for nothing"),
        (["train", "tiny", "pretrain.masked.width=3"], "pretrain.masked.width counts for nothing"),
        (["train", "tiny", "start.layout=published"], "start.layout without start.weights"),
        (["impression", "x", "--writer", "local", "--llm-folder", "f", "--endpoint", "http://x"], "--endpoint without"),
        (["impression", "x", "--writer", "local", "--llm-folder", "f", "--llm", "m"], "--llm with --writer local"),
        (["impression", "x", "--writer", "server", "--llm-folder", "f", "--llm", "m"], "--llm-folder with --writer"),
    ],
)
def test_an_option_that_would_not_be_read_is_refused(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert table.run(words) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
