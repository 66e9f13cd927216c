"""Earlier scan, history and laboratory values all the way: phantoms, manifest, store, training, report."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tiny as small
from ctscribe import checkpoint
from ctscribe.beside import StudyBeside
from ctscribe.cli import app
from ctscribe.cli.prepare import for_recipe
from ctscribe.data.batch import Collate, Sample
from ctscribe.data.sources import open_source
from ctscribe.data.store import BESIDE, StudyStore
from ctscribe.data.withhold import Withhold
from ctscribe.errors import ConfigError, UsageError
from ctscribe.model import CTReportModel, Description
from ctscribe.ontology import Language
from ctscribe.phantom import GridSpec, write_dicom, write_nifti
from ctscribe.phantom.patients import Visit, manifest_rows, split_of, visits, write_manifest
from ctscribe.pipeline import Reporter
from ctscribe.pipeline.comparing import read_comparison
from ctscribe.report import Finding, render_text
from ctscribe.training import prepared
from ctscribe.training.course import CourseConfig, Sources
from ctscribe.training.fill import fill_from_source
from ctscribe.training.prepare import Preparation
from recipes import beside, tiny

GRID = GridSpec((64, 64, 64), (5.0, 5.5, 5.5))
CONFIG = beside.config()


@cache
def drawn(seed: int) -> tuple[Visit, Visit]:
    return visits(seed, GRID)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic patients with two studies each, one of which is listed once more, for validation."""
    folder, rows = tmp_path_factory.mktemp("phantoms"), []
    for seed in (0, 1):
        known = drawn(seed)
        for visit in known:
            write_nifti(visit.scan, folder / visit.name)
        rows += manifest_rows(f"P{seed}", "train", [f"{visit.name}/ct.nii.gz" for visit in known], known)
    write_manifest(folder, [*rows, {**rows[-1], "study": "V", "patient": "PV", "split": "validation"}])
    return folder


@pytest.fixture(scope="module")
def store(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store")
    filled = fill_from_source(open_source("folder", phantoms), out, for_recipe("beside", Preparation()))
    assert (filled.written, filled.refused.total()) == (5, 0)
    return out


def configured(store: Path, **inputs: Any) -> CourseConfig:
    """The recipe on the store, with other inputs, one or two steps a stage."""
    model = replace(CONFIG.model, inputs=replace(CONFIG.model.inputs, **inputs))
    train = replace(CONFIG.train, stages=beside.stages(0, 2, 1)[1:])
    return replace(CONFIG, model=model, train=train, data=replace(CONFIG.data, prepared=str(store)))


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    small.tokenizer().save(run)  # training one takes seconds
    return beside.run(configured(store), run)


def whole(store: Path) -> dict[str, Sample]:
    """Samples that bring an earlier scan, and both stories of the other patient."""
    found = {}
    for sample in StudyStore(store):
        if sample.prior is not None:
            found["prior"] = sample
        if sample.history:
            found["history"] = found["labs"] = sample
    return found


def model() -> CTReportModel:
    """As if it had learned to listen."""
    torch.manual_seed(0)
    made = CTReportModel(CONFIG.model, small.tokenizer()).eval()
    assert made.scene.beside is not None
    torch.nn.init.normal_(made.scene.beside.listen.out.weight, std=0.5)
    return made


def presence(samples: list[Sample], made: CTReportModel) -> torch.Tensor:
    with torch.no_grad():
        return made(Collate()(samples), wants=frozenset()).findings.presence


# ------------------------------------------------------------------------------------------- phantoms
def test_patients_are_a_function_of_their_seed_and_say_what_only_the_rest_can_tell() -> None:
    before, now = drawn(0)
    assert now.prior == before.name
    assert before.scan.meta["day"] == 0 < now.scan.meta["day"] == now.days
    one, other = drawn(1)
    assert (one.scan.volume.hu == other.scan.volume.hu).all()
    assert one.scan.findings != other.scan.findings
    assert one.history != other.history
    assert one.labs != other.labs
    assert [split_of(n, 3) for n in range(3)] == ["train"] * 3
    assert [split_of(n, 10) for n in range(10)].count("validation") == 2
    assert now.scan.findings[0].kind == "lung_nodule"


def test_the_command_line_writes_patients_and_their_manifest(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["phantom", "--beside", "--seed", "2", "--out", str(tmp_path), "--json"])
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)
    assert [Path(s["folder"]).name for s in said["studies"]] == ["000002-before", "000002"]
    rows = list(open_source("folder", Path(said["manifest"])).studies())
    assert [row.prior for row in rows] == [None, "000002-before"]
    assert rows[1].prior_days
    assert rows[1].prior_days > 0
    assert rows[1].structured


