"""Guideline tables as files: errors that say what to correct, a site's own sets, and what ships."""

from __future__ import annotations

import importlib.util
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctscribe import impression
from ctscribe.errors import ConfigError, UsageError
from ctscribe.impression.context import Context
from ctscribe.impression.guidelines import DEFAULT_SETS, load, recommend, shipped
from ctscribe.impression.guidelines.conditions import read_condition
from ctscribe.impression.guidelines.tables import read
from ctscribe.impression.measure import Size
from ctscribe.impression.station import note_in
from ctscribe.report import Finding

ROOT = Path(__file__).resolve().parents[1]
CYST = Finding("hepatic_cyst", size_mm=(60,))
OWN: dict[str, Any] = {
    "id": "our_liver_rule",
    "title": {"en": "Our hospital", "zh": "本院"},
    "citation": {"text": "Protocol 7"},
    "checked": "original",
    "about": ["hepatic_cyst"],
    "facts": {"pain": {"unstated": "ask", "ask": {"en": "whether it hurts", "zh": "是否疼痛"},
                       "values": {True: {"en": "painful", "zh": "疼痛"}, False: {"en": "painless", "zh": "无痛"}}}},
    "actions": {
        "nothing": {"en": "nothing to do", "zh": "无需处理"},
        "surgeon": {"en": "surgical opinion", "zh": "外科会诊", "modality": ["referral"]},
    },
    "rows": [
        {"id": "small", "when": {"long_mm": "< 50"}, "do": "nothing"},
        {"id": "large", "when": {"long_mm": ">= 50", "pain": True}, "do": "surgeon"},
        {"id": "large_painless", "when": {"long_mm": ">= 50", "pain": False}, "do": "nothing"},
    ],
}  # fmt: skip


def saved(folder: Path, table: dict[str, Any], name: str = "own.yaml") -> Path:
    (folder / name).write_text(yaml.safe_dump(table, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return folder


def changed(path: str, value: Any) -> dict[str, Any]:
    """`OWN` with one place set to a value, or removed when the value is `...`."""
    table: Any = deepcopy(OWN)
    node, keys = table, [int(key) if key.isdigit() else key for key in path.split("/")]
    for key in keys[:-1]:
        node = node[key]
    if value is ...:
        del node[keys[-1]]
    else:
        node[keys[-1]] = value
    return table


def test_a_site_adds_its_own_set_with_facts_of_its_own(tmp_path: Path) -> None:
    rule_sets = load(saved(tmp_path, OWN))
    assert [r.id for r in rule_sets] == [*DEFAULT_SETS, "our_liver_rule"]
    (made,) = recommend([CYST], Context(), rule_sets)
    assert [need.question["en"] for need in made.needs] == ["whether it hurts"]
    (made,) = recommend([CYST], Context(extra={"pain": True}), rule_sets)
    assert made.definite
    assert made.options[0].modality == ("referral",)


def test_a_site_corrects_a_shipped_set_and_signs_it_off(tmp_path: Path) -> None:
    source = Path(str(__import__("ctscribe.impression.guidelines", fromlist=["x"]).__path__[0])) / "sets"
    table = yaml.safe_load((source / "acr_thyroid_2015.yaml").read_text(encoding="utf-8"))
    table["signed_off_by"] = "Head of radiology, 2026"
    rule_sets = load(saved(tmp_path, table), use=["acr_thyroid_2015"])
    nodule = Finding("thyroid_nodule", size_mm=(20,))
    (made,) = recommend([nodule], Context(age=60), rule_sets)
    assert made.signed_off_by == "Head of radiology, 2026"
    written = impression.write([nodule], "en", context=Context(age=60), rule_sets=rule_sets)
    assert "that a radiologist has signed off" in written.note
    assert "no radiologist has signed off" in impression.write([nodule], "en", context=Context(age=60)).note
    bare = impression.write([Finding("pneumothorax", "absent")], "en")
    assert "signed off" not in bare.note
    assert note_in(bare, "en") == bare.note != note_in(written, "en") == written.note


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("id", ..., "id is missing"),
        ("colour", "red", "unknown key 'colour'"),
        ("title/zh", ..., "zh is missing"),
        ("checked", "maybe", "original, copy, no"),
        ("about/0", "unicorn", "about"),
        ("rows/0/do", "dance", "row small: do"),
        ("rows/0/id", "large", "row large"),
        ("rows/0/when/long_mm", "<< 5", "row small: long_mm"),
        ("rows/0/when/long_mm", 5, "row small: long_mm"),
        ("rows/1/when/pain", "sometimes", "row large: pain"),
        ("rows/1/when/weather", "fine", "fact 'weather'"),
        ("rows/1/rank", "high", "row large: rank"),
        ("rows/1/category", 3, "row large: category"),
        ("actions/unused", {"en": "x", "zh": "x"}, "action unused"),
        ("actions/surgeon/modality", ["magic"], "action surgeon: modality"),
        ("actions/surgeon/months", [6], "action surgeon: months"),
        ("actions/surgeon/months", [12, 6], "action surgeon: months"),
        ("facts/pain/unstated", "guess", "pain: unstated"),
        ("scope", [{"fact": "age", "is": ">= 35", "unknown": "hope"}], "age: unknown"),
        ("judge", "alone", "judge"),
        ("rows", {}, "rows"),
    ],
)
def test_a_wrong_table_is_refused_with_the_place(path: str, value: Any, names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(changed(path, value), "own.yaml")
    assert "own.yaml" in str(caught.value)
    assert names in str(caught.value)


def test_a_file_that_is_no_yaml_and_a_folder_without_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="guidelines in"):
        load(tmp_path)
    (tmp_path / "own.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own\.yaml is not YAML"):
        load(tmp_path)
    with pytest.raises(UsageError, match="no_such"):
        load(use=["no_such"])


@pytest.mark.parametrize(
    ("written", "value", "holds"),
    [
        ("< 6", 5.9, True),
        ("< 6", 6, False),
        (">= 6, < 8", 8, False),
        ("6 to 8", 8, True),
        ("6 to 8", 8.1, False),
        ("< 6 mm or < 100 mm3", Size(5, 500), True),
        ("< 6 mm or < 100 mm3", Size(None, 500), False),
        ("< 6 mm", Size(None, 500), None),
        ("< 6", None, None),
        (["a", "b"], "b", True),
        ("a", frozenset({"a", "b"}), True),
        (True, False, False),
        (True, None, None),
    ],
)
def test_a_condition_is_answered_yes_no_or_not_known(written: Any, value: Any, holds: bool | None) -> None:
    assert read_condition("fact", written, "here").holds(value) is holds


def test_what_ships_is_cited_unsigned_and_written_in_both_languages() -> None:
    assert set(DEFAULT_SETS) < set(shipped())
    for rule_set in shipped().values():
        assert rule_set.signed_off_by == ""
        assert rule_set.citation.doi
        assert len(rule_set.citation.text) > 40
        for action in rule_set.actions.values():
            assert any("\u4e00" <= letter <= "\u9fff" for letter in action.words["zh"])
            assert action.words["en"].isascii()


def test_the_example_of_the_guide_is_a_table() -> None:
    page = (ROOT / "docs" / "how-to" / "add-your-guidelines.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(read(yaml.safe_load(example), "example").rows) == 3


def test_the_page_of_tables_has_every_row() -> None:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = hooks.guidelines()
    rows = sum(len(rule_set.all_rows) for rule_set in shipped().values())
    assert sum(line.startswith("| ") for line in page.splitlines()) == rows + 2 * len(shipped())
    assert [s.citation.doi for s in shipped().values() if s.citation.doi not in page] == []
