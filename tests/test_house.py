"""The house itself: documents that cannot lie, imports that cost nothing, words that do not belong here."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ctscribe"
COMMANDS = (
    *("report", "impression", "demo", "phantom", "segment", "deidentify", "prepare", "reword"),
    *("train", "runs", "evaluate", "label", "inspect", "models", "info"),
)
READER_STUDY = ("build", "score", "power")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository that git knows, or that lie in its folders where there is no git."""
    listing = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def fresh(code: str) -> str:
    """What ``code`` prints in an interpreter of its own."""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------ imports
@pytest.mark.parametrize(
    "module", ["ctscribe", "ctscribe.config", "ctscribe.errors", "ctscribe.ontology", "ctscribe.report"]
)
def test_importing_the_words_needs_no_torch(module: str) -> None:
    heavy = fresh(f"import sys, {module}; print(*(m for m in ('torch', 'transformers', 'scipy') if m in sys.modules))")
    assert heavy == ""


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    loaded = fresh("import sys, ctscribe; print(*(m for m in sys.modules if m.startswith('ctscribe.')))")
    assert loaded == ""


def test_the_command_line_starts_without_torch() -> None:
    assert fresh("import sys, ctscribe.cli; print('torch' in sys.modules)") == "False"


def test_public_names_load_on_first_use() -> None:
    names = fresh(
        "import ctscribe; print(*(getattr(ctscribe, n).__name__ for n in ('Report', 'Reporter', 'evaluate')))"
    )
    assert names == "Report Reporter evaluate"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import ctscribe

    with pytest.raises(AttributeError, match="no attribute 'Raport'"):
        _ = ctscribe.Raport
    assert {"Report", "Reporter", "evaluate"} <= set(dir(ctscribe))


def test_version_is_told_once() -> None:
    import ctscribe

    assert ctscribe.__version__ == importlib.metadata.version("ctscribe")
    assert f"version: {ctscribe.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------- dependencies
