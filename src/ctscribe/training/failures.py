"""Out of memory, out of disk: said in the user's words, with what to do next."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from ctscribe.errors import TrainingError


@contextmanager
def clear_failures(run_dir: Path) -> Iterator[None]:
    """Turn the failures of the machine into `TrainingError`; anything else passes through."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory() from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise _out_of_memory() from error
        raise
    except (OSError, SafetensorError) as error:
        if _is_full(error):
            raise _disk_full(run_dir) from error
        raise


@contextmanager
def surviving_a_full_disk(run_dir: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Writing a checkpoint between others may fail for want of space: said aloud, and the run goes on."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not _is_full(error):
            raise
        warn(
            f"the disk is full, this checkpoint was not written ({shutil.disk_usage(run_dir).free / 1e6:.0f} MB free); "
            "the run goes on and tries again at the next one"
        )


def _is_full(error: Exception) -> bool:
    # safetensors wraps the system's error in a message of its own.
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(code) in str(error) for code in full)


def check_disk(run_dir: Path, needed: int, what: str = "the checkpoints") -> None:
    """Refuse to start what cannot fit.

    Args:
        run_dir: existing folder.
        needed: bytes that will be written there.
        what: their name.
    """
    free = shutil.disk_usage(run_dir).free
    if free < needed:
        raise TrainingError(
            f"not enough disk space for {what} in {run_dir}",
            expected=f"{needed / 1e9:.1f} GB free",
            got=f"{free / 1e9:.1f} GB free",
            hint="free some space, use another folder, or ask for less",
        )


def _out_of_memory() -> TrainingError:
    return TrainingError(
        "the training step does not fit into memory",
        hint="in a new run folder: halve batch_size and double accumulate (same result), set checkpointing=true of the "
        "encoder and of the language model, or precision=bfloat16; with several processes parallel=fsdp; "
        "or free memory and run again: it continues from the newest checkpoint",
    )


def _disk_full(run_dir: Path) -> TrainingError:
    return TrainingError(
        f"the disk is full: {run_dir} could not be written",
        got=f"{shutil.disk_usage(run_dir).free / 1e6:.0f} MB free",
        hint="free some space or lower keep, then run again: it continues from the newest whole checkpoint",
    )
