"""One study as a training sample, and many as a batch.

```
Sample (numpy, one study)  --transforms(sample, rng)-->  Sample  --Collate-->  StudyBatch (torch)
```
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int16, UInt8
from torch import Tensor

from ctscribe import ontology
from ctscribe.beside import StudyBeside, change_between, change_labels, history_ids, lab_values
from ctscribe.data.outlines import Outlines
from ctscribe.data.targets import Targets, targets_from_findings
from ctscribe.errors import TrainingError
from ctscribe.facts import FindingFacts, facts_of
from ctscribe.report import Finding
from ctscribe.tensors import RegionMasks, VolumeBatch

IGNORE = -100
MOST_LESIONS = 32
"""Lesions of a study that a batch holds one by one, the largest first; as tokens it holds them all."""


@dataclass(frozen=True)
class Sample:
    """One study on the model's grid.

    Attributes:
        id: name without any patient identifier.
        hu: Hounsfield units.
        spacing: (z, y, x) mm.
        occupancy: share of each cell that each model region fills, 0 for none to 255 for all.
        present: False where the region's mask is absent.
        findings: structured truth, None when there is none.
        exhaustive: True when a kind that `findings` does not mention is absent.
        dense: fine tokens that hold lesion voxels, per finding kind; None when lesions were not outlined.
        valid: False where the grid was padded, None when it was not.
        text: report to learn to write, None when there is none; `language` is its code.
        lesions: share of each cell that each outlined lesion fills, 0 to 255, on the grid of `occupancy`; an input of
            the model (from a nodule detector, say), unlike `dense`, which is truth. None when nobody outlined any.
        lesion_kinds: index of each lesion's kind in ``ontology.findings()``, -1 where not known.
        boxes: truth where lesions were boxed, not outlined: (z, y, x) of the low, then of the high corner of each, in
            mm from the middle of the grid. `box_kinds` are their kinds.
        outlines: truth where lesions were outlined, voxel by voxel; `dense`, `lesions` and boxes follow from it (see
            `with_outlines`). None when nobody outlined any.
        history: the clinical history, "" when there is none.
        labs: laboratory values by the names of `ctscribe.beside.lab_names`.
        prior: an earlier scan of the same patient; `prior_days` lie between them, None where not known.
    """

    id: str
    hu: Int16[np.ndarray, "z y x"]
    spacing: tuple[float, float, float]
    occupancy: UInt8[np.ndarray, "r gz gy gx"]
    present: Bool[np.ndarray, " r"]
    findings: tuple[Finding, ...] | None = None
    exhaustive: bool = True
    dense: Bool[np.ndarray, "f t h w"] | None = None
    valid: Bool[np.ndarray, "z y x"] | None = None
    text: str | None = None
    language: str | None = None
    lesions: UInt8[np.ndarray, "l gz gy gx"] | None = None
    lesion_kinds: Int[np.ndarray, " l"] | None = None
    boxes: Float[np.ndarray, "o 6"] | None = None
    box_kinds: tuple[str, ...] = ()
    outlines: Outlines | None = None
    history: str = ""
    labs: tuple[tuple[str, float], ...] = ()
    prior: Sample | None = None
    prior_days: float | None = None


def with_outlines(sample: Sample) -> Sample:
    """The sample with the lesion tokens and the single lesions that its outlines say, where it has none of its own."""
    found = sample.outlines
    if found is None:
        return sample
    grid: tuple[int, int, int] = sample.occupancy.shape[1:]
    dense = found.flags(grid) if sample.dense is None else sample.dense
    if sample.lesions is not None or not found.sure:
        return replace(sample, dense=dense)
    return replace(sample, dense=dense, lesions=found.shares(grid), lesion_kinds=found.kinds())


@dataclass(frozen=True)
class StudyBatch:
    """What a model is trained on. Text fields are None when no sample has a text, `targets` when none has truth.

    `labels` are aligned with `input_ids`; -100 where nothing is to be learned (prompt, padding, no text).
    """

    volume: VolumeBatch
    regions: RegionMasks
    targets: Targets | None
    facts: FindingFacts | None
    input_ids: Int[Tensor, "b l"] | None
    labels: Int[Tensor, "b l"] | None
    attention: Int[Tensor, "b l"] | None
    languages: tuple[str, ...]
    ids: tuple[str, ...]
    beside: StudyBeside | None = None

    def to(self, device: torch.device | str) -> StudyBatch:
        """The same batch on another device."""
        return StudyBatch(**{f.name: move(getattr(self, f.name), device) for f in fields(self)})


@runtime_checkable
class ReportCoder(Protocol):
    """Turns a report into token ids and labels (`language.prompt.ReportTokenizer` does)."""

    pad: int

    def example(self, text: str, language: str, longest: int) -> tuple[list[int], list[int]]: ...


class Collate:
    """Samples -> `StudyBatch`.

    Args:
        coder: makes tokens of the texts; None for stages that do not write.
        longest: tokens after which a text is cut.
    """

    def __init__(self, coder: ReportCoder | None = None, longest: int = 640) -> None:
        self.coder, self.longest = coder, longest

    def __call__(self, samples: Sequence[Sample]) -> StudyBatch:
        truths = [s.findings for s in samples]
        ids, labels, attention = self._tokens(samples)
        return StudyBatch(
            volume=_volumes(samples),
            regions=_regions(samples),
            targets=_targets(samples),
            facts=None if all(t is None for t in truths) else facts_of([t or () for t in truths]),
            input_ids=ids,
            labels=labels,
            attention=attention,
            languages=tuple(s.language or "" for s in samples),
            ids=tuple(s.id for s in samples),
            beside=_beside(samples),
        )

    def _tokens(self, samples: Sequence[Sample]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if self.coder is None or all(s.text is None for s in samples):
            return None, None, None
        examples = [
            ([], []) if s.text is None else self.coder.example(s.text, s.language or "en", self.longest)
            for s in samples
        ]
        return pad_examples(examples, self.coder.pad)


def pad_examples(
    examples: Sequence[tuple[list[int], list[int]]], pad: int
) -> tuple[Int[Tensor, "b l"], Int[Tensor, "b l"], Int[Tensor, "b l"]]:
    """(ids, labels) of different lengths -> ids, labels, attention mask, padded on the right."""
    longest = max(len(ids) for ids, _ in examples)
    rows = len(examples)
    ids = torch.full((rows, longest), pad)
    labels = torch.full((rows, longest), IGNORE)
    attention = torch.zeros((rows, longest), dtype=torch.long)
    for row, (tokens, targets) in enumerate(examples):
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        labels[row, : len(targets)] = torch.tensor(targets, dtype=torch.long)
        # A study without text attends to its first padding token: an empty row would be softmax over nothing.
        attention[row, : max(1, len(tokens))] = 1
    return ids, labels, attention


def move(value: Any, device: torch.device | str) -> Any:
    """Tensors and the shared dataclasses of tensors to a device; anything else as it is."""
    if isinstance(value, Tensor) or hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, VolumeBatch | RegionMasks):
        return type(value)(**{f.name: move(getattr(value, f.name), device) for f in fields(value)})
    return value


def _volumes(samples: Sequence[Sample]) -> VolumeBatch:
    shapes = {s.hu.shape for s in samples}
    if len(shapes) > 1:
        raise TrainingError(
            "studies of different shapes in one batch",
            expected="all on the model's grid",
            got=", ".join(map(str, sorted(shapes))),
        )
    valid = None
    if any(s.valid is not None for s in samples):
        whole = [np.ones(s.hu.shape, bool) if s.valid is None else s.valid for s in samples]
        valid = torch.from_numpy(np.stack(whole))
    return VolumeBatch(
        hu=torch.from_numpy(np.stack([s.hu for s in samples])).float(),
        spacing=torch.tensor([s.spacing for s in samples], dtype=torch.float32),
        valid=valid,
    )


def _regions(samples: Sequence[Sample]) -> RegionMasks:
    occupancy: Float[Tensor, "b r z y x"] = torch.from_numpy(np.stack([s.occupancy for s in samples])).float()
    lesions, kinds = _lesions(samples)
    return RegionMasks(
        occupancy=occupancy / 255,
        present=torch.from_numpy(np.stack([s.present for s in samples])),
        names=ontology.model_regions(),
        lesions=lesions,
        lesion_kinds=kinds,
    )


def _lesions(samples: Sequence[Sample]) -> tuple[Float[Tensor, "b l z y x"] | None, Int[Tensor, "b l"] | None]:
    """Outlined lesions, padded with empty ones to the longest list; None when no sample has any."""
    most = min(MOST_LESIONS, max(0 if s.lesions is None else len(s.lesions) for s in samples))
    if not most:
        return None, None
    masks = torch.zeros(len(samples), most, *samples[0].occupancy.shape[1:])
    kinds = torch.full((len(samples), most), -1)
    for row, sample in enumerate(samples):
        if sample.lesions is not None:
            count = min(most, len(sample.lesions))
            masks[row, :count] = torch.from_numpy(sample.lesions[:count]).float() / 255
            if sample.lesion_kinds is not None:
                kinds[row, :count] = torch.from_numpy(np.asarray(sample.lesion_kinds)[:count])
    return masks, kinds


def _targets(samples: Sequence[Sample]) -> Targets | None:
    if all(s.findings is None and s.boxes is None and s.outlines is None for s in samples):
        return None
    targets = targets_from_findings(
        [s.findings or () for s in samples],
        exhaustive=[s.exhaustive and s.findings is not None for s in samples],
        dense=[s.dense for s in samples],
    )
    targets = replace(targets, change=change_labels([_changes(s) for s in samples]))
    return _with_lesions(targets, samples)


def _with_lesions(targets: Targets, samples: Sequence[Sample]) -> Targets:
    """Boxes, kinds and masks of single lesions, padded to the longest list, and which kinds were outlined."""
    order, truths = list(ontology.findings()), [s.outlines for s in samples]
    listed = [_lesions_of(s, order) for s in samples]
    most = min(MOST_LESIONS, max(len(boxes) for boxes, _, _ in listed))
    if any(truths) and targets.dense is not None:
        known = [np.ones(len(order), bool) if t is None else t.known() for t in truths]
        targets = replace(
            targets, dense=_with_doubt(targets.dense, truths), dense_kinds=torch.from_numpy(np.stack(known))
        )
    if not most:
        return targets
    rows, grid = len(samples), samples[0].occupancy.shape[1:]
    boxes, kinds = torch.zeros(rows, most, 6), torch.full((rows, most), -1)
    masks = torch.zeros(rows, most, *grid) if any(truths) else None
    for row, (some, columns, shares) in enumerate(listed):
        count = min(most, len(some))
        boxes[row, :count] = torch.from_numpy(some[:count]).float()
        kinds[row, :count] = torch.tensor(columns[:count])
        if masks is not None and shares is not None:
            masks[row, :count] = torch.from_numpy(shares[:count]).float() / 255
    return replace(targets, boxes=boxes, box_kinds=kinds, box_masks=masks)


def _lesions_of(sample: Sample, order: Sequence[str]) -> tuple[np.ndarray, list[int], np.ndarray | None]:
    """(boxes in mm, columns of the kinds, shares of the cells of the region grid) of a sample's single lesions."""
    found = sample.outlines
    if found is not None:
        grid: tuple[int, int, int] = sample.occupancy.shape[1:]
        return found.boxes(sample.spacing), found.kinds().tolist(), found.shares(grid)
    if sample.boxes is None:
        return np.zeros((0, 6), np.float32), [], None
    return sample.boxes, [order.index(kind) for kind in sample.box_kinds], None


