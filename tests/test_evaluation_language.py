"""Language metrics: equal to the programs others use on a fixed corpus, hand-worked examples, and laws."""

from __future__ import annotations

import json
import math
import pickle
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import report_like
from ctscribe.errors import CheckpointError, DependencyMissing, InputRefused, UnreadableInput, UsageError
from ctscribe.evaluation import tokens as tokens_module
from ctscribe.evaluation.bleu import Bleu
from ctscribe.evaluation.cider import Cider
from ctscribe.evaluation.meteor import Meteor, align, as_written, chunks, meteor, stem
from ctscribe.evaluation.meteor_jar import MeteorJar
from ctscribe.evaluation.ngrams import BLOCK
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.rouge import RougeL, common_subsequence
from ctscribe.evaluation.scorer import Scorer, score_pair
from ctscribe.evaluation.tokens import chinese_tokens, english_tokens
from ctscribe.evaluation.wordnet import WordNet
from ctscribe.evaluation.words import ByWords

ENGLISH = [
    "There is a 12x9.3 mm nodule in the right upper lobe. No pleural effusion.",
    "Both lungs are clear. No pleural effusion or pneumothorax is seen.",
    "Patchy ground-glass opacities (up to 4.5mm) are present in both lungs; the patient's heart is enlarged.",
    "The heart size is normal. Calcified plaques are seen in the aorta -- mild.",
    "A 3 cm mass with spiculated margins is seen in the left lower lobe, and it cannot be excluded.",
    "No nodule. No mass. No effusion.",
]
CHINESE = [
    "右肺上叶见一枚实性结节,大小约12×9mm。未见胸腔积液。",
    "双肺未见异常密度影,心影不大。",
    "双肺见多发磨玻璃影,以下叶为著;左侧胸腔少量积液。",
    "左肺下叶见肿块,长径约35毫米,边缘毛刺。",
    "主动脉壁钙化,冠状动脉钙化。",
    "未见结节。未见积液。",
]


def corpus(language: str, n: int = 40, seed: int = 0) -> list[Pair]:
    """Pairs put together from sentences of the fixed corpus, some identical, some short, some unrelated."""
    rng = np.random.default_rng(seed)
    sentences = ENGLISH if language == "en" else CHINESE

    def text() -> str:
        return " ".join(sentences[i] for i in rng.integers(0, len(sentences), rng.integers(1, 4)))

    pairs = []
    for i in range(n):
        reference = text()
        candidate = reference if i % 9 == 0 else text()
        pairs.append(Pair(Record(str(i), candidate, language), Record(str(i), reference, language)))  # type: ignore[arg-type]
    return pairs


def fitted(scorer: Scorer, pairs: list[Pair]) -> Scorer:
    return scorer.fitted([p.reference for p in pairs])


def total(scorer: Scorer, pairs: list[Pair]) -> dict[str, float]:
    return {k: float(v) for k, v in scorer.values(scorer.tally(pairs).sum(axis=0)).items()}


# ------------------------------------------------------------------------------------------ pycocoevalcap


def coco(pairs: list[Pair]) -> tuple[dict, dict]:
    """The pairs as pycocoevalcap wants them, already tokenised."""
    gts = {i: [" ".join(p.reference.tokens)] for i, p in enumerate(pairs)}
    res = {i: [" ".join(p.candidate.tokens)] for i, p in enumerate(pairs)}
    return gts, res


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("seed", [0, 1])
def test_bleu_equals_pycocoevalcap(language, seed):
    module = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed")
    pairs = corpus(language, seed=seed)
    score, each = module.Bleu(4).compute_score(*coco(pairs), verbose=0)
    value = total(Bleu(), pairs)
    np.testing.assert_allclose([value[f"bleu{n}"] for n in range(1, 5)], score, atol=1e-9)
    for i in range(len(pairs)):
        own = score_pair(Bleu(), pairs[i]).values
        np.testing.assert_allclose([own[f"bleu{n}"] for n in range(1, 5)], [e[i] for e in each], atol=1e-9)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_rouge_l_equals_pycocoevalcap(language):
    module = pytest.importorskip("pycocoevalcap.rouge.rouge", reason="pycocoevalcap is not installed")
    pairs = corpus(language)
    score, each = module.Rouge().compute_score(*coco(pairs))
    assert total(RougeL(), pairs)["rouge_l"] == pytest.approx(score, abs=1e-9)
    np.testing.assert_allclose(RougeL().tally(pairs)[:, 0], each, atol=1e-9)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_cider_d_equals_pycocoevalcap(language):
    module = pytest.importorskip("pycocoevalcap.cider.cider", reason="pycocoevalcap is not installed")
    pairs = corpus(language)
    score, each = module.Cider().compute_score(*coco(pairs))
    scorer = fitted(Cider(), pairs)
    assert total(scorer, pairs)["cider_d"] == pytest.approx(score, abs=1e-9)
    np.testing.assert_allclose(scorer.tally(pairs)[:, 0], each, atol=1e-9)


