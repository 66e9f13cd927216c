"""How many phantoms a second? Two processes, one thread each, on the demo grid.

python benchmarks/phantoms.py [--studies 24] [--processes 2] [--native]
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy starts: the processes are the parallelism

from ctscribe.phantom import DEMO_GRID, NATIVE_GRID, GridSpec, generate  # noqa: E402


def _one(job: tuple[int, GridSpec]) -> float:
    """CPU seconds of one study."""
    start = time.process_time()
    generate(job[0], job[1])
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--native", action="store_true", help="150 x 256 x 256 instead of 64 x 128 x 128 voxels")
    arguments = parser.parse_args()
    grid = NATIVE_GRID if arguments.native else DEMO_GRID
    with ProcessPoolExecutor(arguments.processes) as pool:
        list(pool.map(_one, [(seed, grid) for seed in range(arguments.processes)]))  # start-up is not counted
        start = time.perf_counter()
        cpu = list(pool.map(_one, [(1000 + seed, grid) for seed in range(arguments.studies)]))
        wall = time.perf_counter() - start
    print(f"grid {grid.shape} at {grid.spacing} mm, {arguments.processes} processes, {arguments.studies} studies")
    print(f"{arguments.studies / wall:.2f} studies/s ({wall / arguments.studies * 1000:.0f} ms a study)")
    print(f"{sum(cpu) / len(cpu):.2f} s CPU a study, longest {max(cpu):.2f} s")


if __name__ == "__main__":
    main()
