"""n-gram metrics: equal to pycocoevalcap on a fixed corpus, and laws."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from ctscribe.errors import UsageError
from ctscribe.evaluation.bleu import Bleu
from ctscribe.evaluation.cider import Cider
from ctscribe.evaluation.ngrams import BLOCK
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.rouge import RougeL, common_subsequence
from ctscribe.evaluation.scorer import Scorer, score_pair
from ctscribe.evaluation.tokens import chinese_tokens, english_tokens

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


# ------------------------------------------------------------------------------------------ laws

LEXICAL = (Bleu(), RougeL(), Cider())


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("scorer", LEXICAL, ids=lambda s: s.name)
def test_a_perfect_copy_has_the_best_value(scorer, language):
    pairs = [Pair(p.reference, p.reference) for p in corpus(language)]
    long = [p for p in pairs if len(set(p.reference.tokens)) > 8]
    value = total(fitted(scorer, pairs), long)
    for measure in scorer.measures:
        assert value[measure.name] == pytest.approx(measure.high, abs=1e-6)


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
