"""Manifest -> torch dataset. The batch types, the store and the cache are re-exported here for convenience."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ctscribe.data.augment import Augment
from ctscribe.data.batch import Collate, Sample, StudyBatch, pad_examples
from ctscribe.data.cache import StudyCache
from ctscribe.data.manifest import ManifestRow
from ctscribe.data.store import BESIDE, StoreLayout, StudyStore, StudyStoreWriter
from ctscribe.data.targets import Targets, targets_from_findings
from ctscribe.errors import CTScribeError, TrainingError, UsageError
from ctscribe.report import Finding

__all__ = [
    "Augment",
    "Collate",
    "ManifestDataset",
    "Sample",
    "StoreLayout",
    "StudyBatch",
    "StudyCache",
    "StudyStore",
    "StudyStoreWriter",
    "Targets",
    "pad_examples",
    "targets_from_findings",
]

Prepare = Callable[[ManifestRow], Sample]
"""Reads the scan of a row and puts it and its regions on the model's grid; words are not its business."""

Reader = Callable[[str, str], tuple[Finding, ...]]
"""(findings text, language) -> structured findings."""


class ManifestDataset:
    """A map-style dataset of the studies of a manifest, each prepared once and cached.

    A sample's id is the row's line number ("line 12"): nothing of a patient leaves the manifest.

    Args:
        rows: e.g. ``manifest.only("train").rows``.
        prepare: see `Prepare`; `ctscribe.training.prepare.Preparation` does what inference does.
        cache: where prepared studies are kept; None prepares again at each reading.
        reader: finds structured findings in the text of rows that bring none; None leaves them without truth.
        exhaustive: True when a finding that a report does not mention is taken to be absent.
        beside: what samples bring beside their scan, out of `ctscribe.data.store.BESIDE`. Priors must be among the
            rows; their scans are prepared and cached once.
    """

    def __init__(
        self,
        rows: Sequence[ManifestRow],
        prepare: Prepare,
        *,
        cache: StudyCache | None = None,
        reader: Reader | None = None,
        exhaustive: bool = True,
        beside: Sequence[str] = BESIDE,
    ) -> None:
        self.rows, self.prepare, self.cache = tuple(rows), prepare, cache
        self.reader, self.exhaustive, self.beside = reader, exhaustive, tuple(beside)
        self._by_study = {row.study: row for row in self.rows}
        lost = [row.line for row in self.rows if row.prior is not None and row.prior not in self._by_study]
        if lost and "prior" in self.beside:
            raise UsageError(
                f"line {lost[0]}: its prior is not among the rows",
                expected="all studies of a patient together",
                hint="leave `prior` out of `beside`, or take whole splits (Manifest.only)",
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        sample = self._sample(row)
        before = self._by_study[row.prior] if row.prior is not None and "prior" in self.beside else None
        return replace(
            sample,
            prior=None if before is None else self._sample(before),
            prior_days=None if before is None else row.prior_days,
            history=row.history if "history" in self.beside else "",
            labs=row.labs if "labs" in self.beside else (),
        )

    def _sample(self, row: ManifestRow) -> Sample:
        """One scan and what its report says."""
        findings = row.structured
        if findings is None and row.findings and self.reader is not None:
            findings = self.reader(row.findings, row.language)
        return replace(
            self._image(row),
            findings=findings,
            exhaustive=self.exhaustive,
            text=row.findings or None,
            language=row.language,
        )

    def warm(self, show: Callable[[int, int], None] | None = None) -> None:
        """Prepare every study once, so that a scan that cannot be used is found before training starts.

        Args:
            show: called with (done, all) after each study.

        Raises:
            TrainingError: lists the rows whose scans were refused, with the reasons.
        """
        refused = []
        for done, row in enumerate(self.rows, 1):
            try:
                self._image(row)
            except CTScribeError as error:
                refused.append(f"  line {row.line}: {error.what}")
            if show is not None:
                show(done, len(self.rows))
        if refused:
            raise TrainingError(
                f"{len(refused)} of {len(self.rows)} scans cannot be used:\n" + "\n".join(refused[:20]),
                hint="take these rows out of the manifest, or look at each with `ctscribe inspect PATH`",
            )

    def _image(self, row: ManifestRow) -> Sample:
        name = f"line {row.line}"
        if self.cache is None:
            return replace(self.prepare(row), id=name)
        key = self.cache.key(row.image, *(path for path in (row.regions, row.lesions) if path is not None))
        found = self.cache.get(key, name)
        if found is None:
            found = replace(self.prepare(row), id=name)
            self.cache.put(key, found)
        return found
