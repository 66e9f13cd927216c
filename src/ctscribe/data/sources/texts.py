"""Reports without scans, for teaching the writer alone: MIMIC-CXR and OpenI.

Both are about chest radiographs, not CT: they teach the language of the field, not its facts. Both were
de-identified by replacing words with ``___`` or ``XXXX``; sentences with such a gap are left out, so that a writer does
not learn to write gaps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ctscribe.data.reports import split_report
from ctscribe.data.sources.study import SourceStudy
from ctscribe.data.sources.tables import read_table
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.report.document import split_sentences

_GAP = re.compile(r"_{2,}|X{3,}")
_SPLITS = {"train": "train", "validate": "validation", "test": "test"}
_HEADING = re.compile(r"^[ \t]*(FINDINGS?|IMPRESSIONS?|CONCLUSIONS?)[ \t]*:", re.MULTILINE)


@dataclass(frozen=True)
class MimicCxr:
    """MIMIC-CXR's reports: ``files/p10/p10000032/s50414267.txt``, and ``mimic-cxr-2.0.0-split.csv`` if it is there.

    Source: Johnson et al., doi 10.13026/C2JT1Q.
    """

    root: Path
    name: str = "mimic-cxr"
    licence: str = "PhysioNet Credentialed Health Data Use Agreement 1.5.0: not to be shared; chest radiographs"

    def studies(self) -> Iterator[SourceStudy]:
        """By patient and study number; reports with neither findings nor impression are left out."""
        splits = self._splits()
        paths = sorted(self.root.rglob("p[0-9]*/s[0-9]*.txt"))
        if not paths:
            raise UsageError(
                f"source mimic-cxr: {self.root.name}", expected="files/p10/p10000032/s50414267.txt", got="none"
            )
        for number, path in enumerate(paths, 1):
            text = _HEADING.sub(lambda mark: f"{mark[1].title()}:", path.read_text(encoding="utf-8", errors="replace"))
            parts = split_report(text)
            named = any(_HEADING.finditer(text)) or "Findings:" in text or "Impression:" in text
            findings, impression = without_gaps(parts.findings), without_gaps(parts.impression)
            if named and (findings or impression):
                yield SourceStudy(
                    study=path.stem,
                    patient=path.parent.name,
                    where=f"report {number}",
                    findings=findings,
                    impression=impression,
                    exhaustive=False,
                    split=splits.get(path.stem.removeprefix("s")),  # type: ignore[arg-type]
                )

    def _splits(self) -> dict[str, str]:
        """Study number -> split."""
        table = next(iter(sorted(self.root.glob("mimic-cxr-*split.csv"))), None)
        if table is None:
            return {}
        return {row["study_id"]: _SPLITS.get(row["split"], "train") for row in read_table(table, ("study_id", "split"))}


@dataclass(frozen=True)
class OpenI:
    """The Indiana University collection: ``ecgen-radiology/1.xml`` with FINDINGS and IMPRESSION. One report each
    patient, as nothing links them.

    Source: Demner-Fushman et al., doi 10.1093/jamia/ocv080.
    """

    root: Path
    name: str = "openi"
    licence: str = "CC BY-NC-ND 4.0: cite doi 10.1093/jamia/ocv080; chest radiographs"

    def studies(self) -> Iterator[SourceStudy]:
        """In the order of the numbers in the file names."""
        paths = sorted(self.root.rglob("*.xml"), key=lambda path: (len(path.stem), path.stem))
        if not paths:
            raise UsageError(f"source openi: {self.root.name}", expected="ecgen-radiology/1.xml", got="no .xml file")
        for path in paths:
            parts = _abstract(path)
            findings, impression = without_gaps(parts.get("findings", "")), without_gaps(parts.get("impression", ""))
            if findings or impression:
                yield SourceStudy(
                    study=path.stem,
                    patient=path.stem,
                    where=f"{path.stem}.xml",
                    findings=findings,
                    impression=impression,
                    exhaustive=False,
                )


def without_gaps(text: str) -> str:
    """The sentences in which nothing was blacked out, on one line."""
    plain = " ".join(text.split())
    return " ".join(sentence for sentence in split_sentences(plain, "en") if not _GAP.search(sentence))


def _abstract(path: Path) -> dict[str, str]:
    """Label -> text of the parts of one report."""
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise UnreadableInput(
            f"{path.name} is not XML", code="not_xml", expected="a report of the collection", got=str(error)
        ) from error
    return {part.get("Label", "").lower(): part.text or "" for part in tree.iter("AbstractText")}