def _with_doubt(dense: Float[Tensor, "b f t h w"], truths: Sequence[Outlines | None]) -> Float[Tensor, "b f t h w"]:
    """0.5 where readers disagree."""
    for row, found in enumerate(truths):
        if found is not None and len(found.sure) < len(found.lesions):
            grid: tuple[int, int, int] = tuple(dense.shape[2:])  # type: ignore[assignment]
            doubtful = torch.from_numpy(found.doubtful(grid)) & (dense[row] == 0)
            dense[row] = torch.where(doubtful, 0.5, dense[row])
    return dense


def _changes(sample: Sample) -> dict[str, Any] | None:
    """What became of each finding; None where either scan's findings are not known completely."""
    prior = sample.prior
    if prior is None or sample.findings is None or prior.findings is None:
        return None
    return change_between(prior.findings, sample.findings) if sample.exhaustive and prior.exhaustive else None


def _beside(samples: Sequence[Sample]) -> StudyBeside | None:
    """Everything that some sample brings beside its scan; None when none brings anything."""
    known = StudyBeside(history=history_ids([s.history for s in samples]), labs=lab_values([s.labs for s in samples]))
    if any(s.prior is not None for s in samples):
        earlier = [_no_scan(s) if s.prior is None else s.prior for s in samples]
        days = [math.nan if s.prior_days is None else s.prior_days for s in samples]
        known = replace(
            known,
            prior=_volumes(earlier),
            prior_regions=_regions(earlier),
            prior_given=torch.tensor([s.prior is not None for s in samples]),
            days=torch.tensor(days, dtype=torch.float32),
        )
    return known if known.given else None


def _no_scan(sample: Sample) -> Sample:
    """Air without regions, in the place of an earlier scan that does not exist."""
    return Sample(
        id=sample.id,
        hu=np.full_like(sample.hu, -1000),
        spacing=sample.spacing,
        occupancy=np.zeros_like(sample.occupancy),
        present=np.zeros_like(sample.present),
    )
