"""Finding passages: by words, by meaning, in a site's own documents; and what the station does with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import tiny_bert
from ctscribe.errors import CTScribeError, UnreadableInput, UsageError
from ctscribe.impression.embeddings import Embedder
from ctscribe.impression.passages import Passage, documents
from ctscribe.impression.retrieval import Library, fused, library, shipped
from ctscribe.impression.writing import write_with
from ctscribe.report import Finding

NODULE = Finding("lung_nodule", "present", ("right_upper_lobe",), (7,), (("density", "solid"), ("number", "single")))
EFFUSION = Finding("pleural_effusion", "present", ("left_pleura",))


def passage(name: str, text: str = "") -> Passage:
    return Passage(name, text or name, "en")


# ------------------------------------------------------------------------------------------ by words
def test_passages_are_found_in_both_languages() -> None:
    assert shipped().search("What may a cavity be?", "en")[0].id == "kb:cavity_meaning:en"
    assert shipped().search("空洞", "zh")[0].id == "kb:cavity_meaning:zh"
    assert shipped().search("GGO", "en")[0].id == "kb:ground_glass_meaning:en"  # a name that the text itself lacks
    assert shipped().search("zzz", "en") == []
    assert shipped().search("what is the", "en") == []
    assert shipped().search('") zzz*:("', "en") == []  # nothing in a query is syntax


def test_a_study_gets_passages_on_its_findings_and_on_the_guidelines_that_spoke() -> None:
    absent = Finding("cavity", "absent")
    assert [p.id for p in shipped().about([NODULE, absent], "en")] == ["kb:nodule_meaning:en"]
    both = shipped().about([NODULE], "zh", guidelines=["fleischner_2017"])
    assert {p.id for p in both} == {"kb:nodule_meaning:zh", "kb:guideline_fleischner_2017:zh"}


# ---------------------------------------------------------------------------------------- by meaning
class Topics:
    """Stands for an embedding model: texts about water are alike, and so are texts about stone. Reads English only."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        rows = [[any(w in t for w in ("rain", "river", "lake")), any(w in t for w in ("rock", "stone"))] for t in texts]
        vectors = np.array(rows, np.float32) + 1e-3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def unknown(self, texts: Sequence[str]) -> float:
        return sum(not text.isascii() for text in texts) / len(texts)


by_topic = Topics()


def test_a_model_is_not_asked_about_a_language_that_it_cannot_read() -> None:
    pages = [passage("a", "a rock"), passage("b", "a lake"), Passage("c", "山石", "zh"), Passage("d", "河水", "zh")]
    books = Library(pages, by_topic)
    assert books.unread == {"zh"}
    assert books.by_meaning("rock 石", "zh") == []
    assert [p.id for p in books.search("山石", "zh")] == ["c"]
    assert Library(pages).unread == frozenset()


def test_meaning_finds_what_words_do_not() -> None:
    pages = [passage("a", "a lake"), passage("b", "a rock"), passage("c", "a stone wall")]
    assert Library(pages).search("river", "en") == []
    found = Library(pages, by_topic).search("river", "en")
    assert [p.id for p in found] == ["a"]  # the others are farther than `near`
    assert {p.id for p in Library(pages, by_topic).search("rock", "en")} == {"b", "c"}
    assert Library(pages, by_topic).search("rock", "zh") == []
    assert Library([], by_topic).search("rock", "en") == []


def test_a_passage_that_both_rankings_know_comes_before_one_at_the_top_of_one() -> None:
    a, b, c = passage("a"), passage("b"), passage("c")
    assert fused([[a, b], [c, b]]) == [b, a, c]
    assert fused([[a, b, c]]) == [a, b, c]
    assert fused([]) == []


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert.save(tmp_path_factory.mktemp("bert"))


def test_an_embedding_is_the_mean_over_the_tokens_whatever_stands_beside_it(bert: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["a nodule in the right upper lobe", "pleural effusion"]
    made = Embedder(bert)(texts)
    assert made.shape == (2, tiny_bert.WIDTH)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, rtol=1e-6)
    model, tokenizer = AutoModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    with torch.no_grad():
        alone = model(**tokenizer(texts[1], return_tensors="pt")).last_hidden_state.mean(1)
    np.testing.assert_allclose(made[1], torch.nn.functional.normalize(alone, dim=-1)[0], atol=1e-5)
    np.testing.assert_allclose(Embedder(bert, batch=1)(texts), made, atol=1e-5)


