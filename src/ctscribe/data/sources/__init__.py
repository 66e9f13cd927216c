"""One adapter for each public data set; all yield the same `SourceStudy`.

| name | holds | module |
| --- | --- | --- |
| ``folder`` | scans and texts listed in a manifest | `folder` |
| ``ct-rate`` | scans, reports, 18 labels, sentences by region | `ct_rate` |
| ``lidc-idri`` | scans, outlined nodules; synthetic reports | `lidc` |
| ``nlst`` | scans, tables of abnormalities, yearly rounds; synthetic reports | `nlst` |
| ``mimic-cxr``, ``openi`` | texts only | `texts` |
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ctscribe.data.sources.study import Annotation, Lesion, Source, SourceStudy
from ctscribe.errors import UsageError

SOURCES = {
    "folder": "folder.Folder",
    "ct-rate": "ct_rate.CTRate",
    "lidc-idri": "lidc.Lidc",
    "nlst": "nlst.Nlst",
    "mimic-cxr": "texts.MimicCxr",
    "openi": "texts.OpenI",
}
"""Word on the command line -> module and class."""

__all__ = ["SOURCES", "Annotation", "Lesion", "Source", "SourceStudy", "open_source"]


def open_source(name: str, root: Path | str) -> Source:
    """The data set called `name` that lies at `root`.

    Raises:
        UsageError: no such source, or nothing at `root`.
    """
    if name not in SOURCES:
        raise UsageError(f"source {name!r}", expected=", ".join(SOURCES), hint="`folder` reads any manifest")
    root = Path(root)
    if not root.exists():
        raise UsageError(f"source {name}: {root}", expected="the data set's folder or file", got="nothing there")
    module, _, cls = SOURCES[name].partition(".")
    found: Source = getattr(import_module(f"{__name__}.{module}"), cls)(root)
    return found
