"""Fill a study store from a data set: every scan is read, segmented and placed as inference would do it.

Studies are prepared by several processes and written by one, so that memory is bounded by a few studies for each
process. What is written stays: a run that was stopped continues where it was. Scans that cannot be used are listed
with the reason in ``refused.jsonl`` and tried again only with other options, or once that file is removed.

```
OUT/store.json, shard-0000/      the prepared scans, see `ctscribe.data.store`
OUT/texts.jsonl                  reports of a source that has no scans
OUT/refused.jsonl                one line for each scan that was refused: id, where, code, reason
OUT/key                          the secret that makes the ids; remove it before giving the store away
```

Neither study names nor patients are written: ids are keyed hashes (`ctscribe.data.pseudonym`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.data.anatomy import Segmentation
from ctscribe.data.batch import Sample, with_outlines
from ctscribe.data.chunked import save_volume
from ctscribe.data.deidentify.headers import identifiers_in
from ctscribe.data.deidentify.text import scrub, without_placeholders
from ctscribe.data.fingerprint import fingerprint
from ctscribe.data.outlines import Outlines, joined, largest_first, outline_of_points
from ctscribe.data.pseudonym import Pseudonyms
from ctscribe.data.sources import Lesion, Source, SourceStudy
from ctscribe.data.sources.reading import read_scan
from ctscribe.data.sources.truth import Truth, truth_of
from ctscribe.data.store import StoreLayout, StudyStoreWriter, written_ids, written_rows
from ctscribe.data.summary import refused_codes
from ctscribe.errors import InputRefused, TrainingError
from ctscribe.pipeline.lesions import outlines_of_map
from ctscribe.tensors import Volume
from ctscribe.training.failures import check_disk, clear_failures
from ctscribe.training.jobs import Job, Jobs, check_same_way, days_since_prior, scrubbed, splits_of
from ctscribe.training.prepare import Preparation

IN_FLIGHT = 2
"""Studies that may wait for each process: bounds the memory."""
Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Filled:
    """What came of a run.

    Attributes:
        written: studies this run added; there: studies that were there before.
        refused: code of the reason -> scans, those of earlier runs included.
        scrubbed: identifying passages taken out of texts.
        since: who says how many days lie since the earlier scan -> studies of the store.
    """

    written: int = 0
    there: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    scrubbed: int = 0
    since: Counter[str] = field(default_factory=Counter)


def fill_from_source(
    source: Source,
    out: Path | str,
    prepare: Preparation,
    *,
    processes: int = 1,
    limit: int | None = None,
    scrub_texts: bool = True,
    volumes: Path | None = None,
    show: Show | None = None,
) -> Filled:
    """Prepare what is not there yet; may be stopped and called again at any time.

    Args:
        source: the data set.
        out: the store's folder, made if needed.
        prepare: how a scan is read and placed.
        processes: that prepare at the same time.
        limit: stop after so many studies of the source.
        scrub_texts: take identifying passages out of the texts (see `ctscribe.data.deidentify.text`).
        volumes: also keep each scan at full resolution there (`ctscribe.data.chunked`), under the study's id.
        show: called with (done, all).

    Raises:
        UsageError: the source or the store is not what it should be, or the store holds some of these studies and they
            were prepared otherwise.
        TrainingError: a process died, or the disk is full.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    names = Pseudonyms.from_file(out / "key")
    studies = list(source.studies())[:limit]
    prepare.check()
    by_name = {study.study: study for study in studies}
    make = Jobs(source, names, prepare, splits_of(studies), scrub_texts, volumes, by_name)
    jobs = [make.job(study) for study in studies]
    scans, texts = [j for j in jobs if j.study.image is not None], [j for j in jobs if j.study.image is None]
    with clear_failures(out):
        result = _fill_texts(texts, out)
        return _fill_scans(scans, out, prepare, processes, show, result) if scans else result


# ------------------------------------------------------------------------------------------- scans


