"""Details that only the text gives: read for the finding they belong to, never guessed."""

from __future__ import annotations

import pytest

from ctscribe import impression
from ctscribe.impression.context import Context, Details
from ctscribe.impression.details import with_details
from ctscribe.impression.inputs import from_text


def details(text: str) -> dict[int, dict]:
    told = from_text(text).context.details
    return {d.finding: {k: v for k, v in vars(d).items() if k != "finding" and v not in (None, ())} for d in told}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is a 9 mm part-solid nodule. The solid component measures 4 mm.", {0: {"solid_part_mm": 4.0}}),
        ("A 9 mm part-solid nodule with a solid part of 0.5 cm in the left lung.", {0: {"solid_part_mm": 5.0}}),
        ("右肺上叶见部分实性结节，大小约9×8 mm，实性成分约4 mm。", {0: {"solid_part_mm": 4.0}}),
        ("A 7 mm nodule with popcorn calcification in the left upper lobe.", {0: {"benign_pattern": True}}),
        ("A triangular 6 mm perifissural nodule in the right middle lobe.", {0: {"perifissural": True}}),
        ("Cardiomegaly. A 15 mm adrenal nodule, 8 HU without contrast.", {1: {"attenuation_hu": 8.0}}),
        ("右侧肾上腺结节，直径约15 mm，CT值约-8 HU。", {0: {"attenuation_hu": -8.0}}),
    ],
)
def test_a_detail_belongs_to_the_finding_of_its_sentence(text: str, expected: dict) -> None:
    assert details(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "A 7 mm nodule in the lingula without popcorn calcification.",
        "A 7 mm nodule in the lingula, possibly with popcorn calcification.",
        "A 7 mm perifissural nodule in the right middle lobe.",
        "A 7 mm nodule in the left upper lobe and an 8 mm nodule in the right lower lobe with internal fat.",
        "Pleural effusion with popcorn calcification.",
        "The solid component measures 4 mm.",
    ],
)
def test_what_is_denied_doubted_or_ambiguous_is_not_read(text: str) -> None:
    assert details(text) == {}


def test_what_was_given_overrules_the_text() -> None:
    text = "There is a 9 mm part-solid nodule. The solid component measures 4 mm."
    known = with_details(Context(details=(Details(0, solid_part_mm=7),)), from_text(text).findings, text)
    assert known.details == (Details(0, solid_part_mm=7),)


def test_a_detail_settles_the_follow_up() -> None:
    text = "There is a 9 mm part-solid nodule in the left upper lobe. The solid component measures 7 mm."
    written = impression.write(from_text(text).findings, "en", context=Context(screening=True), text=text)
    assert "ACR Lung-RADS v2022 category 4A" in written.text