# ------------------------------------------------------------------------------------ store and batch
@pytest.mark.parametrize("part", BESIDE)
def test_what_is_beside_a_study_reaches_the_batch_and_the_model(part: str, store: Path) -> None:
    sample, made = whole(store)[part], model()
    other: dict[str, Any] = {
        "prior": {"prior": sample},
        "history": {"history": "Follow-up."},
        "labs": {"labs": (("crp", 900.0),)},
    }[part]
    batches = [Collate()([s]) for s in (sample, replace(sample, **other))]
    assert all(isinstance(batch.beside, StudyBeside) for batch in batches)
    assert batches[0].beside is not None
    assert part in batches[0].beside.given
    said = [
        presence([s], made)
        for s in (sample, replace(sample, **other), Withhold(1, 1, 1)(sample, np.random.default_rng(0)))
    ]
    assert not torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])


def test_withholding_everything_is_having_nothing_bit_for_bit(store: Path) -> None:
    def batch(config: CourseConfig, studies: StudyStore) -> Any:
        return next(Sources(config, small.tokenizer(), studies)(config.train.stages[0])(0, 1))

    dropped = batch(configured(store, drop=1.0, drop_history=None), StudyStore(store))
    absent = batch(configured(store), StudyStore(store, beside=()))
    assert dropped.beside is None
    assert dropped.ids == absent.ids
    for part in ("volume", "regions", "targets"):
        for f in fields(getattr(dropped, part)):
            one, other = getattr(getattr(dropped, part), f.name), getattr(getattr(absent, part), f.name)
            if isinstance(one, torch.Tensor):
                assert torch.equal(one, other), f.name
    made = model().train()
    said = []
    for one in (dropped, absent):
        torch.manual_seed(0)
        said.append(made(one, wants=frozenset()).findings.presence)
    assert torch.equal(*said)


def test_a_store_says_once_what_is_asked_for_and_what_it_lacks(store: Path) -> None:
    inputs = CONFIG.model.inputs
    studies, validation = prepared.open_prepared(store, CONFIG.model)
    assert (len(studies), len(validation)) == (4, 1)
    assert prepared.account(inputs, studies) == [
        "model.inputs.prior: 1 of 4 studies have an earlier scan, withheld from 30% of them in each epoch",
        "model.inputs.history: 2 of 4 studies have a history, withheld from 50% of them in each epoch",
        "model.inputs.labs: 2 of 4 studies have laboratory values, withheld from 30% of them in each epoch",
    ]
    bare = prepared.account(inputs, StudyStore(store, beside=()))
    assert bare[0] == "model.inputs.prior: 0 of 5 studies have an earlier scan: the model cannot learn to read it"
    assert prepared.account(tiny.config().model.inputs, studies) == []


def test_a_store_on_another_grid_is_refused(store: Path) -> None:
    from recipes import demo

    with pytest.raises(UsageError, match="lie on another grid than the model's"):
        prepared.open_prepared(store, demo.config().model)
    with pytest.raises(ConfigError, match="learns from a prepared store"):
        beside.run(CONFIG, store)


