"""What surrounds the findings is written in both languages."""

from __future__ import annotations

import re
from pathlib import Path

from ctscribe.pipeline.framing import phrases
from ingest_cases import CASES

IN_ORDER = {"padding_filled", "no_slice_thickness", "no_kernel", "no_patient_position", "no_series_uid"}
TOLD_UNDER_TECHNIQUE = {"series_chosen"}


def test_every_warning_of_the_reader_has_a_chinese_wording(repository: Path) -> None:
    code = "".join(path.read_text() for path in sorted((repository / "src" / "ctscribe" / "data").glob("*.py")))
    warned = set(re.findall(r'note\(\s*"(\w+)",\s*"warning"', code)) | set(re.findall(r'warn\("(\w+)"', code))
    assert len(warned) > 20
    assert warned - set(phrases()["reader_notes"]) == set()


def test_what_was_repaired_is_told_in_the_report() -> None:
    handled = {code for case in CASES if case.refused is None for code in case.codes}
    assert handled - set(phrases()["reader_notes"]) == IN_ORDER | TOLD_UNDER_TECHNIQUE
