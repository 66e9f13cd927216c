"""Commands, exit codes and streams: what scripts outside rely on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ctscribe import cli, errors
from ctscribe.cli import screen, table

COMMANDS = ("report", "impression", "demo", "phantom", "segment", "train", "evaluate", "inspect", "info")
BELOW = ("reader-study", "reader-study build", "reader-study score", "reader-study power")


@pytest.mark.parametrize("command", [*COMMANDS, *BELOW])
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture) -> None:
    assert table.run([*command.split(), "--help"]) == 0
    assert f"ctscribe {command}" in capsys.readouterr().out.split("Usage")[1].split("\n", 2)[2]


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["report"],
        ["report", "x", "--no-such-option"],
        ["report", "x", "--lang", "fr"],
        ["impression"],
        ["impression", "x.json", "--writer", "nobody"],
        ["phantom", "--n", "0", "--out", "x"],
        ["phantom", "--n", "one", "--out", "x"],
        ["segment", "x"],
        ["segment", "x", "--out", "labels.png"],
        ["demo", "--seed", "1"],
        ["train", "no-such-recipe"],
        ["train", "no-such-file.py"],
        ["evaluate"],
        ["reader-study", "build", "x.jsonl"],
        ["reader-study", "build", "x.jsonl", "--ref", "y.jsonl", "--out", "z", "--readers", "0"],
        ["reader-study", "score", "x"],
        ["reader-study", "power", "--difference", "0", "--sd", "1", "--readers", "3"],
    ],
)
def test_wrong_use_is_2_and_says_so_on_stderr(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert table.run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.ConfigError("x"), 2),
        (errors.UnreadableInput("x", code="no_such_path"), 3),
        (errors.WrongBodyPart("x"), 3),
        (errors.CheckpointError("x"), 1),
        (errors.DependencyMissing("x"), 1),
        (RuntimeError("secret detail"), 1),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_each_error_has_its_exit_code_and_no_traceback(
    error: BaseException, code: int, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ctscribe.data.inspect", fail, raising=False)
    assert table.run(["inspect", "x", *(["--json"] if as_json else [])]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    if as_json and code != 130:
        body = json.loads(err)["error"]
        assert body["exit_code"] == code
        assert body["code"]
        if isinstance(error, errors.InputRefused):
            assert body["code"] == error.code


def test_a_usage_error_is_json_when_json_was_asked_for(capsys: pytest.CaptureFixture) -> None:
    assert table.run(["report", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("deep down")

    monkeypatch.setattr("ctscribe.data.inspect", fail, raising=False)
    assert table.run(["--debug", "inspect", "x"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_path_that_is_not_there_is_input_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words in (["report", str(tmp_path / "nothing")], ["inspect", str(tmp_path / "nothing")]):
        assert table.run(words) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_version_is_the_packages(capsys: pytest.CaptureFixture) -> None:
    from ctscribe import __version__

    assert table.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys; from ctscribe.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.strip().endswith("False")
    assert time.perf_counter() - begun < 5  # 0.2 s on an idle machine; a heavy import would take ten times that


def test_main_leaves_with_the_code() -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["no-such-command"])
    assert left.value.code == 2


# ------------------------------------------------------------------------------------------ files
def test_files_appear_together(tmp_path: Path) -> None:
    written = screen.write_together(tmp_path / "a" / "b", {"x.txt": b"1", "y.txt": b"2"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "a" / "b").iterdir()} == {"x.txt": b"1", "y.txt": b"2"}
    assert written["x.txt"] == tmp_path / "a" / "b" / "x.txt"


def test_nothing_is_left_when_a_file_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        screen.write_together(tmp_path / "a" / "b", {"x.txt": b"1", "y.txt": "not bytes"})
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_report_survives_a_failed_one(tmp_path: Path) -> None:
    screen.write_together(tmp_path, {"x.txt": b"old"})
    with pytest.raises(TypeError):
        screen.write_together(tmp_path, {"x.txt": b"new", "y.txt": None})
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert (tmp_path / "x.txt").read_bytes() == b"old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with screen.whole_folder(tmp_path / "done") as folder:
        (folder / "file").write_text("x")

    def fail() -> None:
        with screen.whole_folder(tmp_path / "failed") as folder:
            (folder / "file").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["done"]
    with pytest.raises(errors.UsageError), screen.whole_folder(tmp_path / "done"):
        pass
    assert (tmp_path / "done" / "file").exists()


def test_an_output_that_cannot_work_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert table.run(["report", "scan", "--out", str(tmp_path / "file")]) == 2
    assert table.run(["report", "scan", "--out", str(tmp_path / "file" / "below")]) == 2
    assert table.run(["segment", "scan", "--out", str(tmp_path)]) == 2


# ------------------------------------------------------------------------------------------ info
def test_the_extras_are_those_of_the_package() -> None:
    from importlib.metadata import metadata

    from ctscribe.cli.info import EXTRAS

    known = set(metadata("ctscribe").get_all("Provides-Extra") or []) - {"dev", "docs"}
    assert set(EXTRAS) == known


def test_info_works_without_a_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def missing(*_: object, **__: object) -> None:
        raise errors.CheckpointError("no such model folder")

    monkeypatch.setattr("ctscribe.checkpoint.load", missing)
    assert table.run(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"] == {"available": False, "why": "no such model folder"}
    assert facts["vocabulary"]["findings"]
    assert table.run(["info"]) == 0


# ------------------------------------------------------------------------------------------ train
RECIPE = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Settings:
    recipe: str = "mine"
    steps: int = 3
def config():
    return Settings()
def run(config, run_dir):
    run_dir.mkdir(parents=True)
    (run_dir / "steps").write_text(str(config.steps))
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / "mine.py"
    path.write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize("named", ["mine", "recipes/mine.py"])
def test_a_recipe_runs_by_name_and_by_path(recipe: Path, named: str, tmp_path: Path) -> None:
    assert table.run(["train", named]) == 0
    assert (tmp_path / "runs" / "mine" / "steps").read_text() == "3"


def test_overrides_reach_the_recipe(recipe: Path, tmp_path: Path) -> None:
    assert table.run(["train", "mine", "steps=7", "--out", "elsewhere"]) == 0
    assert (tmp_path / "elsewhere" / "steps").read_text() == "7"


def test_a_resolved_configuration_is_a_recipe(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("recipe: mine\nsteps: 5\n")
    assert table.run(["train", "config.yaml", "--out", "again"]) == 0
    assert (tmp_path / "again" / "steps").read_text() == "5"


def test_what_would_be_trained_can_be_shown(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert table.run(["train", "mine", "steps=7", "--show"]) == 0
    assert capsys.readouterr().out == "recipe: mine\nsteps: 7\n"
    assert table.run(["train", "mine", "--show", "--out", "run"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["recipes"]


def test_an_unknown_key_is_wrong_use(recipe: Path, capsys: pytest.CaptureFixture) -> None:
    assert table.run(["train", "mine", "step=7"]) == 2
    assert "steps" in capsys.readouterr().err


def test_a_configuration_without_a_recipe_is_wrong_use(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("steps: 5\n")
    assert table.run(["train", "config.yaml"]) == 2


# ---------------------------------------------------------------------------------------- inspect
def test_inspect_answers_with_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from ctscribe.data.study import Inspection

    refused = Inspection(False, "dicom", 3, refusal=errors.GeometryRefused("gaps", code="missing_slices"))
    monkeypatch.setattr("ctscribe.data.inspect", lambda path: refused, raising=False)
    assert table.run(["inspect", "x", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["refusal"]["code"] == "missing_slices"
    accepted = SimpleNamespace(accepted=True, to_json=lambda: {"accepted": True})
    monkeypatch.setattr("ctscribe.data.inspect", lambda path: accepted, raising=False)
    assert table.run(["inspect", "x", "--json"]) == 0