# --------------------------------------------------------------------------------- training and report
def test_a_trained_model_reports_with_everything_beside_the_scan(trained: Path, phantoms: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(trained)
    assert loaded.model.config.inputs.names == BESIDE
    assert not loaded.info.synthetic
    assert "4 studies from folder" in (trained / "README.md").read_text(encoding="utf-8")
    labs = tmp_path / "labs.yaml"
    labs.write_text("crp: 80\n", encoding="utf-8")
    arguments = ["report", str(phantoms / "000000" / "ct.nii.gz"), "--model", str(trained), "--json"]
    arguments += ["--prior", str(phantoms / "000000-before" / "ct.nii.gz"), "--prior-days", "90"]
    run = CliRunner().invoke(app, [*arguments, "--history", "Fever.", "--labs", str(labs)])
    assert run.exit_code == 0, run.output
    compared = json.loads(run.stdout)["report"]["texts"]["en"]["comparison"]
    assert compared[0]["text"] == "Earlier scan, 90 days before."
    assert len(compared) > 1
    labs.write_text("ferritin: 80\n", encoding="utf-8")
    wrong = CliRunner().invoke(app, [*arguments, "--labs", str(labs)])
    assert isinstance(wrong.exception, UsageError)
    assert "ferritin" in str(wrong.exception)


def test_the_days_since_an_earlier_dicom_scan_are_read_from_both(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = Description({"en": "No pleural effusion."}, (), (), {})
    monkeypatch.setattr(checkpoint.LoadedModel, "describe", lambda *_, **__: spoken)
    before, now = (write_dicom(visit.scan, tmp_path / visit.name) for visit in drawn(0))

    def reported(scan: Path, prior: Path, *more: str) -> Any:
        words = ["report", str(scan), "--prior", str(prior), "--model", str(trained), "--json", *more]
        return CliRunner().invoke(app, words)

    run = reported(now, before)
    assert run.exit_code == 0, run.output
    said, days = json.loads(run.stdout), drawn(0)[1].days
    assert said["prior"] == {"days": days, "by": "acquisition", "why": ""}
    assert said["report"]["texts"]["en"]["comparison"][0]["text"] == f"Earlier scan, {days} days before."
    (note,) = [n for n in said["report"]["quality"] if n["code"].startswith("interval")]
    assert "between the dates in the headers" in note["message"]["en"]
    wrong = reported(before, now)
    assert isinstance(wrong.exception, UsageError)
    assert all(name in str(wrong.exception) for name in (str(before), str(now), f"{days} days later"))
    given = json.loads(reported(now, before, "--prior-days", "7").stdout)
    assert given["prior"]["by"] == "given"
    assert {"interval_given", "interval_contradicts"} <= {n["code"] for n in given["report"]["quality"]}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_has_changed_stands_in_comparison_and_impression(
    language: Language, trained: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nodule(mm: float) -> Finding:
        return Finding("lung_nodule", "present", ("left_upper_lobe",), (mm,))

    now = (nodule(21.0), Finding("consolidation", "present", ("right_lower_lobe",)))
    told = {"lung_nodule": ("larger", 0.9), "consolidation": ("new", 0.8)}
    texts = {language: render_text(now, language)}
    spoken = Description(texts, (), now, told, earlier=(nodule(15.0),))
    monkeypatch.setattr(checkpoint.LoadedModel, "describe", lambda *_, **__: spoken)
    scans = [phantoms / name / "ct.nii.gz" for name in ("000000", "000000-before")]
    report = Reporter(trained).report(scans[0], language=language, prior=scans[1], prior_days=400).report
    section = " ".join(sentence.text for sentence in report.texts[language].comparison)
    assert read_comparison(section, language) == {"lung_nodule": ("larger", 6.0), "consolidation": ("new", None)}
    impression = " ".join(sentence.text for sentence in report.texts[language].impression)
    for words in {"en": ("Larger by 6 mm", "New since"), "zh": ("增大6 mm", "新发")}[language]:
        assert words in impression
    assert report.texts[language].comparison[-1].text in report.to_text(language)
