"""What is known beside the findings: read from pairs, files and JSON; what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctscribe import impression
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.impression.context import Context, Details, from_plain, read
from ctscribe.report import Finding


def test_pairs_overrule_what_came_with_the_findings() -> None:
    known = read("age=61, smoker=true,screening=false", Context(age=50, cancer=False))
    assert (known.age, known.smoker, known.screening, known.cancer) == (61, True, False, False)


def test_a_fact_of_the_site_is_carried() -> None:
    assert read("extra.pain=true").extra == {"pain": True}


@pytest.mark.parametrize("name", ["context.yaml", "context.json"])
def test_a_file_holds_details_and_an_earlier_scan(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(
        '{"age": 61, "details": [{"finding": 0, "solid_part_mm": 4}],'
        ' "prior": {"days": 90, "findings": [{"kind": "lung_nodule", "size_mm": [5]}]}}'
    )
    known = read(str(path))
    assert known.details_of(0) == Details(0, solid_part_mm=4)
    assert known.details_of(1) == Details(1)
    assert known.prior is not None
    assert known.prior.days == 90
    assert known.prior.findings == (Finding("lung_nodule", size_mm=(5,)),)


@pytest.mark.parametrize(
    "words", ["aeg=61", "age=old", "age=-1", "smoker=perhaps", "age", "age=61,smoker", "nowhere.yaml"]
)
def test_what_does_not_fit_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        read(words)


def test_details_of_a_finding_that_does_not_exist_are_refused() -> None:
    context = Context(details=(Details(1, solid_part_mm=4),))
    with pytest.raises(UsageError, match="details of finding 1"):
        impression.write([Finding("lung_nodule")], "en", context=context)
    with pytest.raises(UsageError, match="details of finding 0"):
        Context(details=(Details(0), Details(0)))


def test_an_unknown_sign_is_refused() -> None:
    with pytest.raises(UsageError):
        from_plain({"details": [{"finding": 0, "signs": ["mediastinal-shift"]}]})


def test_a_wrong_earlier_finding_is_refused() -> None:
    with pytest.raises((UnreadableInput, UsageError)):
        from_plain({"prior": {"findings": [{"kind": "unicorn"}]}})