def test_cider_equals_the_definition_written_out():
    pairs = corpus("en")
    references = [p.reference.tokens for p in pairs]

    def ngrams(tokens: tuple[str, ...], n: int) -> Counter:
        return Counter(tokens[i : i + n] for i in range(len(tokens) - n + 1))

    def weights(tokens: tuple[str, ...], n: int) -> dict:
        return {
            g: c * math.log(len(pairs) / max(1, sum(g in ngrams(r, n) for r in references)))
            for g, c in ngrams(tokens, n).items()
        }

    def cosine(a: dict, b: dict) -> float:
        norm = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
        return sum(v * b.get(g, 0.0) for g, v in a.items()) / norm if norm else 0.0

    for pair, row in list(zip(pairs, fitted(Cider(), pairs).tally(pairs), strict=True))[:6]:
        expected = [cosine(weights(pair.candidate.tokens, n), weights(pair.reference.tokens, n)) for n in range(1, 5)]
        assert row[1] == pytest.approx(10 * np.mean(expected), abs=1e-9)


# ------------------------------------------------------------------------------------------ tokens


def test_english_tokens_equal_the_penn_treebank_tokeniser_on_the_fixed_corpus():
    module = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer", reason="pycocoevalcap is not installed")
    try:
        theirs = module.PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(ENGLISH)})
    except FileNotFoundError:
        pytest.skip("Java is not installed")
    assert [" ".join(english_tokens(text)) for text in ENGLISH] == [theirs[i][0] for i in range(len(ENGLISH))]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A 12x9.3 mm nodule (RUL).", "a 12x9 .3 mm nodule -lrb- rul -rrb-"),
        ('ground-glass, 50% "old" CT. It\'s', "ground-glass 50 % old ct. it 's"),
        ("PET/CT of 05/10/2015 cannot", "pet/ct of 05/10/2015 can not"),
    ],
)
def test_english_convention(text, tokens):
    assert english_tokens(text) == tuple(tokens.split())


def test_chinese_convention_levels_widths_and_units():
    expected = ("右", "肺", "结", "节", "12.5", "mm", "ct")
    assert chinese_tokens("右肺结节,12.5毫米(CT)") == expected
    assert chinese_tokens("右肺 结节 12.5㎜ CT。") == expected


# ------------------------------------------------------------------------------------------ other programs' numbers

GOLDEN = json.loads((Path(__file__).parent / "golden" / "metric_references.json").read_text(encoding="utf-8"))


def golden_pairs(language: str) -> list[Pair]:
    """The corpus on which `benchmarks/references/metric_references.py` ran the other programs."""
    texts = enumerate(report_like.texts(language))
    return [Pair(Record(str(i), ours, language), Record(str(i), theirs, language)) for i, (ours, theirs) in texts]  # type: ignore[arg-type]


