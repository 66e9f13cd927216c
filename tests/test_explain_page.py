"""The report page: one file, nothing fetched, nothing left unescaped, every sentence with its place."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

import people_fakes as fakes
from ctscribe.explain import render_html
from ctscribe.explain.page import build, words
from ctscribe.model import Thresholds
from ctscribe.ontology import LANGUAGES
from ctscribe.report import Finding

VOID = {"meta", "input", "image", "path", "rect", "br", "img", "circle", "use"}


class Page(HTMLParser):
    """Collects tags, and checks that they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch):
    fakes.install(monkeypatch)
    return fakes.reporter().report("scan", language="both")


def test_the_page_closes_what_it_opens_and_ids_are_unique(result) -> None:
    page = Page(render_html(result))
    assert page.open == []
    ids = page.all("id")
    assert len(ids) == len(set(ids))


def test_the_page_fetches_nothing(result) -> None:
    text = render_html(result)
    page = Page(text)
    own = {"#" + name for name in page.all("id")}
    assert all(v.startswith("data:image/png;base64,") or v in own for v in page.all("href") + page.all("src"))
    assert "default-src 'none'" in text
    assert not re.search(r"https?://", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))


def test_the_same_pixels_are_embedded_once(result) -> None:
    images = [value for value in Page(render_html(result)).all("href") if value.startswith("data:")]
    assert len(images) == len(set(images)) > 6


def test_every_stated_sentence_leads_to_pictures_that_are_there(result) -> None:
    page = Page(render_html(result))
    places = set(page.all("id"))
    leads = [a["data-places"].split() for tag, a in page.tags if tag == "button" and "data-places" in a]
    report = result.report
    sentences = [s for code in LANGUAGES for s in (*report.text(code).findings, *report.text(code).impression)]
    assert len(leads) == len(sentences)
    assert all(lead and set(lead) <= places for lead in leads)


def test_the_watermark_stands_in_both_languages_at_both_ends(result) -> None:
    text = render_html(result)
    for mark in fakes.WATERMARK.values():
        assert text.count(mark) == 2


def test_text_from_outside_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    evil = "<script>alert(1)</script> & more."
    text = render_html(fakes.reporter(fakes.FakeModel(text=evil)).report("scan"))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more." in text


@pytest.mark.parametrize("certainty", ["words", "text"])
@pytest.mark.parametrize(("chance", "said"), [(0.95, "definite"), (0.7, "likely"), (0.3, "possible")])
def test_a_calibrated_probability_has_its_word_beside_it(
    certainty: str, chance: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the table and in the tree, in both languages; an absence has none."""
    fakes.install(monkeypatch)
    chances = {"lung_nodule": chance, "pleural_effusion": 0.1}
    model = fakes.FakeModel(probability=chances, thresholds=Thresholds(calibration_error=(0.05, 0.01)))
    result = fakes.reporter(model).report("scan", language="both", certainty=certainty)
    page = build(result)
    assert [row.confidence for row in page.rows] == [said, ""]
    assert {row.confidence for row in page.tree if row.what == "finding"} == {said}
    text = render_html(result)
    beside = rf'{chance:.2f} <em class="sure">.*{said}.*{words()[said]["zh"]}.*</em>'
    assert len(re.findall(beside, text)) == 2


def test_without_calibration_a_probability_stands_alone(result) -> None:
    assert {row.confidence for row in build(result).rows} == {""}
    assert 'class="sure"' not in render_html(result)


def test_the_page_does_not_name_the_file_or_the_patient(result) -> None:
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", render_html(result))
    assert "1.2.3." not in text


def test_the_box_is_drawn_on_the_slice_that_shows_the_lesion(result) -> None:
    page = build(result)
    place = next(p for p in page.places if p.source == "detector")
    axial = place.pictures[0]
    number = int(re.search(r"slice (\d+)", axial.caption["en"])[1])
    assert abs(number - result.study.source.locate(fakes.LESION_WORLD).slice_number) <= 2
    assert axial.box is not None
    left, top, width, height = axial.box
    assert 0 <= left < left + width <= axial.width
    assert 0 <= top < top + height <= axial.height
    assert axial.heat is not None


def test_a_denied_finding_shows_the_region_without_a_box(result) -> None:
    place = next(p for p in build(result).places if p.source == "segmentation")
    assert all(picture.box is None and picture.heat is None for picture in place.pictures)
    assert any(picture.target for picture in place.pictures)


def test_a_report_without_findings_has_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    text = render_html(fakes.reporter(fakes.FakeModel(text=" ", probability={})).report("scan"))
    assert Page(text).open == []


def test_one_language_shows_no_language_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    assert "data-set-lang=" not in re.sub(
        r"<style>.*?</style>", "", render_html(fakes.reporter().report("x")), flags=re.S
    )


def test_windows_follow_the_organ(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    stated = (
        Finding("lung_nodule", regions=("right_lower_lobe",)),
        Finding("cardiomegaly"),
        Finding("rib_fracture"),
    )
    chances = {finding.kind: 0.9 for finding in stated}
    result = fakes.reporter(fakes.FakeModel(findings=stated, probability=chances)).report("scan")
    shown = {place.window for place in build(result).places if place.source == "detector"}
    assert shown == {"lung", "soft", "bone"}


def test_every_label_is_in_both_languages() -> None:
    assert all(set(entry) == set(LANGUAGES) and all(entry.values()) for entry in words().values())
