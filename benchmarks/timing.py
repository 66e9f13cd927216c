"""What the benchmarks share: processor seconds of a step, which other work on the machine hardly changes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def cpu_seconds(work: Callable[[], object], times: int, *, warm: bool = True) -> list[float]:
    """Of each of a few runs, after one to warm up unless ``warm`` is False."""
    if warm:
        work()
    spent = []
    for _ in range(times):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return spent


def milliseconds(work: Callable[[], object], times: int) -> float:
    """Median of those runs."""
    return 1000 * statistics.median(cpu_seconds(work, times))
