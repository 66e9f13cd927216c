"""The table of defects: what is wrong, how to make it, and what reading it must give.

The rows lie in `ingest_files`, `ingest_geometry`, `ingest_values`, `ingest_folders` and `ingest_nifti`; each registers
its own when it is imported, in the order of the page.
"""

from __future__ import annotations

# isort: off
import ingest_files  # noqa: F401
import ingest_geometry  # noqa: F401
import ingest_values  # noqa: F401
import ingest_folders  # noqa: F401
import ingest_nifti  # noqa: F401

# isort: on
from ingest_kit import CASES, Case

SECTIONS = {
    "encoding_explicit_little_endian": "Encodings",
    "reversed_numbers": "Order and files",
    "coronal": "Orientation and tilt",
    "one_missing": "Slice spacing and coverage",
    "imager_spacing": "Missing tags",
    "varying_rescale": "Hounsfield units",
    "copies": "Several things in one folder",
    "enhanced": "Multi-frame",
    "modality_mr": "What the scan shows",
    "nifti_qform": "NIfTI",
}


def row(case: Case) -> str:
    """One line of the table."""
    codes = ", ".join(f"`{code}`" for code in case.codes) or "-"
    done = case.done if case.refused is None else f"refused (`{case.refused.__name__}`)"
    return f"| {case.defect} | {done} | {codes} |"


def table() -> str:
    """The whole table as Markdown: ``python tests/ingest_cases.py`` prints it."""
    lines = []
    for case in CASES:
        if case.name in SECTIONS:
            lines += ["", f"## {SECTIONS[case.name]}", "", "| defect | what is done | code |", "| --- | --- | --- |"]
        lines.append(row(case))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table())