def test_english_tokens_are_those_of_stanford_on_report_like_sentences():
    ours = [" ".join(english_tokens(text)) for text in report_like.ENGLISH]
    assert ours == GOLDEN["ptb"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_values_are_those_of_pycocoevalcap(language):
    pairs, golden = golden_pairs(language), GOLDEN[language]
    bleu = total(Bleu(), pairs)
    np.testing.assert_allclose([bleu[f"bleu{n}"] for n in range(1, 5)], golden["bleu"], atol=1e-6)
    each = Bleu().values(Bleu().tally(pairs))
    np.testing.assert_allclose([each[f"bleu{n}"] for n in range(1, 5)], golden["bleu_each"], atol=1e-6)
    rouge = RougeL().tally(pairs)
    np.testing.assert_allclose(rouge[:, 0], golden["rouge_l_each"], atol=1e-6)
    assert total(RougeL(), pairs)["rouge_l"] == pytest.approx(golden["rouge_l"], abs=1e-6)
    cider = fitted(Cider(), pairs)
    np.testing.assert_allclose(cider.tally(pairs)[:, 0], golden["cider_d_each"], atol=1e-6)
    assert total(cider, pairs)["cider_d"] == pytest.approx(golden["cider_d"], abs=1e-6)


# ------------------------------------------------------------------------------------------ METEOR


@pytest.mark.parametrize("language", ["en", "zh"])
def test_meteor_is_that_of_nltk(language):
    pairs = golden_pairs(language)
    golden = GOLDEN[language]["meteor_exact_stem"]
    np.testing.assert_allclose(Meteor().tally(pairs)[:, 0], golden, atol=1e-9)
    assert total(Meteor(), pairs)["meteor_exact_stem"] == pytest.approx(np.mean(golden), abs=1e-9)


def test_meteor_worked_by_hand():
    # nodule/nodules by stem, "no" as it is; is/are and seen/visible do not match. m = 2, P = R = 1/2, one chunk:
    # 0.5 * (1 - 0.5 * (1/2)^3) = 0.46875
    ours, theirs = ["no", "nodules", "are", "visible"], ["no", "nodule", "is", "seen"]
    assert align(ours, theirs, (as_written, stem)) == [(0, 0), (1, 1)]
    assert meteor(ours, theirs, (as_written, stem)) == pytest.approx(0.46875)
    assert meteor(ours, theirs, (as_written,)) == pytest.approx(0.25 * (1 - 0.5))
    assert meteor(["a"], ["b"], (as_written,)) == meteor([], ["b"], (as_written,)) == 0.0


def test_chunks_are_runs_on_both_sides():
    assert [chunks(m) for m in ([], [(0, 0)], [(0, 0), (1, 1)], [(0, 1), (1, 0)], [(0, 0), (2, 1)])] == [0, 1, 1, 2, 2]


def tiny_wordnet(folder: Path) -> Path:
    """Three synsets in WordNet's own file format, with the byte offsets that it keeps."""
    licence = "  1 No licence, for nobody wrote this but a test.  \n"
    synsets = {
        "noun": [("n", ["effusion", "fluid"]), ("n", ["nodule", "small_round_lump"])],
        "verb": [("v", ["see", "observe"])],
        "adj": [("a", ["big", "large(a)"])],
        "adv": [],
    }
    folder.mkdir()
    for part, entries in synsets.items():
        data, index = licence, {}
        for letter, words in entries:
            spelt = " ".join(f"{word} 0" for word in words)
            for word in words:
                index.setdefault(word.partition("(")[0], []).append(f"{len(data):08d}")
            data += f"{len(data):08d} 00 {letter} {len(words):02x} {spelt} 000 | gloss  \n"
        lines = "".join(
            f"{word} {part[0]} {len(places)} 0 {len(places)} 0 {' '.join(places)}  \n" for word, places in index.items()
        )
        (folder / f"data.{part}").write_text(data, encoding="latin-1")
        (folder / f"index.{part}").write_text(licence + lines, encoding="latin-1")
        (folder / f"{part}.exc").write_text("seen see\n" if part == "verb" else "", encoding="latin-1")
    return folder


def test_wordnet_adds_a_stage_and_the_name_says_so(tmp_path):
    folder = tiny_wordnet(tmp_path / "wordnet")
    words = WordNet(folder)
    assert words.synonyms("effusions") == {"effusions", "effusion", "fluid"}
    assert words.synonyms("seen") == {"seen", "see", "observe"}  # irregular
    assert words.synonyms("nodules") == {"nodules", "nodule"}  # phrases are no single word
    assert words.synonyms("big") == {"big", "large"}
    assert words.synonyms("clear") == {"clear"}
    ours, theirs = ["a", "big", "effusion"], ["a", "large", "fluid"]
    assert align(ours, theirs, (as_written, stem), words) == [(0, 0), (1, 1), (2, 2)]
    pair = Pair(Record("0", "A big effusion."), Record("0", "A large fluid."))
    assert score_pair(Meteor(folder), pair).values == {"meteor_exact_stem_wordnet": pytest.approx(1 - 0.5 / 27)}
    assert score_pair(Meteor(), pair).values["meteor_exact_stem"] < 0.4
    assert score_pair(pickle.loads(pickle.dumps(Meteor(folder))), pair) == score_pair(Meteor(folder), pair)


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match="wordnet-base"):
        Meteor(tmp_path)


