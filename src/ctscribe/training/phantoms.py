"""Fill a study store with synthetic studies: what the bundled checkpoint is trained on.

Each phantom is drawn, segmented by the classical rules (the masks a real scan will come with, not the perfect ones
the phantom knows), moved so that its lungs lie in the middle of the grid, as inference places a scan, and written
with its findings and the fine tokens that hold each lesion.

    python -m ctscribe.training.phantoms --n 4000 --seed 0 --out DIR
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from rich.console import Console

from ctscribe import ontology
from ctscribe.config import json_hash
from ctscribe.data.anatomy import Segmentation, segment
from ctscribe.data.augment import AIR, roll_in
from ctscribe.data.batch import Sample
from ctscribe.data.outlines import Outline, Outlines, largest_first
from ctscribe.data.store import StoreLayout, StudyStore, StudyStoreWriter, written_ids
from ctscribe.errors import CTScribeError, TrainingError, UsageError
from ctscribe.phantom import DEMO_GRID, GridSpec, LesionPrior, PhantomStudy, generate
from ctscribe.pipeline.placing import centre_of_chest
from ctscribe.training.failures import check_disk, clear_failures

REPORT_SECONDS = 10


@dataclass(frozen=True)
class PhantomPlan:
    """Which phantoms a store holds.

    Attributes:
        n: studies, of seeds ``first_seed .. first_seed + n - 1``.
        grid: voxels and spacing; that of the model.
        region_grid, token_grid: cells of the region masks, and fine tokens of the lesion flags.
        lesions: what may be drawn, None for the generator's default.
    """

    n: int
    first_seed: int = 0
    grid: GridSpec = DEMO_GRID
    region_grid: tuple[int, int, int] = (32, 16, 16)
    token_grid: tuple[int, int, int] = (32, 16, 16)
    lesions: LesionPrior | None = None

    @property
    def layout(self) -> StoreLayout:
        """What the store's arrays look like."""
        return StoreLayout.current(self.grid.shape, self.region_grid, self.token_grid)

    @property
    def seeds(self) -> range:
        """In order."""
        return range(self.first_seed, self.first_seed + self.n)

    @property
    def drawn_from(self) -> str:
        """Short hash of what may be drawn, kept beside every phantom."""
        return json_hash(asdict(self.lesions or LesionPrior()))


def phantom_id(seed: int) -> str:
    """Name of a phantom in a store."""
    return f"phantom-{seed:09d}"


def fill_store(plan: PhantomPlan, out: Path | str, *, processes: int = 2, show: bool = True) -> StudyStore:
    """Draw what is not there yet; may be stopped and called again at any time.

    Args:
        plan: which phantoms.
        out: the store's folder.
        processes: each writes its own shards.
        show: progress on the error stream.

    Raises:
        TrainingError: a process died, or the store cannot be written.
        UsageError: the folder holds phantoms of these seeds on another grid, or with findings of another frequency.
    """
    out = Path(out)
    missing = _missing(plan, out)
    if missing:
        _run(plan, out, missing, max(1, min(processes, len(missing))), Console(stderr=True, quiet=not show))
    left = _missing(plan, out)
    if left:
        raise TrainingError(
            f"{len(left)} of {plan.n} phantoms were not written to {out}",
            hint="look at the messages above (memory, disk), then run it again: it continues",
        )
    store = StudyStore(out, ids=[phantom_id(seed) for seed in plan.seeds])
    _check_drawn(plan, store)
    return store


def _check_drawn(plan: PhantomPlan, store: StudyStore) -> None:
    """What was drawn before must be what the plan asks for; phantoms from before this was noted are taken."""
    spacing = [round(step, 3) for step in plan.grid.spacing]
    for index, row in enumerate(store.rows()):
        extra, there = store.extra(index), [round(step, 3) for step in row["spacing"]]
        same = store.layout == plan.layout and there == spacing
        if not same or extra.get("drawn_from", plan.drawn_from) != plan.drawn_from:
            raise UsageError(
                f"{store.root} holds phantoms that were drawn otherwise ({row['id']})",
                expected="findings as common as the plan says" if same else f"{plan.grid.shape} voxels of {spacing} mm",
                got="another frequency of findings" if same else f"{store.layout.shape} voxels of {there} mm",
                hint="use another folder (data.store, or a new run folder), or put the old value back",
            )


def phantom_sample(seed: int, plan: PhantomPlan) -> tuple[Sample, dict[str, object]]:
    """One phantom as a training sample, and what is kept beside it (seed, how it was segmented, the shift)."""
    study = generate(seed, plan.grid, lesions=plan.lesions)
    segmentation, refusal = _segment(study)
    moved = (0, 0, 0) if segmentation is None else _to_middle(study, segmentation)
    regions = len(ontology.model_regions())
    occupancy = np.zeros((regions, *plan.region_grid), np.float32)
    present = np.zeros(regions, bool)
    if segmentation is not None:
        labels = roll_in(segmentation.labels, moved, 0)
        placed = replace(segmentation, labels=labels)
        occupancy, present = placed.occupancy(ontology.model_regions(), plan.region_grid)
    sample = Sample(
        id=phantom_id(seed),
        hu=roll_in(np.clip(study.volume.hu, AIR, 32767).astype(np.int16), moved, AIR),
        spacing=study.volume.spacing,
        occupancy=np.rint(occupancy * 255).astype(np.uint8),
        present=present,
        findings=study.findings,
        dense=lesion_tokens(study, plan.token_grid, moved),
        outlines=outlines_of(study, moved),
    )
    masks = "none" if segmentation is None else segmentation.source
    return sample, {
        "seed": seed,
        "masks": masks,
        "refusal": refusal,
        "shift": list(moved),
        "drawn_from": plan.drawn_from,
    }


