"""Reports without scans as (findings, text, language): what language pretraining learns from."""

from __future__ import annotations

import json
from pathlib import Path

from ctscribe.errors import UsageError
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import parse

TextSample = tuple[tuple[Finding, ...], str, Language]


class TextSamples:
    """A map-style dataset of the reports in ``texts.jsonl`` from which at least one finding can be read.

    Args:
        root: folder that ``ctscribe prepare`` wrote, or the file itself.
        split: only this split; None for all.

    Raises:
        UsageError: there is no such file, or no report in it can be used.
    """

    def __init__(self, root: Path | str, split: str | None = None) -> None:
        path = Path(root) / "texts.jsonl" if Path(root).is_dir() else Path(root)
        if not path.is_file():
            raise UsageError(f"texts {path}", expected="texts.jsonl", got="nothing there", hint="ctscribe prepare")
        self._samples: list[TextSample] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text, language = row.get("findings") or row.get("impression") or "", row.get("language", "en")
            if text and (split is None or row.get("split") == split) and (known := tuple(parse(text, language))):
                self._samples.append((known, text, language))
        if not self._samples:
            raise UsageError(f"texts {path}", expected="reports that state a finding", got="none in this split")

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> TextSample:
        return self._samples[index]
