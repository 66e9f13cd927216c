"""No field of a training configuration is read and then ignored: stages, loop, phantoms, weights to begin with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import test_training_loop as toy
from tests import test_training_transfer as published
from tests import tiny as small
from torch import nn

from ctscribe import checkpoint, ontology
from ctscribe import config as cfg
from ctscribe.cli.train import resolve
from ctscribe.data.batch import Sample
from ctscribe.data.store import StoreLayout, StudyStore, StudyStoreWriter
from ctscribe.engines.world import World
from ctscribe.errors import ConfigError, UsageError
from ctscribe.model import ModelConfig
from ctscribe.training import course, loop, track
from ctscribe.training.course import CourseConfig, PhantomData, Sources
from ctscribe.training.pretraining.masked import MaskedConfig
from ctscribe.training.pretraining.model import PretrainConfig, with_heads
from ctscribe.training.pretraining.transfer import StartConfig, start_from
from ctscribe.training.stages import Stage, TrainConfig
from recipes import tiny

Seen = dict[str, Any]
#: field -> another value; what a run leaves behind must then differ
STAGE: dict[str, Any] = {
    "name": "other",
    "steps": 3,
    "losses": {"squared": 0.5, "small": 1.0},
    "trainable": ("head.*",),
    "frozen": ("body.bias",),
    "lr": 1e-3,
    "lr_scale": {"head.*": 0.1},
    "batch_size": 3,
    "accumulate": 2,
    "warmup": 0,
    "final_lr": 1.0,
    "weight_decay": 0.0,
    "muon": ("head.weight",),
}
STAGE_ON_DATA: dict[str, Any] = {"data": "studies", "bucket": 4}
TRAIN: dict[str, Any] = {
    "stages": (Stage("one", 5, {"squared": 1.0}, lr=1e-2, batch_size=4),),
    "seed": 6,
    "precision": "bfloat16",
    "clip": 0.01,
    "ema": 0.05,
    "betas": (0.5, 0.95),
    "device": "cpu:0",
    "threads": 2,
    "log_every": 4,
    "checkpoint_every": 3,
    "keep": 1,
    "save_frozen": False,
    "validate_every": 2,
    "deterministic": False,
    "trackers": ("mlflow",),
}
PHANTOMS: dict[str, Any] = {
    "studies": 5,
    "first_seed": 7,
    "validation": 5,
    "store": "elsewhere",
    "processes": 3,
    "crowding": 2.0,
    "prepared": "nowhere",
}
PHANTOM_TEXTS: dict[str, Any] = {"longest_report": 5, "variety": 1.0, "languages": ("zh",)}
START: dict[str, Any] = {"weights": "two.safetensors", "layout": "published", "colours": "half"}
COURSE_ELSEWHERE = {
    "model": "test_model_fields.py",
    "train": "TRAIN and STAGE above",
    "data": "PHANTOMS and PHANTOM_TEXTS above",
    "start": "START above",
}


def test_there_is_a_case_for_every_field() -> None:
    listed = (
        (Stage, {*STAGE, *STAGE_ON_DATA}),
        (TrainConfig, {*TRAIN, "parallel"}),
        (PhantomData, {*PHANTOMS, *PHANTOM_TEXTS}),
        (StartConfig, START),
        (CourseConfig, {"recipe", "name", "pretrain", *COURSE_ELSEWHERE}),
    )
    for cls, cases in listed:
        assert {f.name for f in fields(cls)} == set(cases), cls.__name__
    walked = {cls for cls, _ in listed} | {ModelConfig, PretrainConfig}
    nested = {part for cls, _ in listed for part in parts(cls)}
    assert nested <= walked, "a configuration inside another one is walked as well"


def parts(cls: type) -> set[type]:
    """Dataclasses that stand in the fields of one."""
    hints = get_type_hints(cls).values()
    return {part for hint in hints for part in (hint, *get_args(hint)) if is_dataclass(part)}


# -------------------------------------------------------------------------------------- loop and stages
@dataclass
class Watched:
    """What a run asks of its guests while it goes on."""

    threads: int = 0
    deterministic: bool = False
    device: str = ""
    validations: int = 0


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """No pictures; the boards that were asked for are noted."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(loop, "plot_losses", lambda folder: None)
    monkeypatch.setattr(track, "open_boards", lambda names, *_: asked.append(tuple(names)) or ())
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    return asked