def requirement_name(requirement: str) -> str:
    return normal(re.split(r"[\[<>=!~; ]", requirement)[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, str]:
    """Distribution -> 'core' or the extra it belongs to."""
    table = {requirement_name(r): "core" for r in PROJECT["dependencies"]}
    for extra, requirements in PROJECT["optional-dependencies"].items():
        table.update({requirement_name(r): extra for r in requirements})
    return table


def test_every_dependency_has_its_reason_on_record() -> None:
    text = (ROOT / "docs" / "adr" / "0002-dependencies.md").read_text(encoding="utf-8")
    core = {normal(name) for name in re.findall(r"^\| `([\w-]+)` \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)}
    extras = {normal(n): e for n, e in re.findall(r"^\| `([\w-]+)` \| (\w+) \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)}
    assert dict.fromkeys(core, "core") | extras == declared()


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!]+", line)] == []
    pinned = {normal(line.split("==")[0]) for line in lines}
    assert set(declared()) - pinned == set()
    assert "torch==2.13.0" in lines


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_what_is_imported_is_declared() -> None:
    homes = importlib.metadata.packages_distributions()
    known = set(declared()) | {"ctscribe"}
    own = {"ctscribe", "recipes", "benchmarks", "tests"} | set(sys.stdlib_module_names)
    foreign: dict[str, set[str]] = {}
    for path in tracked("src/*.py", "recipes/*.py", "tests/*.py", "benchmarks/*.py", "docs/*.py", "examples/*.py"):
        siblings = {other.stem for other in path.parent.glob("*.py")}
        for name in imported(path) - own - siblings:
            if not {normal(home) for home in homes.get(name, [name])} & known:
                foreign.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    foreign.pop("docstring_parser", None)  # comes with jsonargparse[signatures]
    assert foreign == {}


# ------------------------------------------------------------------------------------------ commands
def documented_commands() -> list[tuple[str, str]]:
    """(page, command line) for each ``ctscribe ...`` line in a shell or text block of the documents."""
    lines = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for block in re.findall(
            r"^```(?:sh|text|bash|console)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S
        ):
            for line in block.splitlines():
                if match := re.match(r"(?:\$ )?(ctscribe [a-z].*)", line.strip()):
                    lines.append((page.relative_to(ROOT).as_posix(), match[1].split("#")[0].split(";")[0]))
    return lines


def test_documented_commands_exist_with_their_options() -> None:
    from typer.main import get_command

    from ctscribe.cli import app

    lies = []
    for page, line in documented_commands():
        words = line.replace("[", " ").replace("]", " ").split()
        command = get_command(app).commands.get(words[1])  # type: ignore[attr-defined]
        for word in words[2:3] if hasattr(command, "commands") else ():
            command = next((c for name in word.split("|") if (c := command.commands.get(name))), None)
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} if command else set()
        wrong = [w for w in words[2:] if w.startswith("--") and w.split("=")[0] not in options | {"--help"}]
        if command is None or wrong:
            lies.append(f"{page}: {line}")
    assert lies == []


def test_python_in_the_documents_imports_what_exists() -> None:
    blocks = [
        block
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    ]
    imports = [n for block in blocks for n in ast.walk(ast.parse(block)) if isinstance(n, ast.ImportFrom)]
    ours = [n for n in imports if (n.module or "").split(".")[0] == "ctscribe"]
    assert ours
    wanted = [(node.module, alias.name) for node in ours for alias in node.names]
    missing = fresh(
        "from importlib import import_module\n"
        f"print(*(f'{{m}}.{{n}}' for m, n in {wanted} if not hasattr(import_module(m), n)))"
    )
    assert missing.split() == []


def test_the_contract_is_documented() -> None:
    listed = {line.split()[1] for page, line in documented_commands() if page == "docs/reference/cli.md"}
    assert listed >= {*COMMANDS, "reader-study"}


def test_the_command_page_is_the_command_line(hooks: ModuleType) -> None:
    page = hooks.commands()
    names = (*COMMANDS, *(f"reader-study {name}" for name in READER_STUDY))
    assert [name for name in names if f"### `ctscribe {name}`" not in page] == []
    assert "--series" in page


def test_the_exit_code_table_is_the_exception_tree(hooks: ModuleType) -> None:
    from ctscribe import errors

    rows = hooks.errors().splitlines()[2:]
    assert len(rows) == sum(isinstance(e, type) for e in vars(errors).values())
    assert "| 3 | `WrongBodyPart` | Computed tomography, but not of a chest. |" in rows


# -------------------------------------------------------------------------------------------- pages
def test_the_report_page_explains_every_field(hooks: ModuleType) -> None:
    rows = [line for line in hooks.report().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_ontology_page_lists_the_ontology(hooks: ModuleType) -> None:
    from ctscribe import ontology

    findings, regions = hooks.findings(), hooks.regions()
    assert [kind for kind in ontology.findings() if f"`{kind}`" not in findings] == []
    assert [region for region in ontology.regions() if f"`{region}`" not in regions] == []


def test_every_configuration_field_says_what_it_is() -> None:
    silent = fresh(
        "import dataclasses, sys; sys.path.insert(0, 'docs'); import hooks\n"
        "for cls in hooks.config_classes():\n"
        "    texts = hooks.field_texts(cls)\n"
        "    print(*(f'{cls.__name__}.{f.name}' for f in dataclasses.fields(cls) if f.init and not texts.get(f.name)))"
    )
    assert silent.split() == []


def test_generated_parts_of_pages_can_be_made() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    markers = sorted(set(re.findall(r"^<!-- generated: (\w+) -->$", pages, re.MULTILINE)))
    assert {"commands", "configurations", "errors", "findings", "regions"} <= set(markers)
    lengths = fresh(
        "import sys; sys.path.insert(0, 'docs'); import hooks\n"
        f"print(*(len(hooks.generated(name).splitlines()) for name in {markers}))"
    )
    assert all(int(length) > 3 for length in lengths.split())


def test_a_page_needs_no_entry_in_the_navigation(hooks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "how-to").mkdir()
    (tmp_path / "how-to" / "walk.md").write_text("# Walk the dog\n", encoding="utf-8")
    nav = hooks.on_config({"docs_dir": str(tmp_path)})["nav"]
    assert nav == [{"Home": "index.md"}, {"How-to guides": [{"Walk the dog": "how-to/walk.md"}]}]


def test_make_help_lists_the_words() -> None:
    text = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = re.findall(r"make ([a-z-]+)", text)
    assert words[:3] == ["demo", "test", "check"] or words[1:4] == ["demo", "test", "check"]


def test_continuous_integration_runs_the_same_words() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("make ")] == ["make check", "make test"]


# ---------------------------------------------------------------------------------------- cleanliness
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(?:work|home/\w+|root|Users/\w+)/",
    "a package host": "pypi" + r"\.org|" + "pythonhosted" + r"\.org|download\.pytorch\.org|conda\.anaconda\.org",
    "a content network": r"(?:fonts\.(?:googleapis|gstatic)|unpkg|cdn\.jsdelivr|cdnjs\.cloudflare)\.",
    "an unfinished mark": "<<<<" + "<<<|>>>>" + ">>>|FIX" + "ME|XX" + "X:",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_words_that_do_not_belong_here(what: str) -> None:
    found = []
    for path in tracked():
        if path == Path(__file__) or path.suffix in {".png", ".safetensors", ".gz", ".dcm", ".npz", ".zip"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in re.finditer(FORBIDDEN[what], text)]
    assert found == []


def test_no_pickles_and_no_scans_in_the_repository() -> None:
    wrong = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib"}
    assert [path.name for path in tracked() if path.suffix in wrong] == []


def test_the_weights_folder_holds_weights() -> None:
    folder = SOURCE / "weights"
    if not folder.is_dir():
        pytest.skip("no checkpoint is bundled")
    allowed = {".safetensors", ".json", ".md", ".txt"}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if path.suffix not in allowed] == []
    assert sum(path.stat().st_size for path in files) <= 40 * 2**20


def test_files_stay_small() -> None:
    long = {p.name: n for p in tracked("src/*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 500}
    assert long == {}