def _fill_scans(
    jobs: list[Job], out: Path, prepare: Preparation, processes: int, show: Show | None, before: Filled
) -> Filled:
    layout = StoreLayout.current(prepare.grid.shape, prepare.region_grid, None)
    check_same_way(jobs, out)
    refusals = {row["id"]: row.get("prepared", "") for row in read_refused(out)}
    done = written_ids(out) | {job.id for job in jobs if refusals.get(job.id) in ("", job.extra["prepared"])}
    missing = [job for job in jobs if job.id not in done]
    written, scrubbed = 0, before.scrubbed
    if missing:
        check_disk(out, len(missing) * layout.study_bytes, "the prepared studies")
        shard = len(list(out.glob("shard-*")))
        with (
            StudyStoreWriter(out, layout, shard=shard, capacity=len(missing)) as writer,
            _whole_lines(out / "refused.jsonl").open("a", encoding="utf-8") as refused,
        ):
            for number, outcome in enumerate(_outcomes(missing, processes), 1):
                if isinstance(outcome, Refusal):
                    refused.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
                    refused.flush()
                else:
                    sample, extra = outcome
                    writer.append(sample, **extra)
                    written, scrubbed = written + 1, scrubbed + extra["scrubbed"]
                if show is not None:
                    show(number, len(missing))
    since = Counter(row["extra"]["since"] for row in written_rows(out) if "since" in row.get("extra", {}))
    there = before.there + len(jobs) - len(missing)
    return Filled(before.written + written, there, refused_codes(out), scrubbed, since)


@dataclass(frozen=True)
class Refusal:
    """A scan that cannot be used, and why; `prepared` says how it was tried, see `Jobs.how`."""

    id: str
    where: str
    code: str
    reason: str
    prepared: str


Outcome = Refusal | tuple[Sample, dict[str, Any]]