def test_the_pooling_that_the_folder_names_is_used(bert: Path, tmp_path: Path) -> None:
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}), encoding="utf-8")
    text = ["a nodule in the right upper lobe"]
    assert not np.allclose(Embedder(tmp_path)(text), Embedder(bert)(text), atol=1e-3)


def test_a_model_ranks_a_text_next_to_itself(bert: Path) -> None:
    pages = [passage("a", "nodule in the lung"), passage("b", "fluid around the heart"), passage("c", "broken rib")]
    found = Library(pages, Embedder(bert)).by_meaning("fluid around the heart", "en")
    assert found[0].id == "b"


def test_a_model_knows_what_it_cannot_read(bert: Path) -> None:
    assert Embedder(bert).unknown(["a nodule in the right upper lobe"]) == 0
    assert Embedder(bert).unknown(["右肺上叶结节"]) > 0.9


def test_what_is_no_embedding_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no embedding model"):
        Embedder(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be loaded"):
        Embedder(tmp_path)(["text"])


# ------------------------------------------------------------------------------ a site's documents
def pdf(path: Path, text: str) -> None:
    """The smallest PDF with one line of text."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"xref\n0 6\n0000000000 65535 f \n%btrailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    path.write_bytes(body + end % (table, len(body)))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "rules").mkdir(parents=True)
    (folder / "house.md").write_text(
        "Intro.\n\n# Nodules\n\nA pulmonary nodule goes to the Tuesday board.\n\n# Other\n\nx\n\n# Nodules\n\nAgain.\n",
        encoding="utf-8",
    )
    (folder / "rules" / "zh.txt").write_text("肺结节需提交周二多学科讨论。", encoding="utf-8")
    (folder / "notes.docx").write_bytes(b"not read")
    return folder


def test_documents_are_cut_at_headings_and_keep_their_ids(site: Path) -> None:
    found = {p.id: p for p in documents(site)}
    assert list(found) == [
        "site:house.md#top/1",
        "site:house.md#Nodules/1",
        "site:house.md#Other/1",
        "site:house.md#Nodules/2",  # a heading that comes again takes no other passage's id
        "site:rules/zh.txt#top/1",
    ]
    assert found["site:house.md#Nodules/1"].text == "Nodules: A pulmonary nodule goes to the Tuesday board."
    assert found["site:rules/zh.txt#top/1"].language == "zh"
    text = (site / "house.md").read_text(encoding="utf-8").replace("Intro.", "Other words.\n\nOne more.")
    (site / "house.md").write_text(text, encoding="utf-8")
    assert "site:house.md#Nodules/1" in [p.id for p in documents(site)]


def test_a_pdf_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    pdf(tmp_path / "protocol.pdf", "Pleural effusion: ultrasound on the same day.")
    (found,) = documents(tmp_path)
    assert found.id == "site:protocol.pdf#top/1"
    assert "ultrasound on the same day" in found.text
    assert library(tmp_path).about([EFFUSION], "en")[-1].id == found.id


def test_a_pdf_without_pypdf_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pdf(tmp_path / "protocol.pdf", "text")
    monkeypatch.setitem(__import__("sys").modules, "pypdf", None)
    with pytest.raises(CTScribeError, match="pypdf") as raised:
        documents(tmp_path)
    assert "ctscribe[documents]" in str(raised.value)


@pytest.mark.parametrize("content", [None, b"", b"%PDF-1.4 broken", b"\xff\xfe\x00"])
def test_a_folder_without_usable_documents_is_refused(tmp_path: Path, content: bytes | None) -> None:
    pytest.importorskip("pypdf")
    if content is not None:
        (tmp_path / ("a.pdf" if content.startswith(b"%PDF") else "a.txt")).write_bytes(content)
    with pytest.raises(UnreadableInput):
        documents(tmp_path)


def test_documents_that_are_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected: a folder"):
        documents(tmp_path / "nothing")


def test_a_sites_passages_are_found_for_findings_and_shown_beside_the_rules_impression(site: Path) -> None:
    books = library(site)
    assert "site:house.md#Nodules/1" in [p.id for p in books.about([NODULE], "en")]
    assert "site:rules/zh.txt#top/1" in [p.id for p in books.about([NODULE], "zh")]
    made = write_with(None, [NODULE], "en", library=books)
    assert made.sources[0].id == "site:house.md#Nodules/1"
    assert "Tuesday" not in made.text
    assert write_with(None, [NODULE], "en").sources == ()