def plan(**changes: Any) -> TrainConfig:
    stage = Stage("one", 5, {"squared": 1.0}, ("head.*", "body.*"), lr=1e-2, batch_size=4, warmup=2)
    plain = TrainConfig((stage,), seed=5, ema=0.9, log_every=3, checkpoint_every=2)
    return replace(plain, **changes)


def left_behind(config: TrainConfig, folder: Path) -> Seen:
    """Weights, averages, lines and checkpoints of a run, and what was seen on the way; not the configuration itself."""
    watched = Watched()

    def squared(outputs: torch.Tensor, batch: toy.Points) -> Any:
        watched.threads = torch.get_num_threads()
        watched.deterministic = torch.are_deterministic_algorithms_enabled()
        return toy.squared(outputs, batch)

    class Sent(toy.Points):
        def to(self, device: torch.device) -> toy.Points:
            watched.device = str(device)
            return super().to(device)

    def data(stage: Stage) -> Any:
        made = toy.source(stage)
        return lambda first, stop: (Sent(batch.x, batch.y) for batch in made(first, stop))

    def validate(model: nn.Module, stage: Stage) -> dict[str, float]:
        watched.validations += 1
        return {"score": 0.0}

    loop.train(toy.Tied(), config, data, {**toy.LOSSES, "squared": squared}, folder, validate=validate)
    files = ("weights.safetensors", "averaged.safetensors")
    tensors = {name: {k: v.tolist() for k, v in load_file(folder / name).items()} for name in files}
    kept = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return {**tensors, "lines": lines.replace('"other"', '"one"'), "kept": kept, **vars(watched)}