def test_synonyms_are_those_nltk_reads_in_wordnet():
    folder = Path("/usr/share/wordnet")
    if not folder.is_dir():
        pytest.skip("WordNet is not installed (Debian: wordnet-base)")
    words = WordNet(folder)
    assert {word: sorted(words.synonyms(word)) for word in GOLDEN["synonyms"]} == GOLDEN["synonyms"]


# ------------------------------------------------------------------------------------------ METEOR 1.5


def test_scores_of_the_meteor_program_follow_from_its_counts(tmp_path):
    golden = GOLDEN["en"]["meteor_jar"]
    scorer, pairs = MeteorJar(*imitation(tmp_path, golden["statistics"])), golden_pairs("en")
    tally = scorer.tally(pairs)
    np.testing.assert_allclose(scorer.values(tally)["meteor_1_5"], golden["each"], atol=1e-9)
    assert scorer.values(tally.sum(axis=0))["meteor_1_5"] == pytest.approx(golden["set"], abs=1e-9)
    assert scorer.tally([]).shape == (0, tally.shape[1])


def imitation(folder: Path, statistics: list[str]) -> tuple[Path, str]:
    """A stand-in for Java and the archive: answers each question with the counts the real program gave."""
    jar, java = folder / "meteor-1.5.jar", folder / "java"
    jar.write_bytes(b"")
    (folder / "counts").write_text("\n".join(statistics), encoding="utf-8")
    java.write_text(
        f"#!{sys.executable}\nimport sys, pathlib\nassert sys.argv[2:] == ['-jar', {str(jar)!r}, '-', '-', '-stdio', "
        "'-l', 'en', '-norm'], sys.argv\n"
        "for line, counts in zip(sys.stdin, pathlib.Path('counts').read_text().split('\\n')):\n"
        "    assert line.startswith('SCORE ||| ') and line.count('|||') == 2\n    print(counts)\n",
        encoding="utf-8",
    )
    java.chmod(0o755)
    return jar, str(java)


@pytest.mark.slow
def test_the_meteor_program_itself():
    module = pytest.importorskip("pycocoevalcap.meteor.meteor", reason="pycocoevalcap, which has it, is not installed")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed")
    scorer = MeteorJar(Path(module.__file__).with_name("meteor-1.5.jar"))
    np.testing.assert_allclose(
        scorer.values(scorer.tally(golden_pairs("en")))["meteor_1_5"], GOLDEN["en"]["meteor_jar"]["each"], atol=1e-6
    )


def test_what_meteor_1_5_cannot_do_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="inside pycocoevalcap"):
        MeteorJar(tmp_path / "none.jar")
    jar, java = imitation(tmp_path, ["1 2 3"])
    with pytest.raises(DependencyMissing, match="Java runtime"):
        MeteorJar(jar, java=str(tmp_path / "no-java"))
    with pytest.raises(DependencyMissing, match="lines of 23 counts"):
        MeteorJar(jar, java).tally(golden_pairs("en")[:1])
    with pytest.raises(UsageError, match="English"):
        MeteorJar(jar, java).tally(golden_pairs("zh"))


# ------------------------------------------------------------------------------------------ Chinese

# One pair under three conventions: by characters, by words, and cut at white space as tools for English do.
ZH_REFERENCE = "右肺上叶见一枚磨玻璃结节,大小约8×6mm,边界清楚。"
ZH_CANDIDATE = "右肺上叶可见一磨玻璃结节,大小约9×6mm,边界清晰。"


