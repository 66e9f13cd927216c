"""Constrained decoding: whatever a writer would like to say, what it writes parses to findings; and how sure it was."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests import language_kit as kit
from tests import tiny as small

from ctscribe import ontology
from ctscribe.facts import facts_of
from ctscribe.language.constrain import Vocabulary, complete_sentences, token_bytes
from ctscribe.language.prompt import ReportTokenizer, Requests
from ctscribe.language.sentences import Place, canonical_text
from ctscribe.language.station import Writer
from ctscribe.language.written import by_sentence
from ctscribe.report import render_findings, split_sentences
from ctscribe.report.parse import parse
from ctscribe.training.wording import WordingSamples


def walk(text: object, place: Place, data: bytes) -> Place | None:
    for byte in data:
        after = text.step(place, byte)
        if after is None:
            return None
        place = after
    return place


def wanders(language: str, seed: int, sentences: int) -> str:
    """A text of so many sentences, each byte drawn from those that may come next."""
    text, rng = canonical_text(language), random.Random(seed)
    place, data = text.start, b""
    while True:
        if text.may_end(place):
            sentences -= 1
            if not sentences:
                return data.decode()
        byte, place = rng.choice(text.following(place))
        data += bytes([byte])


# ------------------------------------------------------------------------------------------ the automaton
@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_every_report_in_canonical_wording_may_be_written(language: str) -> None:
    text, samples = canonical_text(language), WordingSamples(11)
    taught = [written for _, written, code in map(samples.__getitem__, range(60)) if code == language]
    assert len(taught) == 30
    for written in taught:
        place = walk(text, text.start, written.encode())
        assert place is not None
        assert text.may_end(place)
        assert not text.may_end(walk(text, text.start, written.encode()[:-4]))


@pytest.mark.parametrize("language", ontology.LANGUAGES)
@pytest.mark.parametrize("seed", range(12))
def test_whatever_may_be_written_parses_to_its_findings(language: str, seed: int) -> None:
    """Sentence by sentence the findings render to the very words; no kind is spoken of twice."""
    written = wanders(language, seed, 6)
    sentences = split_sentences(written, language)
    assert len(sentences) == 6
    said: list[str] = []
    for sentence in sentences:
        findings = parse(sentence, language)
        assert findings
        assert [s.text for s in render_findings(findings, language)] == [sentence]
        said += [f.kind for f in findings]
    assert len(set(said)) == len(said)


def test_contradictions_and_wrong_numbers_are_not_text() -> None:
    text = canonical_text("en")

    def begins(words: str) -> bool:
        return walk(text, text.start, words.encode()) is not None

    denied = "No mass in either lung. "
    assert begins(f"{denied}There is a 12 mm nodule in the right upper lobe. No pleural effusion.")
    assert not begins(f"{denied}There is a 42 mm mass")
    assert begins("No pleural effusion. There is a 42 mm mass")
    assert not begins("There is a 42 mm nodule")  # beyond 30 mm it is a mass
    assert not begins("There is a 8 mm nodule")
    assert begins("There is an 8 mm nodule")
    assert not begins("The patient")
    assert not begins(f"{denied} ")


# --------------------------------------------------------------------------------------------- tokenizers
def pieces() -> ReportTokenizer:
    """A SentencePiece-like tokenizer: pieces with a mark for the space, single bytes for what it has no piece for."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    markers = ["<pad>", "<s>", "</s>"]
    letters = [chr(i) for i in range(32, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[*markers, *(f"<0x{i:02X}>" for i in range(256))],
        initial_alphabet=letters,
        show_progress=False,
    )
    made.train_from_iterator(small.TEXTS[:1] * 5, trainer)
    table = json.loads(made.to_str())
    table["added_tokens"] = [entry for entry in table["added_tokens"] if entry["content"] in markers]
    again = Tokenizer.from_str(json.dumps(table))
    return ReportTokenizer(again, Requests(0, 1, 2, {"en": (1, 5), "zh": (1, 6, 7)}))


TOKENIZERS: dict[str, Callable[[], ReportTokenizer]] = {"bytes": small.tokenizer, "pieces": pieces}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", small.TEXTS)
def test_the_bytes_of_the_tokens_are_the_text(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    listed = token_bytes(tokenizer)
    assert b"".join(listed[i] for i in tokenizer.encode(text)).decode().strip() == text.strip()
    assert listed[tokenizer.eos] == b""


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_the_next_tokens_are_those_that_continue_the_text(language: str) -> None:
    """Against the slow way: try every token of the vocabulary."""
    vocabulary, text, rng = Vocabulary(small.tokenizer()), canonical_text(language), random.Random(0)
    place = text.start
    for _ in range(25):
        allowed = vocabulary.next(text, place)
        slow = [i for i, data in enumerate(vocabulary.bytes) if data and walk(text, place, data) is not None]
        assert sorted(set(allowed) - {vocabulary.eos}) == slow
        assert (vocabulary.eos in allowed) == text.may_end(place)
        token = rng.choice(slow)
        place = vocabulary.advance(text, place, token)


# ------------------------------------------------------------------------------------------------ writing
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(("strategy", "beams"), [("quarters", 1), ("quarters", 2), ("encoder_decoder", 1)])
def test_a_writer_that_knows_nothing_writes_findings(kind: str, strategy: str, beams: int) -> None:
    config = replace(kit.CONFIG, strategy=strategy, wording="canonical", max_tokens=70)
    model = kit.fill(Writer(config, TOKENIZERS[kind](), kit.WIDTHS, kit.SCENE).eval())
    for language, text in zip(
        ("en", "zh"), model.write(small.facts(), ["en", "zh"], *kit.study(), beams=beams), strict=True
    ):
        assert text == complete_sentences(text)
        sentences = split_sentences(text, language)
        assert sentences
        assert all(parse(sentence, language) for sentence in sentences)


def test_free_wording_is_left_alone() -> None:
    model = kit.fill(kit.writer())
    assert not parse(model.write(small.facts(), ["en", "en"])[0], "en")


# --------------------------------------------------------------------------------------------- probabilities
@pytest.mark.parametrize("strategy", ["quarters", "top_down", "encoder_decoder"])
def test_probabilities_are_those_of_decoding(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = kit.fill(kit.writer(strategy=strategy, max_tokens=12))
    monkeypatch.setattr(model.tokenizer, "decode", lambda ids: "A" * len(ids))  # one letter a token
    prompt, real = model.tokenizer.batch_prompts(["en", "zh"])
    memory = model.recall(small.facts(), *kit.study())
    host, steps = model.decoder.host, []

    def watch(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        steps.append(scores.softmax(-1).max(-1).values)
        return scores

    model.decoder.generate(
        prompt,
        real,
        memory,
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=2,
        logits_processor=[watch],
    )
    assert host is model.decoder.host
    seen = torch.stack(steps, dim=1)
    for row, written in zip(seen, model.compose(small.facts(), ["en", "zh"], *kit.study()), strict=True):
        (sentence,) = written.sentences
        torch.testing.assert_close(torch.tensor(sentence.probabilities), row[: len(sentence.probabilities)])
        assert sentence.least == min(sentence.probabilities) <= sentence.certainty <= max(sentence.probabilities)


def test_constrained_text_keeps_the_models_own_doubts() -> None:
    """Half of the words are forced on a writer that knows nothing: it says so."""
    model = kit.fill(kit.writer(wording="canonical", max_tokens=60))
    written = model.compose(small.facts(), ["en", "zh"], *kit.study())
    assert [w.text for w in written] == model.write(small.facts(), ["en", "zh"], *kit.study())
    for language, text in zip(("en", "zh"), written, strict=True):
        assert [s.text for s in text.sentences] == split_sentences(text.text, language)
        assert all(s.probabilities and s.certainty < 0.5 for s in text.sentences)


def test_tokens_are_counted_with_the_sentence_they_end_in() -> None:
    written = by_sentence("No mass. No cyst.", "en", [2, 8, 10, 17], [0.5, 0.5, 0.9, 0.1])
    assert [s.probabilities for s in written.sentences] == [(0.5, 0.5), (0.9, 0.1)]
    assert written.sentences[0].certainty == pytest.approx(0.5)
    assert written.sentences[1].certainty == pytest.approx(0.3)
    assert by_sentence("", "en", [], []).sentences == ()


def test_what_the_limit_cuts_off_is_left_out() -> None:
    assert complete_sentences("No mass. There is a") == "No mass."
    assert complete_sentences("未见肿块。右肺") == "未见肿块。"
    assert complete_sentences("There is") == ""


def test_the_bundled_writer_already_speaks_canonically() -> None:
    """Its own first choice is always allowed, so the constraint changes nothing it says about facts."""
    from ctscribe import checkpoint

    writer = checkpoint.load().model.language
    facts = facts_of([(small.NODULE,), (small.EFFUSION,)])
    free = writer.write(facts, ["en", "zh"])
    writer.config = replace(writer.config, wording="canonical")
    assert writer.write(facts, ["en", "zh"]) == free
