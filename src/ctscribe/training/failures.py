"""Out of memory, out of disk: said in the user's words, with what to do next."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
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
        # safetensors wraps the system's error in a message of its own.
        code = getattr(error, "errno", None)
        if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise _disk_full(run_dir) from error
        raise


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
        hint="halve batch_size and double accumulate, or use precision=bfloat16, in a new run folder; "
        "or free memory and run again: it continues from the newest checkpoint",
    )


def _disk_full(run_dir: Path) -> TrainingError:
    return TrainingError(
        f"the disk is full: {run_dir} could not be written",
        got=f"{shutil.disk_usage(run_dir).free / 1e6:.0f} MB free",
        hint="free some space or lower keep, then run again: it continues from the newest whole checkpoint",
    )
