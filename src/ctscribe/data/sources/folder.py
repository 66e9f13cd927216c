"""Scans and reports of one's own, listed in a manifest (see `ctscribe.data.manifest`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctscribe.data.manifest import Manifest, read_manifest
from ctscribe.data.sources.study import SourceStudy
from ctscribe.data.sources.tables import first_existing
from ctscribe.errors import UsageError


@dataclass(frozen=True)
class Folder:
    """A manifest, or a folder that holds ``manifest.csv`` or ``manifest.jsonl``.

    Args:
        root: the file or the folder.
        exhaustive: True when a finding that a report does not mention is taken to be absent.
    """

    root: Path
    exhaustive: bool = True
    name: str = "folder"
    licence: str = "yours to know"

    def studies(self) -> Iterator[SourceStudy]:
        """Rows in the order of the manifest."""
        for row in self.manifest():
            yield SourceStudy(
                study=row.study,
                patient=row.patient,
                where=f"line {row.line}",
                image=row.image,
                findings=row.findings,
                impression=row.impression,
                language="zh" if row.language == "zh" else "en",
                structured=row.structured,
                exhaustive=self.exhaustive,
                regions=row.regions,
                lesions=row.lesions,
                prior=row.prior,
                split=row.split,
                prior_days=row.prior_days,
                history=row.history,
                labs=row.labs,
            )

    def manifest(self) -> Manifest:
        """The manifest itself.

        Raises:
            UsageError: there is none, or something in it is wrong.
        """
        path = first_existing(self.root, "manifest.csv", "manifest.jsonl") if self.root.is_dir() else self.root
        if path is None:
            raise UsageError(
                f"folder {self.root.name}",
                expected="manifest.csv or manifest.jsonl in it",
                got="neither",
                hint="list the studies in one: see the page 'Train on your pairs'",
            )
        return read_manifest(path)
