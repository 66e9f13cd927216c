"""``train``: run a recipe."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from ctscribe.errors import UsageError


def train(
    recipe: str = typer.Argument(
        ...,
        metavar="RECIPE",
        help="tiny, demo, small, curriculum, beside, impression_head or impression_lora; a .py file; or the "
        "recipe.yaml of an earlier run.",
    ),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="What is different, such as train.seed=1; --show lists the keys."
    ),
    out: Path | None = typer.Option(
        None, "--out", metavar="DIR", help="Run folder; default runs/RECIPE. A run that is there is continued."
    ),
    show: bool = typer.Option(False, "--show", help="Print the resolved configuration, and train nothing."),
) -> None:
    """Train a model: RECIPE says what, KEY=VALUE says what is different this time.

    The resolved configuration is saved in the run folder and can be given as RECIPE again. A run that was stopped goes
    on when the same line is given again. The model folder is DIR/checkpoint. `*` in a key stands for every entry of a
    list; `ctscribe models` explains the keys below `model`, the page Configuration all of them.

    Examples:

    * `ctscribe train tiny`
    * `ctscribe train demo --show`
    * `ctscribe train demo train.stages.1.steps=200 --out runs/short`
    * `ctscribe train runs/short/recipe.yaml --out runs/again`
    * `ctscribe train beside data.prepared=store --out run`
    * `torchrun --nproc-per-node 8 --no-python ctscribe train demo train.device=cuda 'train.stages.*.accumulate=8'`
    """
    from ctscribe.cli import screen
    from ctscribe.config import dump_yaml
    from ctscribe.engines.world import connected

    module, base, name = resolve(recipe)
    config = overridden(base, list(overrides or []))
    if show:
        if out is not None:
            raise UsageError(f"--out {out} with --show", expected="one of them: --show trains nothing")
        print(dump_yaml(config), end="")
        return
    run_dir = out or Path("runs") / name
    screen.output_folder(run_dir)
    with connected() as world:
        module.run(config, run_dir)
    if world.main:
        print(run_dir)


def resolve(word: str) -> tuple[ModuleType, Any, str]:
    """What RECIPE stands for: the recipe module, its configuration before overrides, and a name for the run folder."""
    path = Path(word)
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path)
    if path.suffix == ".py":
        if not path.is_file():
            raise UsageError(f"recipe {word}", expected="a Python file", got="no such file", hint=_known())
    else:
        path = _named(word)
    module = _load(path)
    _check(module, path)
    return module, module.config(), path.stem


def _from_yaml(path: Path) -> tuple[ModuleType, Any, str]:
    """A resolved configuration names its recipe in its own key ``recipe``."""
    import yaml

    from ctscribe import config

    if not path.is_file():
        raise UsageError(f"recipe {path}", expected="a resolved configuration", got="no such file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"recipe {path}", expected="a YAML file", got=" ".join(str(error).split())) from error
    name = values.get("recipe") if isinstance(values, dict) else None
    if not isinstance(name, str):
        raise UsageError(
            f"{path} does not say which recipe it belongs to",
            expected="a key `recipe: NAME`",
            hint="use the recipe.yaml that a run has saved, or give the recipe's name and KEY=VALUE",
        )
    known = _named(name)
    module = _load(known)
    _check(module, known)
    folder = path.parent.name if path.stem in ("config", "recipe") else path.stem
    return module, config.load(type(module.config()), path), folder or name


def overridden(base: Any, overrides: list[str]) -> Any:
    """The configuration with what is different this time.

    Raises:
        ConfigError: an unknown key, or a value that does not fit.
        UsageError: a key that counts for nothing in this course.
    """
    from ctscribe import config
    from ctscribe.training.course import CourseConfig, unread

    made = config.apply_overrides(base, overrides)
    for key in (override.partition("=")[0].strip() for override in overrides):
        for idle, why in unread(made).items() if isinstance(made, CourseConfig) else ():
            if f"{key}.".startswith(f"{idle}."):
                raise UsageError(f"{key} counts for nothing here", got=why, hint="leave it out")
    return made


def _folders() -> tuple[Path, ...]:
    """Where recipes are looked for: here, then beside the source tree of an editable installation."""
    return Path.cwd() / "recipes", Path(__file__).resolve().parents[3] / "recipes"


def _named(name: str) -> Path:
    for folder in _folders():
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    raise UsageError(f"recipe {name!r} was not found", expected="a recipe's name or a path", hint=_known())


def _known() -> str:
    """The names that would have worked."""
    names = sorted({p.stem for folder in _folders() for p in folder.glob("*.py") if not p.stem.startswith("_")})
    return f"one of {', '.join(names)}" if names else "run it in a checkout, whose recipes/ folder holds the recipes"


def _load(path: Path) -> ModuleType:
    """Import a recipe by its path; its folder's parent becomes importable, so that recipes may share code."""
    parent = str(path.resolve().parent.parent)
    if parent not in sys.path:
        sys.path.insert(0, parent)
    spec = importlib.util.spec_from_file_location(f"recipes.{path.stem}", path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"recipe {path}", expected="a Python file", got="something Python cannot import")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _check(module: ModuleType, path: Path) -> None:
    """A recipe is a module with two functions."""
    for needed in ("config", "run"):
        if not callable(getattr(module, needed, None)):
            raise UsageError(
                f"recipe {path}", expected="functions config() and run(config, run_dir)", got=f"no {needed}"
            )
