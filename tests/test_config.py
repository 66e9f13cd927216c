"""Laws of configurations: they travel, they are checked, and a wrong key is answered with the right one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.config import (
    apply_overrides,
    config_hash,
    dump_yaml,
    from_dict,
    load,
    save_resolved,
    to_dict,
    type_name,
)
from ctscribe.errors import ConfigError, UsageError


class Kernel(Enum):
    SOFT = 1
    SHARP = 2


@dataclass(frozen=True)
class Optim:
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    name: Literal["adamw", "sgd"] = "adamw"
    clip: float | None = 1.0


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int = 10
    optim: Optim | None = None


@dataclass(frozen=True)
class Pyramid:
    windows: tuple[int, int, int] = (2, 4, 4)


@dataclass(frozen=True)
class Frozen:
    layers: int = 3


@dataclass(frozen=True)
class Run:
    title: str = "a run"
    note: str | None = None
    seed: int = 0
    ema: bool = True
    out: Path = Path("runs/x")
    kernel: Kernel = Kernel.SOFT
    optim: Optim = Optim(lr=1e-3, clip=None)
    stages: tuple[Stage, ...] = (Stage("first"), Stage("second", 20))
    windows: tuple[tuple[float, float], ...] = ((-600.0, 1500.0),)
    weights: dict[str, float] = field(default_factory=dict)
    backbone: Pyramid | Frozen = Pyramid()
    extra: Any = None


numbers = st.floats(allow_nan=False)
optims = st.builds(
    Optim,
    lr=numbers,
    betas=st.tuples(numbers, numbers),
    name=st.sampled_from(["adamw", "sgd"]),
    clip=st.none() | numbers,
)
stages = st.builds(Stage, name=st.text(max_size=8), steps=st.integers(), optim=st.none() | optims)
words = st.text(max_size=8) | st.sampled_from(["null", "None", "True", "3e-4", "[1]", "~", "1", "结节"])
runs = st.builds(
    Run,
    title=words,
    note=st.none() | words,
    seed=st.integers(),
    ema=st.booleans(),
    out=st.sampled_from([Path("a/b"), Path("/tmp"), Path()]),
    kernel=st.sampled_from(Kernel),
    optim=optims,
    stages=st.lists(stages, max_size=3).map(tuple),
    windows=st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    weights=st.dictionaries(words, numbers, max_size=3),
    backbone=st.builds(Pyramid, st.tuples(*[st.integers()] * 3)) | st.builds(Frozen, st.integers()),
    extra=st.none() | words | st.booleans(),
)


@given(runs)
def test_a_configuration_survives_the_trip_through_plain_data(run: Run) -> None:
    assert from_dict(Run, to_dict(run)) == run


@pytest.mark.parametrize("suffix", ["yaml", "json"])
@given(run=runs)
def test_a_saved_configuration_loads_equal(tmp_path_factory: pytest.TempPathFactory, suffix: str, run: Run) -> None:
    path = tmp_path_factory.getbasetemp() / f"run.{suffix}"
    assert load(Run, save_resolved(run, path)) == run
    assert not list(path.parent.glob("*.part"))


@given(runs, st.integers(), st.booleans(), numbers, words)
def test_overriding_equals_constructing(run: Run, seed: int, ema: bool, lr: float, title: str) -> None:
    overrides = [f"seed={seed}", f"ema={ema}", f"optim.lr={lr!r}".replace("inf", ".inf"), f"title={title}"]
    expected = replace(run, seed=seed, ema=ema, optim=replace(run.optim, lr=lr), title=title.strip())
    assert apply_overrides(run, overrides) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr=3e-4", Run(optim=Optim(lr=3e-4, clip=None))),
        ("optim.betas=0.5,0.6", Run(optim=Optim(lr=1e-3, clip=None, betas=(0.5, 0.6)))),
        ("optim.betas=(0.5, 0.6)", Run(optim=Optim(lr=1e-3, clip=None, betas=(0.5, 0.6)))),
        ("optim.clip=2", Run(optim=Optim(lr=1e-3, clip=2.0))),
        ("optim={lr: 2.0}", Run(optim=Optim(lr=2.0, clip=None))),
        ("stages.1.steps=7", Run(stages=(Stage("first"), Stage("second", 7)))),
        ("stages.*.steps=7", Run(stages=(Stage("first", 7), Stage("second", 7)))),
        ("stages.0.optim.lr=2", Run(stages=(Stage("first", optim=Optim(lr=2.0)), Stage("second", 20)))),
        ("stages=[{name: only}]", Run(stages=(Stage("only"),))),
        ("windows=[[0, 1], [2, 3]]", Run(windows=((0.0, 1.0), (2.0, 3.0)))),
        ("weights.nodule=2", Run(weights={"nodule": 2.0})),
        ("backbone.windows=1,2,3", Run(backbone=Pyramid((1, 2, 3)))),
        ("backbone={layers: 5}", Run(backbone=Frozen(5))),
        ("kernel=SHARP", Run(kernel=Kernel.SHARP)),
        ("out=/tmp/y", Run(out=Path("/tmp/y"))),
        ("note=None", Run()),
        ("note=a=b", Run(note="a=b")),
        ("extra=[1, two]", Run(extra=[1, "two"])),
        ("title=None", Run(title="None")),
    ],
)
def test_override_equals_direct_construction(text: str, expected: Run) -> None:
    assert apply_overrides(Run(), [text]) == expected


@pytest.mark.parametrize("word", ["False", "false", "no", "off"])
def test_false_is_false(word: str) -> None:
    assert apply_overrides(Run(), [f"ema={word}"]).ema is False
    assert from_dict(Run, {"ema": word}).ema is False


def test_a_nested_table_changes_only_what_it_names() -> None:
    assert from_dict(Run, {"optim": {"name": "sgd"}}).optim == Optim(lr=1e-3, clip=None, name="sgd")


def test_file_then_overrides(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 3\noptim: {lr: 1e-2}\n", encoding="utf-8")
    assert load(Run, path, ["optim.clip=0.5", "seed=4"]) == Run(seed=4, optim=Optim(lr=1e-2, clip=0.5))
    path.write_text("", encoding="utf-8")
    assert load(Run, path) == Run()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim.lrr=1", ["optim.lrr", "Optim", "lr, betas, name, clip", "did you mean optim.lr?"]),
        ("sed=1", ["unknown configuration key sed", "Run", "did you mean seed?"]),
        ("stages.0.stepz=1", ["stages.0.stepz", "Stage", "did you mean stages.0.steps?"]),
        ("stages.9.steps=1", ["stages.9.steps", "0 to 1"]),
        ("seed.x=1", ["seed.x", "plain value", "0 (int)"]),
        ("seed=1.5", ["seed", "int", "'1.5'"]),
        ("seed=True", ["seed", "int", "'True'"]),
        ("ema=2", ["ema", "bool"]),
        ("optim.lr=fast", ["optim.lr", "float", "fast"]),
        ("optim.name=adam", ["optim.name", "'adamw' | 'sgd'", "adam"]),
        ("optim.betas=[1]", ["optim.betas", "tuple[float, float]"]),
        ("optim=None", ["optim", "Optim"]),
        ("optim=3", ["optim", "Optim"]),
        ("kernel=HARD", ["kernel", "SOFT | SHARP"]),
        ("backbone.layer=1", ["backbone.layer"]),
        ("seed", ["'seed'", "key=value"]),
        ("=1", ["key=value"]),
        ("extra=[1", ["extra", "YAML"]),
        ("stages=[{steps: 1}]", ["stages.0.name is missing", "Stage", "str"]),
    ],
)
def test_a_wrong_override_is_answered(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(Run(), [text])
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 2


def test_a_wrong_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load(Run, tmp_path / "nowhere.yaml")
    path = tmp_path / "odd.yaml"
    for text in ("a: [1", "- 1\n", "seeds: 1\n", "seed: x\n", "title: null\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"odd\.yaml"):
            load(Run, path)


def test_a_dataclass_may_refuse() -> None:
    @dataclass(frozen=True)
    class Positive:
        x: int = 1

        def __post_init__(self) -> None:
            if self.x <= 0:
                raise ValueError("x must be positive")

    with pytest.raises(ConfigError, match="x must be positive"):
        from_dict(Positive, {"x": -1})


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Run\.extra"):
        to_dict(Run(extra=object()))
    with pytest.raises(ConfigError, match="not a configuration"):
        to_dict(Run)


@settings(max_examples=20)
@given(runs, runs)
def test_hash_is_equal_exactly_when_the_values_are(a: Run, b: Run) -> None:
    assert (config_hash(a) == config_hash(b)) == (repr(a) == repr(b))
    assert config_hash(a) == config_hash(from_dict(Run, dict(reversed(to_dict(a).items()))))


def test_hash_is_stable() -> None:
    assert config_hash(Optim(lr=1)) == config_hash(Optim(lr=1.0)) == "dd3034eb62fb29e2"


def test_yaml_is_for_people() -> None:
    assert dump_yaml(Stage("结节")) == "name: 结节\nsteps: 10\noptim: null\n"


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (float | None, "float | None"),
        (tuple[int, ...], "tuple[int, ...]"),
        (dict[str, Optim], "dict[str, Optim]"),
        (Literal["a", 2], "'a' | 2"),
        (Kernel, "SOFT | SHARP"),
        (Any, "Any"),
    ],
)
def test_types_are_named_as_people_write_them(hint: Any, text: str) -> None:
    assert type_name(hint) == text
