"""A reading set: who reads what in which order, and what readers must not learn."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from ctscribe.errors import InputRefused, UnreadableInput, UsageError
from ctscribe.evaluation import Record
from ctscribe.evaluation.reader_study import build, read_key
from ctscribe.evaluation.reader_study.design import assign
from ctscribe.evaluation.reader_study.forms import answer_columns
from ctscribe.evaluation.reader_study.questions import SCORES, checklist, error_kinds, scales, words
from readers import reading_set, reports


def plan(cases=11, systems=3, readers=4, design="crossed", overlap=0, repeats=2, seed=0):
    rng = np.random.default_rng(seed)
    return assign(cases, systems, readers, design=design, overlap=overlap, repeats=repeats, rng=rng)


def firsts(slots):
    return [slot for slot in slots if not slot.repeat]


# ------------------------------------------------------------------------------------------ design
def test_crossed_everybody_reads_everything_once():
    for slots in plan():
        assert Counter((s.case, s.system) for s in firsts(slots)) == Counter(
            (c, s) for c in range(11) for s in range(3)
        )


def test_split_shares_the_overlap_and_deals_out_the_rest_evenly():
    work = plan(cases=14, design="split", overlap=3)
    cases = [{slot.case for slot in slots} for slots in work]
    shared = set.intersection(*cases)
    assert len(shared) == 3
    assert set.union(*cases) == set(range(14))
    assert sorted(len(own - shared) for own in cases) == [2, 3, 3, 3]
    assert sum(len(own - shared) for own in cases) == 11  # nobody else has them
    for slots in work:
        assert all(n == 3 for n in Counter(s.case for s in firsts(slots)).values())


def test_once_brings_every_case_once_under_turning_systems():
    work = plan(cases=15, systems=3, readers=3, design="once", overlap=3, repeats=0)
    for slots in work:
        assert sorted(slot.case for slot in slots) == list(range(15))
        assert set(Counter(slot.system for slot in slots).values()) == {5}
    by_case = [{slots_by[c] for slots_by in ({s.case: s.system for s in slots} for slots in work)} for c in range(15)]
    assert sorted(map(len, by_case)) == [1] * 3 + [3] * 12  # shared cases alike, the others under each system


@pytest.mark.parametrize("cases", [2, 5, 12])
@pytest.mark.parametrize("systems", [1, 2, 3])
def test_texts_of_a_case_lie_more_than_half_a_round_apart(cases, systems):
    for seed in range(5):
        for slots in plan(cases=cases, systems=systems, repeats=1, seed=seed):
            last: dict[int, int] = {}
            for place, slot in enumerate(slots):
                assert place - last.get(slot.case, -cases) > cases // 2
                last[slot.case] = place


def test_every_system_is_equally_often_first_second_and_third():
    for slots in plan(cases=12, systems=3):
        for number in range(3):
            part = firsts(slots)[12 * number : 12 * (number + 1)]
            assert set(Counter(slot.system for slot in part).values()) == {4}


def test_second_readings_are_texts_that_were_read():
    for slots in plan(repeats=5):
        again = [(s.case, s.system) for s in slots if s.repeat]
        assert len(again) == len(set(again)) == 5
        assert set(again) <= {(s.case, s.system) for s in firsts(slots)}
    assert [sum(s.repeat for s in slots) for slots in plan(cases=10, systems=2, repeats=None)] == [2] * 4


def test_orders_differ_between_readers_and_follow_the_seed():
    one, other = plan(), plan()
    assert one == other
    assert len({tuple((s.case, s.system) for s in slots) for slots in one}) == 4
    assert plan(seed=1) != one


@pytest.mark.parametrize(
    "wrong",
    [
        {"design": "split", "overlap": 12},
        {"design": "split", "overlap": 9, "readers": 4},
        {"design": "once", "readers": 2},
        {"repeats": 7},
    ],
)
def test_numbers_that_do_not_fit_are_wrong_use(wrong):
    with pytest.raises(UsageError):
        plan(**wrong)


# ------------------------------------------------------------------------------------------ blinding
def test_nothing_a_reader_gets_tells_the_system():
    made = reading_set(systems=3, findings=True, show_reference=True)
    for name, content in made.files().items():
        if name.startswith("readers/"):
            text = content.decode("utf-8-sig")
            secrets = [*made.key.systems, *made.key.systems.values(), "repeat_of", "seed"]
            assert [secret for secret in secrets if secret in text] == [], name


def test_renaming_the_systems_changes_no_byte_for_the_readers():
    def files(*names):
        made = build({n: reports(f"letter {i}", 8) for i, n in enumerate(names)}, reports("letter Z", 8), readers=2)
        return {name: content for name, content in made.files().items() if name.startswith("readers/")}

    assert files("quartz", "basalt") == files("zirkon", "augite")


def test_codes_say_nothing_and_survive_a_spreadsheet():
    made = reading_set(count=30)
    found = [item.code for item in made.key.items]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch("[BCDFGHJKLMNPQRSTVWXZ]{6}", code) for code in found)


def test_a_text_that_names_its_system_is_refused():
    told = [Record(f"c{i}", "Written by Quartz. No effusion.") for i in range(3)]
    with pytest.raises(InputRefused) as refused:
        build({"quartz": told, "basalt": reports("B", 3)}, reports("Z", 3), readers=1)
    assert refused.value.code == "unblinded_text"
    build({"quart": told, "basalt": reports("B", 3)}, reports("Z", 3), readers=1)


def test_a_line_only_one_system_writes_is_noted():
    own = [Record(f"c{i}", f"DRAFT, not verified\nImage {i}.") for i in range(12)]
    made = build({"quartz": own, "basalt": reports("B", 12)}, reports("Z", 12), readers=2)
    assert any("DRAFT, not verified" in note and "quartz" in note for note in made.notes)
    assert not any("DRAFT" in note for note in reading_set().notes)


def test_layout_does_not_tell_systems_apart():
    one = [Record("c0", "Nodule.\r\n\r\n\r\n  No effusion.  ")]
    other = [Record("c0", "\nNodule.\n\nNo  effusion.\n")]
    made = build({"quartz": one, "basalt": other}, one, readers=1, repeats=0)
    assert set(made.texts.values()) == {"Nodule.\n\nNo effusion."}


def test_the_reference_is_masked_like_a_system_or_shown_never_both():
    made = reading_set(include_reference=True)
    assert sorted(made.key.systems.values()) == ["basalt", "quartz", "reference"]
    assert made.key.systems[made.key.reference] == "reference"
    with pytest.raises(UsageError):
        reading_set(include_reference=True, show_reference=True)


# ------------------------------------------------------------------------------------------ files
def page_data(made, reader="reader-1"):
    page = made.files()[f"readers/{reader}/reading.html"].decode()
    return page, json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_pages_forms_and_key_hold_the_same_items():
    made = reading_set(findings=True)
    for reader in made.key.readers:
        _, data = page_data(made, reader)
        own = [i for i in made.key.items if i.reader == reader]
        scans = [s for s in made.key.scans if s.reader == reader]
        assert [one["code"] for one in data["items"]] == [e.code for e in (*scans, *own)]
        assert [one["number"] for one in data["items"]] == list(range(1, len(own) + len(scans) + 1))
        form = made.files()[f"readers/{reader}/answers.csv"].decode("utf-8-sig")
        table = list(csv.DictReader(io.StringIO(form, newline="")))
        assert [row["item"] for row in table] == [i.code for i in own]
        assert [row["report"] for row in table] == [made.texts[i.case, i.system] for i in own]
        assert all(row[column] == "" for row in table for column in answer_columns()[5:])
        assert {s.case for s in scans} == set(made.key.clusters)


def test_pages_ask_for_nothing_from_outside_and_survive_any_text():
    nasty = [Record("c0", "</script><script>alert(1)</script> & 'quote' \u2028 <b>bold</b>")]
    made = build({"quartz": nasty}, nasty, readers=1)
    page, data = page_data(made)
    assert data["items"][0]["text"] == nasty[0].text.replace(" \u2028 ", " ")
    assert page.count("</script>") == 3
    assert "default-src 'none'" in page
    assert re.findall(r"https?://|@import|url\(|<link|<iframe|fetch\(|XMLHttp|WebSocket|sendBeacon", page) == []


def test_a_form_holds_no_formula():
    made = build({"quartz": [Record("c0", "=1+1 is a nodule")]}, [Record("c0", "No nodule")], readers=1)
    assert b"'=1+1 is a nodule" in made.files()["readers/reader-1/answers.csv"]


def test_the_key_comes_back_as_it_was(tmp_path: Path):
    made = reading_set(findings=True, include_reference=True, patients=4)
    files = made.files()
    body = json.loads(files["key/key.json"])
    assert next(iter(body)) == "warning"
    (tmp_path / "key.json").write_bytes(files["key/key.json"])
    assert read_key(tmp_path / "key.json") == made.key
    assert "person-" not in files["key/key.json"].decode()
    assert sorted(set(made.key.clusters.values())) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": "other"}', '{"format": "ctscribe-reader-study-key", "version": 1}']
)
def test_what_is_not_a_key_is_refused(tmp_path: Path, text: str):
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(UnreadableInput) as refused:
        read_key(tmp_path / "key.json")
    assert refused.value.code == "not_a_key"


def test_the_same_seed_builds_the_same_set():
    assert reading_set().files() == reading_set().files()
    assert reading_set(seed=2).key.study != reading_set().key.study


def test_a_sample_of_cases_and_of_what_all_files_share():
    made = build({"quartz": reports("A", 9), "basalt": reports("B", 7)}, reports("Z", 12), readers=1, cases=5)
    assert len(made.key.clusters) == 5
    assert set(made.key.clusters) <= {f"c{i}" for i in range(7)}
    assert any(note.startswith("5 of 12 cases") for note in made.notes)


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("missing_ids", lambda: build({"quartz": [Record("x", "a")]}, reports("Z", 3), readers=1)),
        ("too_few_cases", lambda: reading_set(count=5, cases=6)),
        (
            "mixed_languages",
            lambda: build({"quartz": [Record("c0", "右肺结节。", "zh")]}, reports("Z", 1), readers=1),
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(code, call):
    with pytest.raises(InputRefused) as refused:
        call()
    assert refused.value.code == code


@pytest.mark.parametrize(
    "wrong",
    [{"readers": 0}, {"cases": 0}, {"overlap": -1}, {"repeats": -1}, {"design": "crossed", "overlap": 2}],
)
def test_options_that_do_not_fit_are_wrong_use(wrong):
    with pytest.raises(UsageError):
        reading_set(**wrong)


# ------------------------------------------------------------------------------------------ images, words
def test_key_images_stand_in_the_page_without_their_tags(tmp_path: Path):
    import base64

    from PIL import Image, PngImagePlugin

    note = PngImagePlugin.PngInfo()
    note.add_text("PatientName", "SECRET^NAME")
    (tmp_path / "c0").mkdir()
    Image.new("L", (8, 8), 90).save(tmp_path / "c0" / "b.png", pnginfo=note)
    Image.new("RGB", (3000, 10), (1, 2, 3)).save(tmp_path / "c0" / "a.jpg")
    Image.new("L", (8, 8)).save(tmp_path / "c1_axial.png")
    Image.new("L", (8, 8)).save(tmp_path / "c11.png")  # another case's, although it begins alike
    made = reading_set(count=3, images=tmp_path)
    assert [len(made.images[case]) for case in ("c0", "c1", "c2")] == [2, 1, 0]
    first, second = (base64.b64decode(uri.split(",")[1]) for uri in made.images["c0"])
    assert first.startswith(b"\xff\xd8")
    assert second.startswith(b"\x89PNG")
    assert b"SECRET" not in second
    assert b"SECRET" not in made.files()["readers/reader-1/reading.html"]


def test_images_that_cannot_be_used_are_refused(tmp_path: Path):
    with pytest.raises(InputRefused, match="no image belongs to a case"):
        reading_set(images=tmp_path)
    (tmp_path / "c0.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableInput, match="not an image"):
        reading_set(images=tmp_path)
    with pytest.raises(UnreadableInput):
        reading_set(images=tmp_path / "nothing")


def test_every_question_is_asked_in_both_languages():
    def leaves(value):
        if isinstance(value, dict) and set(value) == {"en", "zh"}:
            yield value
        elif isinstance(value, dict):
            for inner in value.values():
                yield from leaves(inner)

    found = list(leaves(words()))
    assert len(found) > 70
    assert all(
        re.search("[\u3400-\u9fff/]", entry["zh"]) and not re.search("[\u3400-\u9fff]", entry["en"]) for entry in found
    )
    assert scales() == ("clinical_accuracy", "completeness", "relevance", "actionability")
    assert all(tuple(facts["anchors"]) == SCORES for facts in words()["scales"].values())
    assert len(error_kinds()) == 8
    assert len(checklist()) == 18


def test_no_word_of_the_page_lacks_its_translation():
    source = "".join(
        (files("ctscribe.evaluation.reader_study") / "templates" / name).read_text(encoding="utf-8")
        for name in ("reading.html.j2", "reading.js")
    )
    used = {*re.findall(r'data-(?:word|label)="(\w+)"', source), *re.findall(r'said\("(\w+)"\)', source)}
    used |= set(re.findall(r'"((?:key|guide)_\w+)"', source))
    assert len(used) > 40
    assert used <= set(words()["page"])
    assert 'aria-label="' not in source.replace('aria-hidden="', "")  # labels are words too
