"""What surrounds the findings is written in both languages."""

from __future__ import annotations

import re
from pathlib import Path

from ctscribe.pipeline.framing import phrases


def test_every_warning_of_the_reader_has_a_chinese_wording(repository: Path) -> None:
    code = "".join(path.read_text() for path in sorted((repository / "src" / "ctscribe" / "data").glob("*.py")))
    warned = set(re.findall(r'note\(\s*"(\w+)",\s*"warning"', code)) | set(re.findall(r'warn\("(\w+)"', code))
    assert len(warned) > 20
    assert warned - set(phrases()["reader_notes"]) == set()
