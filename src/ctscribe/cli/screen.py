"""What the commands share on the terminal: consoles, progress on stderr, files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctscribe.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

Step = Callable[[str], None]


def console(stderr: bool = False) -> Console:
    """A rich console on stdout or stderr (plain when it is not a terminal)."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


@contextmanager
def steps(total: int, quiet: bool = False) -> Iterator[Step]:
    """A progress bar on stderr; call the yielded function with the name of each step as it begins."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("starting", total=total)
        begun = 0

        def step(name: str) -> None:
            nonlocal begun
            progress.update(task, description=name, completed=begun)
            begun += 1

        yield step


@contextmanager
def counting(name: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr for many things of one kind; call the yielded function with (done, all)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, whole: progress.update(task, completed=done, total=whole)


def print_json(value: Any) -> None:
    """Machine-readable result on stdout, UTF-8 whatever the terminal's locale says."""
    sys.stdout.buffer.write(json_bytes(value))
    sys.stdout.flush()


def json_bytes(value: Any) -> bytes:
    """JSON for people and machines: two spaces, UTF-8, a line break at the end."""
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8") + b"\n"


def output_folder(path: Path) -> None:
    """Refuse a folder that cannot be written before anything costly starts; creates nothing."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {path}", expected="a folder", got="a file", hint="give another name")
    writable_parent(path if path.exists() else path.parent, path)


def output_file(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse an output file name that cannot work before anything costly starts."""
    if path.is_dir():
        raise UsageError(f"--out {path}", expected="a file name", got="a folder", hint=f"{path}/labels{endings[-1]}")
    if not path.name.endswith(endings):
        raise UsageError(f"--out {path}", expected=f"a name ending in {' or '.join(endings)}", got=path.name)
    writable_parent(path.parent, path)


def writable_parent(parent: Path, path: Path) -> None:
    """The nearest folder that exists must take new files."""
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(f"--out {path}", expected="a place that can be written", got=f"{parent} cannot be written")


def write_together(folder: Path, contents: Mapping[str, bytes]) -> dict[str, Path]:
    """Write files under temporary names, then rename them: a reader never sees half a file.

    A folder made here is removed again, and nothing else is left behind, when any of them cannot be written.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    waiting: dict[str, Path] = {}
    try:
        for name, content in contents.items():
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
            waiting[name] = Path(temporary)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        for name, path in waiting.items():
            path.chmod(0o666 & ~_umask())
            path.replace(folder / name)
    except BaseException:
        for path in waiting.values():
            path.unlink(missing_ok=True)
        for parent in made:
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()
        raise
    return {name: folder / name for name in contents}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the name ``folder`` when the block succeeds and disappears when it fails.

    A folder that already holds files is refused, never emptied.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty", expected="a new or empty folder", hint="choose another --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield temporary
        if folder.exists():
            folder.rmdir()
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