def test_chinese_is_scored_by_characters_first_and_never_by_white_space():
    pytest.importorskip("jieba", reason="jieba is not installed (extra zh)")
    characters = Pair(Record("0", ZH_CANDIDATE, "zh"), Record("0", ZH_REFERENCE, "zh"))
    words = Pair(*(replace(record, segmentation="words") for record in (characters.candidate, characters.reference)))
    bleu = {name: score_pair(Bleu(), pair).values["bleu4"] for name, pair in (("c", characters), ("w", words))}
    assert bleu["c"] > 1.2 * bleu["w"] > 0.1
    assert len(words.reference.tokens) < len(characters.reference.tokens)
    assert "".join(words.reference.tokens) == "".join(characters.reference.tokens)


def test_chinese_called_english_is_refused_and_not_scored_zero():
    # rouge-score gives identical Chinese texts 0 and says nothing: it sees no word in them.
    assert GOLDEN["rouge_score_of_identical_chinese"] == 0.0
    same = Record("0", ZH_REFERENCE, "zh")
    assert score_pair(RougeL(), Pair(same, same)).values == {"rouge_l": 1.0}
    with pytest.raises(InputRefused, match="mostly Chinese"):
        _ = replace(same, language="en").tokens
    assert Record("0", "Fleischner (中文) follow-up in 6 months").tokens[0] == "fleischner"


def test_metrics_by_words_are_those_of_the_text_cut_into_words():
    pytest.importorskip("jieba", reason="jieba is not installed (extra zh)")
    whole = corpus("zh", 12)
    cut = [Pair(*(replace(r, segmentation="words") for r in (pair.candidate, pair.reference))) for pair in whole]
    words = ByWords().fitted([pair.reference for pair in whole])
    values = words.values(words.tally(whole).sum(axis=0))
    for part in (Bleu(), RougeL(), Meteor(), Cider()):
        alone = part.fitted([pair.reference for pair in cut])
        for name, value in alone.values(alone.tally(cut).sum(axis=0)).items():
            assert values[name] == value
    assert set(values) == {measure.name for measure in words.measures}


def test_words_need_jieba_and_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    tokens_module._jieba.cache_clear()
    with pytest.raises(DependencyMissing, match="ctscribe\\[zh\\]"):
        _ = Record("0", ZH_REFERENCE, "zh", segmentation="words").tokens
    tokens_module._jieba.cache_clear()


# ------------------------------------------------------------------------------------------ laws

LEXICAL = (Bleu(), RougeL(), Meteor(), Cider())


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("scorer", LEXICAL, ids=lambda s: s.name)
def test_a_perfect_copy_has_the_best_value(scorer, language):
    pairs = [Pair(p.reference, p.reference) for p in corpus(language)]
    long = [p for p in pairs if len(set(p.reference.tokens)) > 8]
    value = total(fitted(scorer, pairs), long)
    for measure in scorer.measures:
        # METEOR charges even one unbroken run of m words 0.5 / m^3.
        assert value[measure.name] == pytest.approx(measure.high, abs=1e-4 if scorer.name == "meteor" else 1e-6)


@pytest.mark.parametrize("scorer", LEXICAL, ids=lambda s: s.name)
def test_one_pair_scores_the_same_alone_and_among_many(scorer):
    pairs = corpus("en", n=BLOCK + 20)
    ready = fitted(scorer, pairs)
    together = ready.tally(pairs)
    for i in (0, 7, BLOCK - 1, BLOCK, BLOCK + 19):
        np.testing.assert_allclose(ready.tally([pairs[i]])[0], together[i], atol=1e-12)
    assert ready.tally([]).shape == (0, together.shape[1])


def test_common_subsequence_equals_the_textbook_recursion():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (list(rng.choice(list("abcd"), rng.integers(0, 90))) for _ in range(2))
        table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
        assert common_subsequence(a, b) == table[-1, -1]


def test_nothing_in_common_scores_zero_and_one_reference_has_no_cider():
    pair = Pair(Record("0", "heart enlarged"), Record("0", "lungs clear"))
    assert score_pair(RougeL(), pair).values == {"rouge_l": 0.0}
    assert score_pair(Bleu(), pair).values["bleu4"] == pytest.approx(0.0, abs=1e-6)
    assert score_pair(Cider().fitted([pair.reference]), pair).values == {"cider_d": None, "cider": None}
    with pytest.raises(UsageError, match="document frequencies"):
        Cider().tally([pair])