def _outcomes(jobs: list[Job], processes: int) -> Iterator[Outcome]:
    """Results in the order of the jobs, so that a store does not depend on how many processes filled it."""
    if processes <= 1:
        yield from map(prepare_job, jobs)
        return
    # Spawned, not forked: the parent may have started threads.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start) as pool:
        waiting: list[Future[Outcome]] = []
        try:
            for job in jobs:
                waiting.append(pool.submit(prepare_job, job))
                if len(waiting) >= IN_FLIGHT * processes:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()
        except BrokenProcessPool as error:
            raise TrainingError(
                "a process that prepared scans was ended from outside",
                got="most often too little memory",
                hint="run it again with fewer --processes: it continues",
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _start() -> None:
    """One thread for each process, and room for what people do beside it."""
    import torch

    torch.set_num_threads(1)
    os.nice(5)


def prepare_job(job: Job) -> Outcome:
    """One study, or why it cannot be used. Runs in a process of its own."""
    try:
        study = read_scan(job.study, job.prepare.policy)
        since = days_since_prior(job, study)
        outlined = job.prepare.outline(study, job.study.regions, job.study.where)
        sample, grid = job.prepare.sample(study, outlined, job.id)
        mapped = _mapped(job, study.volume, grid)
    except InputRefused as error:
        return Refusal(job.id, job.study.where, error.code, _reason(job, error), job.extra["prepared"])
    if job.volumes is not None:
        save_volume(job.volume, study.volume)
    if job.scrub and job.study.image is not None and (job.study.findings or job.study.impression or job.study.history):
        # The headers know names that the manifest does not.
        cleaned, found = scrubbed(job.study, identifiers_in(job.study.image))
        job = replace(job, study=cleaned, extra={**job.extra, "scrubbed": job.extra["scrubbed"] + found})
    lesions = [_with_place(lesion, outlined.chest, study.volume) for lesion in _lesions(job, study)]
    truth = truth_of(job.study, lesions)
    boxes, kinds = boxes_on_grid(lesions, grid)
    sample = replace(
        sample,
        findings=truth.findings,
        exhaustive=job.study.exhaustive,
        text=without_placeholders(truth.text, job.study.language) or None,
        language=job.study.language,
        boxes=boxes,
        box_kinds=kinds,
        outlines=joined([part for part in (_outlined(job.study, lesions, grid), mapped) if part is not None]),
        history=without_placeholders(job.study.history, job.study.language),
        labs=job.study.labs,
        prior_days=None if since is None else since.days,
    )
    if since is not None:
        job = replace(job, extra={**job.extra, "since": since.origin})
    told = {"spacing_read": list(study.ingest.stored_spacing), "masks": outlined.segmentation.source}
    return with_outlines(sample), {**job.extra, **_account(job, truth, sample), **told}


def _outlined(study: SourceStudy, lesions: list[Lesion], grid: Volume) -> Outlines | None:
    """What the annotation outlined, on the model's grid; None where there is none, or only boxes."""
    if study.annotation is None or any(lesion.points is None or lesion.point_mm is None for lesion in lesions):
        return None
    found = (
        outline_of_points(
            lesion.finding.kind, lesion.points, lesion.point_mm, grid, sure=lesion.finding.status == "present"
        )
        for lesion in lesions
        if lesion.points is not None and lesion.point_mm is not None
    )
    return Outlines(grid.shape, largest_first(x for x in found if x is not None), study.looked_for or None)


def _mapped(job: Job, scan: Volume, grid: Volume) -> Outlines | None:
    """Lesions of the label map that comes with the scan."""
    if job.study.lesions is None:
        return None
    return outlines_of_map(job.study.lesions, scan, job.prepare.lesions_scheme, grid)


def _reason(job: Job, error: InputRefused) -> str:
    """What is wrong, without the name of the file: file names are identifiers too."""
    named = [p.name for p in (job.study.image, job.study.regions, job.study.lesions) if p is not None]
    return scrub(error.what, (*named, *(Path(n).stem for n in named), job.study.study, job.study.patient)).text


def _lesions(job: Job, study: Any) -> tuple[Lesion, ...]:
    return () if job.study.annotation is None else job.study.annotation(study)


def _account(job: Job, truth: Truth, sample: Sample) -> dict[str, Any]:
    kept: dict[str, Any] = {"print": fingerprint(sample.hu)}
    if job.study.impression:
        kept["impression"] = without_placeholders(job.study.impression, job.study.language)
    if job.study.sentences:
        kept["sentences"] = [list(pair) for pair in job.study.sentences]
    if truth.conflicts:
        kept["conflicts"] = list(truth.conflicts)
    return kept


def _with_place(lesion: Lesion, segmentation: Segmentation, volume: Volume) -> Lesion:
    """Names the lung a lesion lies in. Not the lobe: the built-in lobes are approximate, and this becomes truth."""
    if lesion.finding.regions:
        return lesion
    middle = (np.array(lesion.low) + np.array(lesion.high)) / 2
    half_x = float(volume.affine.to_world((np.array(volume.shape) - 1) / 2)[0])
    distances = {}
    for region in ("right_lung", "left_lung"):
        if segmentation.has(region):
            index = np.argwhere(segmentation.mask(region)[::4, ::4, ::4]) * 4
            world = volume.affine.to_world(index)
            distances[region] = float(np.linalg.norm(world - middle, axis=1).min()) if len(index) else np.inf
    if not distances:
        distances = {"left_lung": -(middle[0] - half_x), "right_lung": middle[0] - half_x}
    region = min(distances, key=lambda name: distances[name])
    return replace(lesion, finding=replace(lesion.finding, regions=(region,)))


def boxes_on_grid(lesions: Iterable[Lesion], grid: Volume) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Boxes (z, y, x) low and high in mm from the middle of the grid, of the lesions that are surely there."""
    there = [lesion for lesion in lesions if lesion.finding.status == "present"]
    if not there:
        return None, ()
    middle = grid.affine.to_world((np.array(grid.shape) - 1) / 2)
    corners = [[*(np.array(end) - middle)[::-1]] for lesion in there for end in (lesion.low, lesion.high)]
    return np.array(corners, np.float32).reshape(-1, 6), tuple(lesion.finding.kind for lesion in there)


def read_refused(out: Path | str) -> list[dict[str, str]]:
    """Refusals of a store so far."""
    path = Path(out) / "refused.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _whole_lines(path: Path) -> Path:
    """Cuts off half a line that a killed run left at the end."""
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as handle:
                handle.truncate(whole)
    return path


# ------------------------------------------------------------------------------------------- texts


def _fill_texts(jobs: list[Job], out: Path) -> Filled:
    """Reports without scans: one JSON line each, written anew as a whole."""
    if not jobs:
        return Filled()
    path = out / "texts.jsonl"
    rows = [
        {
            "id": job.id,
            "language": job.study.language,
            "findings": without_placeholders(job.study.findings, job.study.language),
            "impression": without_placeholders(job.study.impression, job.study.language),
            **job.extra,
        }
        for job in jobs
    ]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    os.replace(temporary, path)
    return Filled(written=len(rows), scrubbed=sum(row["scrubbed"] for row in rows))
