"""BERTScore under a tiny BERT: the authors' program's values, the definition written out, and laws."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import report_like
import tiny_bert
from ctscribe.errors import CheckpointError, UsageError
from ctscribe.evaluation.bertscore import BertScore
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import score_pair

GOLDEN = json.loads((Path(__file__).parent / "golden" / "metric_references.json").read_text(encoding="utf-8"))
PAIRS = [
    Pair(Record(str(i), ours), Record(str(i), theirs)) for i, (ours, theirs) in enumerate(report_like.texts("en")[:12])
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_bert.save(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize(("name", "idf"), [("plain", False), ("idf", True)])
def test_values_are_those_of_the_authors_program(model, name, idf):
    scorer = BertScore(model, layer=2, idf=idf).fitted([pair.reference for pair in PAIRS])
    np.testing.assert_allclose(scorer.tally(PAIRS)[:, :3].T, GOLDEN["bert_score"][name], atol=1e-5)


def test_the_definition_written_out(model):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    sides = []
    for text in ("No pleural effusion.", "There is a small pleural effusion."):
        with torch.no_grad():
            (states,) = network(**tokenizer(text, return_tensors="pt")).last_hidden_state.double().numpy()
        sides.append(states / np.linalg.norm(states, axis=1, keepdims=True))
    alike = sides[0] @ sides[1].T
    precision, recall = alike.max(axis=1)[1:-1].mean(), alike.max(axis=0)[1:-1].mean()  # markers weigh nothing
    pair = Pair(Record("0", "No pleural effusion."), Record("0", "There is a small pleural effusion."))
    value = score_pair(BertScore(model), pair).values
    expected = {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall)}
    assert value == pytest.approx(expected, abs=1e-5)


def test_a_copy_scores_one_and_padding_changes_nothing(model):
    scorer = BertScore(model)
    copy = Pair(PAIRS[3].reference, PAIRS[3].reference)
    assert score_pair(scorer, copy).values == pytest.approx({"precision": 1.0, "recall": 1.0, "f1": 1.0}, abs=1e-6)
    together = scorer.tally(PAIRS)
    alone = np.concatenate([scorer.tally([pair]) for pair in PAIRS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert scorer.tally([]).shape == (0, together.shape[1])


def test_a_text_without_words_scores_zero(model):
    assert score_pair(BertScore(model), Pair(Record("0", " "), Record("0", "No nodule."))).values["f1"] == 0.0


def test_texts_longer_than_the_model_reads_are_counted(model):
    scorer = BertScore(model)
    long = Record("0", "nodule " * 60)
    (row,) = scorer.table(scorer.tally([Pair(long, Record("0", "No nodule."))]).sum(axis=0))
    assert row == {"reports": 1, "texts_cut": 1, "longest": tiny_bert.POSITIONS}
    fits = Record("0", "nodule " * (tiny_bert.POSITIONS - 2))
    (row,) = scorer.table(scorer.tally([Pair(fits, fits)]).sum(axis=0))
    assert row["texts_cut"] == 0


def test_rescaling_only_with_a_baseline_file(model, tmp_path):
    file = tmp_path / "baseline.csv"
    file.write_text("LAYER,P,R,F\n2,0.5,0.4,0.2\n", encoding="utf-8")
    plain, scaled = (BertScore(model, layer=2, baseline=b).tally(PAIRS)[:, :3] for b in (None, file))
    np.testing.assert_allclose(scaled, (plain - [0.5, 0.4, 0.2]) / [0.5, 0.6, 0.8], atol=1e-9)
    with pytest.raises(UsageError, match="layer 3"):
        BertScore(model, layer=3, baseline=file)


def test_a_scorer_travels_to_other_processes(model):
    scorer = BertScore(model, layer=1)
    sent = pickle.dumps(scorer)
    assert len(sent) < 5000  # the path, not the weights
    np.testing.assert_array_equal(pickle.loads(sent).tally(PAIRS[:2]), scorer.tally(PAIRS[:2]))


def test_what_cannot_be_loaded_is_said(model, tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json there"):
        BertScore(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="fit config"):
        BertScore(tmp_path)
    with pytest.raises(UsageError, match=r"1 \.\. 3"):
        BertScore(model, layer=4)
    with pytest.raises(UsageError, match="document frequencies"):
        BertScore(model, idf=True).tally(PAIRS)