@pytest.fixture(scope="module")
def plainly(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plot_losses", lambda folder: None)
        patch.setattr(track, "open_boards", lambda *_: ())
        return left_behind(plan(), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", STAGE)
def test_a_field_of_a_stage_matters(name: str, plainly: Seen, quiet: list, tmp_path: Path) -> None:
    stage = replace(plan().stages[0], **{name: STAGE[name]})
    other = left_behind(plan(stages=(stage,)), tmp_path)
    assert other["weights.safetensors"] != plainly["weights.safetensors"]


#: what must differ; the weights where nothing else is named
LEFT_BEHIND = {
    "ema": "averaged.safetensors",
    "device": "device",
    "threads": "threads",
    "log_every": "lines",
    "checkpoint_every": "kept",
    "keep": "kept",
    "validate_every": "validations",
    "deterministic": "deterministic",
}


@pytest.mark.parametrize("name", TRAIN)
def test_a_field_of_the_loop_matters(name: str, plainly: Seen, quiet: list, tmp_path: Path) -> None:
    other = left_behind(plan(**{name: TRAIN[name]}), tmp_path)
    if name == "trackers":
        assert quiet == [("mlflow",)]
        return
    what = LEFT_BEHIND.get(name, "weights.safetensors")
    assert other[what] != plainly[what]


@pytest.mark.parametrize("word", ["ddp", "fsdp"])
def test_parallel_decides_how_processes_share(
    word: Any, quiet: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pair(World):
        def share(self, value: Any) -> Any:
            return value

    class Called(Exception):
        pass

    def spread(how: str) -> Callable[..., None]:
        def called(*_: Any) -> None:
            raise Called(how)

        return called

    monkeypatch.setattr(loop, "here", lambda: Pair(0, 2))
    monkeypatch.setattr("ctscribe.engines.spread.shard", spread("fsdp"))
    monkeypatch.setattr("ctscribe.engines.spread.replicate", spread("ddp"))
    shared = plan(parallel=word, stages=(replace(plan().stages[0], accumulate=2),))
    with pytest.raises(Called, match=f"^{word}$"):
        loop.train(toy.Tied(), shared, toy.source, toy.LOSSES, tmp_path)


# --------------------------------------------------------------------------------------------- phantoms
def asked_for(data: PhantomData, drawn: StudyStore, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Which phantoms are drawn, where and by how many processes."""
    asked: list[Any] = []

    def fill(plan: Any, store: Path, *, processes: int) -> StudyStore:
        asked.append((plan, store, processes))
        return drawn

    monkeypatch.setattr(course, "fill_store", fill)
    try:
        course.open_data(replace(tiny.config(), data=data), Path("run"))
    except UsageError as error:
        return error.what
    return asked


@pytest.mark.parametrize("name", PHANTOMS)
def test_a_field_of_the_phantoms_matters(name: str, studies: StudyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny.config().data
    other = replace(plain, **{name: PHANTOMS[name]})
    assert asked_for(plain, studies, monkeypatch) != asked_for(other, studies, monkeypatch)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    """Six studies of one nodule or one effusion."""
    root, grid, cells = tmp_path_factory.mktemp("store"), tiny.model().grid, (16, 8, 8)
    count = len(ontology.model_regions())
    hu, masks = np.zeros(grid.shape, np.int16), (np.zeros((count, *cells), np.uint8), np.zeros(count, bool))
    with StudyStoreWriter(root, StoreLayout.current(grid.shape, cells, cells), capacity=6) as writer:
        for index in range(6):
            finding = (small.NODULE, small.EFFUSION)[index % 2]
            writer.append(Sample(f"s{index}", hu, grid.spacing, *masks, (finding,)))
    return StudyStore(root)


def read(stage: Stage, data: PhantomData, studies: StudyStore) -> list[Any]:
    """The first batches of a stage: their texts, and whether there is a scan."""
    config = replace(tiny.config(), data=data)
    batches = Sources(config, small.tokenizer(), studies)(stage)(0, 3)
    return [(batch.input_ids.tolist(), batch.volume is None) for batch in batches]


@pytest.mark.parametrize("name", [*STAGE_ON_DATA, *PHANTOM_TEXTS])
def test_what_decides_the_texts_matters(name: str, studies: StudyStore) -> None:
    stage, data = Stage("text", 3, {"report": 1.0}, data="text", batch_size=2), PhantomData(longest_report=60)
    if name in STAGE_ON_DATA:
        assert read(stage, data, studies) != read(replace(stage, **{name: STAGE_ON_DATA[name]}), data, studies)
        return
    other = replace(data, **{name: PHANTOM_TEXTS[name]})
    for source in ("text", "studies"):
        taught = replace(stage, data=source)
        assert read(taught, data, studies) != read(taught, other, studies), source


# --------------------------------------------------------------------------------- weights to begin with
def test_the_fields_of_the_start_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = [dict(small.build(seed).named_parameters()) for seed in (0, 1)]
    for name, tensors in zip(("one", "two"), own, strict=True):
        save_file({k: v.detach().clone() for k, v in tensors.items()}, f"{name}.safetensors")
    save_file(published.hugging_face(video=False), "vit.safetensors")

    def begun(config: StartConfig) -> Any:
        encoder = replace(tiny.model().encoder, tubelets=replace(tiny.model().encoder.tubelets, stem=0))
        torch.manual_seed(3)
        model = checkpoint.CTReportModel(replace(tiny.model(), encoder=encoder), small.tokenizer())
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        start_from(model, config)
        return {n: v.sum().item() for n, v in model.named_parameters() if not torch.equal(v, before[n])}

    plain = begun(StartConfig("one.safetensors"))
    assert plain != begun(StartConfig(START["weights"]))
    for unread in ({"layout": "published"}, {"weights": "one.safetensors", "colours": "half"}):
        with pytest.raises(ConfigError, match="start"):
            StartConfig(**unread)
    taken = begun(StartConfig("vit.safetensors", START["layout"]))
    assert taken
    assert all(name.startswith("vision.") for name in taken)
    assert taken != begun(StartConfig("vit.safetensors", START["layout"], START["colours"]))


# ----------------------------------------------------------------------------------------------- courses
def test_the_fields_of_a_course_matter(tmp_path: Path) -> None:
    config = tiny.config()
    for name in ("tiny", "demo"):
        saved = cfg.save_resolved(replace(config, recipe=name), tmp_path / name / "recipe.yaml")
        assert resolve(str(saved))[0].__name__ == f"recipes.{name}"
    results = {"validation_phantoms": 1, "validation_macro_f1": 0.5}
    assert "# another\n" in course.model_card(replace(config, name="another"), results)
    widths = []
    for width in (16, 32):
        heads = replace(config, pretrain=PretrainConfig(masked=MaskedConfig(width=width, layers=1))).pretrain
        learner = with_heads(small.build(), heads, ["masked"])
        widths.append(sum(p.numel() for n, p in learner.named_parameters() if n.startswith("masked.")))
    assert widths[0] != widths[1]