def lesion_tokens(
    study: PhantomStudy, token_grid: tuple[int, int, int], moved: tuple[int, int, int] = (0, 0, 0)
) -> Bool[np.ndarray, "f t h w"]:
    """Tokens that hold at least one voxel of a lesion, per finding kind and whatever it implies.

    Args:
        study: with lesion masks.
        token_grid: divides the volume evenly.
        moved: voxels (z, y, x) by which the study was shifted.
    """
    kinds = {kind: column for column, kind in enumerate(ontology.findings())}
    flags = np.zeros((len(kinds), *token_grid), bool)
    size = np.array(study.volume.shape) // np.array(token_grid)
    for kind, piece in study.kind_masks():
        voxels = np.argwhere(piece.mask) + np.array(piece.box_index[0]) + np.array(moved)
        inside = ((voxels >= 0) & (voxels < np.array(study.volume.shape))).all(axis=1)
        t, h, w = (voxels[inside] // size).T
        for column in (kinds[k] for k in ontology.implied(kind)):
            flags[column, t, h, w] = True
    return flags


def outlines_of(study: PhantomStudy, moved: tuple[int, int, int] = (0, 0, 0)) -> Outlines:
    """Every lesion that was drawn, voxel by voxel, of a study that was shifted by ``moved`` voxels (z, y, x)."""
    drawn = largest_first(Outline(kind, piece.box_index[0], piece.mask) for kind, piece in study.kind_masks())
    return Outlines(study.volume.shape, drawn).shifted(moved)


def _segment(study: PhantomStudy) -> tuple[Segmentation | None, str | None]:
    """A scan that the rules refuse is kept without masks, as inference would have to read it; the reason is kept."""
    try:
        return segment(study.volume), None
    except CTScribeError as error:
        return None, error.what


def _to_middle(study: PhantomStudy, segmentation: Segmentation) -> tuple[int, int, int]:
    """Whole voxels to move so that the chest's centre lies in the middle of the grid."""
    centre = study.volume.affine.to_index(np.array(centre_of_chest(study.volume, segmentation)))
    steps = np.rint((np.array(study.volume.shape) - 1) / 2 - centre).astype(int)
    return int(steps[0]), int(steps[1]), int(steps[2])


def _missing(plan: PhantomPlan, out: Path) -> list[int]:
    there = written_ids(out)
    return [seed for seed in plan.seeds if phantom_id(seed) not in there]


def _run(plan: PhantomPlan, out: Path, seeds: list[int], processes: int, console: Console) -> None:
    """Share the seeds out; each share goes into a shard of its own."""
    out.mkdir(parents=True, exist_ok=True)
    check_disk(out, len(seeds) * plan.layout.study_bytes, "the phantoms")
    first = len(list(out.glob("shard-*")))
    if processes == 1:
        _write(plan, out, first, seeds)
        return
    # Spawned, not forked: the parent may have started threads.
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_process, args=(plan, out, first + n, seeds[n::processes])) for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        _watch(workers, out, len(seeds), console)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
            worker.join()


def _watch(workers: Sequence[BaseProcess], out: Path, whole: int, console: Console) -> None:
    """Report progress by counting what was committed, until all processes have ended."""
    before, start = len(written_ids(out)), time.monotonic()
    told = start
    while any(worker.is_alive() for worker in workers):
        workers[0].join(timeout=0.2) if workers[0].is_alive() else time.sleep(0.2)
        now = time.monotonic()
        if now - told < REPORT_SECONDS:
            continue
        told, done = now, len(written_ids(out)) - before
        left = f"{(whole - done) * (now - start) / done / 60:.0f} min left" if done else "starting"
        console.print(
            f"phantoms {done}/{whole}, {done / (now - start):.2f} a second, {left}",
            highlight=False,
            end="\r" if console.is_terminal else "\n",
        )


def _process(plan: PhantomPlan, out: Path, shard: int, seeds: list[int]) -> None:
    """One process: one thread, low priority."""
    import torch

    torch.set_num_threads(1)
    os.nice(5)
    try:
        _write(plan, out, shard, seeds)
    except CTScribeError as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False)
        sys.exit(error.exit_code)


def _write(plan: PhantomPlan, out: Path, shard: int, seeds: list[int]) -> None:
    with (
        clear_failures(out),
        StudyStoreWriter(out, plan.layout, shard=shard, capacity=len(seeds)) as writer,
    ):
        for seed in seeds:
            sample, extra = phantom_sample(seed, plan)
            writer.append(sample, **extra)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(prog="python -m ctscribe.training.phantoms", description=__doc__)
    parser.add_argument("--n", type=int, required=True, help="how many studies")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first one")
    parser.add_argument("--out", type=Path, required=True, help="folder of the store")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--crowding", type=float, default=1.0, help="how many times as common every finding is")
    options = parser.parse_args(arguments)
    try:
        plan = PhantomPlan(options.n, options.seed, lesions=LesionPrior.crowded(options.crowding))
        store = fill_store(plan, options.out, processes=options.processes)
    except CTScribeError as error:
        Console(stderr=True).print(str(error), markup=False)
        sys.exit(error.exit_code)
    Console(stderr=True).print(f"{len(store)} synthetic studies in {options.out}")


if __name__ == "__main__":
    main()
