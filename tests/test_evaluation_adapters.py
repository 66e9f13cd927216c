"""Adapters: their table, their refusals, and their real loading paths on stand-ins in the same form."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tiny_bert
from ctscribe.errors import CheckpointError, DependencyMissing, UsageError
from ctscribe.evaluation import adapters
from ctscribe.evaluation.adapters import chexbert, green, radeval, radgraph, ratescore
from ctscribe.evaluation.adapters.chexbert import CheXbert
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Scorer, score_pair

TEXTS = [
    ("There is a small pleural effusion.", "No pleural effusion."),
    ("The heart is enlarged.", "The heart is enlarged."),
    ("Consolidation in the left lower lobe.", "Both lungs are clear."),
]
PAIRS = [Pair(Record(str(i), ours), Record(str(i), theirs)) for i, (ours, theirs) in enumerate(TEXTS)]
CHINESE = Pair(Record("0", "双肺未见异常。", "zh"), Record("0", "双肺未见异常。", "zh"))
CACHES = (radgraph._annotator, ratescore._scorer, green._scorer, radeval._evaluator, chexbert._network)


@pytest.fixture(autouse=True)
def _forget():
    """Stand-ins of one test are not found by the next."""
    for cached in CACHES:
        cached.cache_clear()
    yield
    for cached in CACHES:
        cached.cache_clear()


def total(scorer: Scorer) -> dict[str, float]:
    return {name: float(value) for name, value in scorer.values(scorer.tally(PAIRS).sum(axis=0)).items()}


# ------------------------------------------------------------------------------------------ table


def test_every_adapter_says_what_it_is_and_what_it_was_trained_on():
    table = adapters.available()
    for name, adapter in table.items():
        assert adapter.name == name
        assert all(words.strip() for words in (adapter.says, adapter.trained_on))
    assert {name for name, adapter in table.items() if adapter.xray_only} == {"chexbert", "green"}
    assert {"radgraph", "chexbert", "ratescore", "green", "radeval"} <= set(table)


def test_the_documentation_lists_the_same_adapters():
    page = (Path(__file__).parents[1] / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `--metric ")]
    assert [row[1].strip().removeprefix("`--metric ").split("=")[0].rstrip("`") for row in rows] == list(
        adapters.available()
    )


def test_listing_adapters_imports_no_model():
    code = (
        "import sys, ctscribe.evaluation.adapters as a\n"
        "from ctscribe.evaluation.adapters import chexbert, green, radeval, radgraph, ratescore\n"
        "import ctscribe.evaluation.bertscore, ctscribe.evaluation.words\n"
        "a.available(); print(*({'torch', 'transformers', 'jieba', 'snowballstemmer'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_unknown_names_options_and_paths_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"chexbert \| ratescore"):
        adapters.build("chexbrt", tmp_path)
    with pytest.raises(UsageError, match="no path"):
        adapters.build("chexbert")
    with pytest.raises(UsageError, match="no path"):
        adapters.build("words", tmp_path)
    with pytest.raises(UsageError, match="layer, idf, baseline, device"):
        adapters.build("bertscore", tmp_path, depth="3")
    with pytest.raises(UsageError, match="hidden layer"):
        adapters.from_text(f"bertscore={tmp_path},layer=last")
    with pytest.raises(UsageError, match="OPTION=VALUE"):
        adapters.from_text(f"bertscore={tmp_path},idf")


def test_words_of_the_command_line_become_paths_and_options(tmp_path):
    model = tiny_bert.save(tmp_path / "bert")
    scorer = adapters.from_text(f"bertscore={model},layer=2,idf=true")
    assert (scorer.layer, scorer.idf, scorer.model) == (2, True, model)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("radgraph", "radgraph-xl.tar.gz"),
        ("chexbert", "bert-base-uncased"),
        ("ratescore", "Angelakeke/RaTE-NER-Deberta"),
        ("green", "GREEN-radllama2-7b"),
        ("bertscore", "nothing is downloaded"),
        ("meteor_jar", "inside pycocoevalcap"),
    ],
)
def test_missing_weights_are_named_with_where_to_get_them(name, says, tmp_path):
    with pytest.raises(CheckpointError, match=says):
        adapters.build(name, tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------ stand-ins


def radgraph_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "radgraph-xl"
    (folder / "vocabulary").mkdir(parents=True)
    for name in ("config.json", "weights.th"):
        (folder / name).write_text("{}", encoding="utf-8")
    return tmp_path


def folder_with(tmp_path: Path, *files: str) -> Path:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}", encoding="utf-8")
    return tmp_path


CASES = {
    "radgraph": lambda tmp: radgraph_folder(tmp),
    "ratescore": lambda tmp: folder_with(tmp, "RaTE-NER-Deberta/config.json", "BioLORD-2023-C/config.json"),
    "green": lambda tmp: folder_with(tmp, "config.json"),
    "radeval": lambda tmp: config_file(tmp, ["bleu", {"radgraph": {}}]),
}


def config_file(folder: Path, metrics: object) -> Path:
    (folder / "radeval.yaml").write_text(json.dumps({"metrics": metrics}), encoding="utf-8")
    return folder / "radeval.yaml"


@pytest.mark.parametrize("name", CASES)
def test_a_package_that_is_not_installed_is_named(name, tmp_path, monkeypatch):
    for module in ("radgraph", "RaTEScore", "green_score", "radeval"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyMissing, match="pip install"):
        adapters.build(name, CASES[name](tmp_path))


def module(monkeypatch, name: str, **contents: object) -> None:
    made = ModuleType(name)
    for key, value in contents.items():
        setattr(made, key, value)
    monkeypatch.setitem(sys.modules, name, made)


def fake_radgraph(monkeypatch) -> list[list[str]]:
    """A package that calls each word an entity, with the real one's names, arguments and answers."""
    asked: list[list[str]] = []

    class RadGraph:
        def __init__(self, batch_size=1, cuda=None, model_type=None, temp_dir=None, model_cache_dir=None,
                     tokenizer_cache_dir=None, **kwargs):  # fmt: skip
            print("Using device: cpu")  # as the real one does
            assert (cuda, model_type) == (-1, "radgraph-xl")
            assert (Path(model_cache_dir) / model_type / "weights.th").exists()

        def __call__(self, hyps):
            asked.append(list(hyps))
            return {
                str(i): {"text": text, "entities": {str(j): {"tokens": w, "label": "OBS-DP", "relations": []}
                                                    for j, w in enumerate(text.lower().rstrip(".").split())}}
                for i, text in enumerate(hyps)
            }  # fmt: skip

    def compute_reward(hypothesis_annotation_list, reference_annotation_list, reward_level):
        ours, theirs = (
            {e["tokens"] for e in side["entities"].values()}
            for side in (hypothesis_annotation_list, reference_annotation_list)
        )
        assert reward_level == "all"
        f1 = 2 * len(ours & theirs) / (len(ours) + len(theirs))
        return f1, f1 / 2, f1 / 4

    module(monkeypatch, "radgraph", RadGraph=RadGraph)
    module(monkeypatch, "radgraph.rewards", compute_reward=compute_reward)
    return asked


def test_radgraph_annotates_each_text_once_and_takes_the_package_reward(tmp_path, monkeypatch, capsys):
    asked = fake_radgraph(monkeypatch)
    scorer = adapters.build("radgraph", radgraph_folder(tmp_path))
    value = total(scorer)
    # shared words: 2 of 6 and 3; all of 4; none of 6 and 4
    assert value == pytest.approx({"simple": (4 / 9 + 1) / 3, "partial": (4 / 9 + 1) / 6, "complete": (4 / 9 + 1) / 12})
    assert [len(texts) for texts in asked] == [5]  # three pairs, one of them with the same text twice
    assert "xl" in scorer.measures[0].says
    assert capsys.readouterr().out == ""
    empty = Pair(Record("0", ""), Record("0", "No nodule."))
    assert score_pair(scorer, empty).values["simple"] == 0.0
    assert len(pickle.dumps(scorer)) < 3000


def test_ratescore_and_green_and_radeval_are_called_as_their_packages_want(tmp_path, monkeypatch):
    class RaTEScore:
        def __init__(self, bert_model="hub", eval_model="hub", batch_size=1, use_gpu=True, visualization_path=None,
                     affinity_matrix="long"):  # fmt: skip
            assert not use_gpu
            assert (Path(bert_model).name, Path(eval_model).name) == ("RaTE-NER-Deberta", "BioLORD-2023-C")

        def compute_score(self, candidate_list, reference_list):
            return [float(c == r) for c, r in zip(candidate_list, reference_list, strict=True)]

    class GREEN:
        def __init__(self, model_name=None, output_dir=".", cpu=False, num_gpus=None):
            assert cpu
            assert Path(model_name, "config.json").exists()

        def __call__(self, refs, hyps):
            assert (refs[0], hyps[0]) == (TEXTS[0][1], TEXTS[0][0])
            return 0.5, 0.5, [0.25, 0.75, None], "summary", "table"

    class RadEval:
        def __init__(self, metrics=None, per_sample=False, show_progress=True):
            assert metrics == {"bleu": {}, "radgraph": {}}
            assert per_sample

        def __call__(self, refs, hyps):
            same = [float(h == r) for h, r in zip(hyps, refs, strict=True)]
            return {"bleu": same, "radgraph_simple": [x / 2 for x in same], "labels": {"a": 1}}

    module(monkeypatch, "RaTEScore", RaTEScore=RaTEScore)
    module(monkeypatch, "green_score", GREEN=GREEN)
    module(monkeypatch, "radeval", RadEval=RadEval)
    folders = {name: CASES[name](tmp_path / name) for name in CASES if not (tmp_path / name).mkdir()}
    assert total(adapters.build("ratescore", folders["ratescore"])) == {"ratescore": 1 / 3}
    judge = adapters.from_text(f"green={folders['green']},cpu=true")
    assert total(judge) == {"green": 0.5}  # the answer that could not be read is left out ...
    assert judge.table(judge.tally(PAIRS).sum(axis=0)) == [{"measure": "green", "pairs_scored": 2}]  # ... and counted
    assert total(adapters.build("radeval", folders["radeval"])) == {"bleu": 1 / 3, "radgraph_simple": 1 / 6}


def test_green_is_found_inside_radeval_where_its_own_package_is_not(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "green_score", None)
    made = []
    module(monkeypatch, "radeval", __path__=[])
    module(monkeypatch, "radeval.metrics", __path__=[])
    module(monkeypatch, "radeval.metrics.green_score", GREEN=lambda name, **options: made.append(name))
    adapters.build("green", CASES["green"](tmp_path))
    assert made == [str(tmp_path)]


def test_failures_of_a_package_are_ours_and_it_works_without_network(tmp_path, monkeypatch):
    import os

    class RaTEScore:
        def __init__(self, **options):
            assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
            raise OSError("cannot reach the hub")

    module(monkeypatch, "RaTEScore", RaTEScore=RaTEScore)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    with pytest.raises(CheckpointError, match="cannot reach the hub"):
        adapters.build("ratescore", CASES["ratescore"](tmp_path))
    assert "TRANSFORMERS_OFFLINE" not in os.environ


@pytest.mark.parametrize("error", [AssertionError(), Exception("download failed"), KeyError("bert")])
def test_whatever_a_package_raises_is_said_in_one_line(error, tmp_path, monkeypatch):
    def fails(**options):
        raise error

    module(monkeypatch, "RaTEScore", RaTEScore=fails)
    with pytest.raises(CheckpointError, match=f"metric ratescore(.|\n)*{type(error).__name__}"):
        adapters.build("ratescore", CASES["ratescore"](tmp_path))


def test_a_package_that_breaks_while_it_is_imported_is_refused(tmp_path, monkeypatch):
    (tmp_path / "radgraph.py").write_text("raise ValueError('made for an older library')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "radgraph", raising=False)
    with pytest.raises(DependencyMissing, match="ValueError: made for an older library"):
        adapters.build("radgraph", radgraph_folder(tmp_path))


@pytest.mark.parametrize(
    ("metrics", "says"),
    [(["crimson"], "send reports to a service"), ([], "at least one"), (None, "at least one")],
)
def test_radeval_configurations_that_are_refused(metrics, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        adapters.build("radeval", config_file(tmp_path, metrics))
    with pytest.raises(UsageError, match="list 'metrics'"):
        adapters.build("radeval", tmp_path)


# ------------------------------------------------------------------------------------------ CheXbert


def chexbert_folder(folder: Path, prefix: str = "") -> dict:
    """A tiny BERT with CheXbert's heads; returns its tensors under the published names."""
    import torch
    from transformers import BertModel

    folder.mkdir(exist_ok=True)
    config = tiny_bert.config()
    config.save_pretrained(folder)
    tiny_bert.save_tokenizer(folder)
    network = tiny_bert.filled(BertModel(config))
    heads = torch.nn.ModuleList(torch.nn.Linear(tiny_bert.WIDTH, 4 if i < 13 else 2) for i in range(14))
    tiny_bert.filled(heads, seed=1)
    named = {"bert": network, "linear_heads": heads}
    return {f"{prefix}{part}.{key}": v for part, built in named.items() for key, v in built.state_dict().items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("chexbert") / "weights"
    save_file(chexbert_folder(folder), folder / "chexbert.safetensors")
    return folder


def test_chexbert_reads_the_first_token_with_fourteen_heads(weights):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, BertModel

    state = load_file(weights / "chexbert.safetensors")
    network = BertModel(tiny_bert.config()).eval()
    network.load_state_dict({k.removeprefix("bert."): v for k, v in state.items() if k.startswith("bert.")})
    texts = [text for pair in TEXTS for text in pair]
    for text, found in zip(texts, CheXbert(weights).positive(texts), strict=True):
        ids = AutoTokenizer.from_pretrained(weights)(text, return_tensors="pt")
        with torch.no_grad():
            first = network(**ids).last_hidden_state[0, 0]
        logits = [state[f"linear_heads.{i}.weight"] @ first + state[f"linear_heads.{i}.bias"] for i in range(14)]
        assert found.tolist() == [int(x.argmax()) in (1, 3) for x in logits]


def test_chexbert_f1_is_scikit_learns(weights):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    truth, called = rng.random((2, 30, 14)) < 0.3
    truth[:, 2] = called[:, 2] = False  # a label nobody has: 0 in the macro average, as in f1chexbert
    rows = np.concatenate([called & truth, called & ~truth, ~called & truth], axis=1).astype(float)
    value = CheXbert(weights).values(rows.sum(axis=0))
    five = [chexbert.LABELS.index(label) for label in chexbert.FIVE]
    for count, chosen in ((14, list(range(14))), (5, five)):
        for average in ("micro", "macro"):
            expected = metrics.f1_score(truth[:, chosen], called[:, chosen], average=average, zero_division=0)
            assert value[f"{average}_f1_{count}"] == pytest.approx(expected)


def test_chexbert_counts_over_pairs_and_says_what_it_was_trained_on(weights):
    scorer = adapters.build("chexbert", weights)
    texts = [text for pair in TEXTS for text in pair]
    found = CheXbert(weights).positive(texts)
    ours, theirs = found[0::2], found[1::2]
    assert 0 < found.sum() < found.size
    np.testing.assert_array_equal(scorer.tally(PAIRS)[:, :14], ours & theirs)
    rows = scorer.table(scorer.tally(PAIRS).sum(axis=0))
    assert [row["support"] for row in rows] == theirs.sum(axis=0).tolist()
    assert all("X-ray" in measure.says for measure in scorer.measures)
    assert scorer.tally([]).shape == (0, 42)


def test_published_chexbert_weights_are_converted_and_the_pickle_itself_refused(tmp_path, weights):
    import torch

    folder = tmp_path / "own"
    state = chexbert_folder(folder, prefix="module.")
    torch.save({"model_state_dict": state}, folder / "chexbert.pth")
    with pytest.raises(CheckpointError, match="pickle"):
        CheXbert(folder)
    chexbert.convert(folder / "chexbert.pth", folder)
    np.testing.assert_array_equal(CheXbert(folder).tally(PAIRS), CheXbert(weights).tally(PAIRS))
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump({"model_state_dict": print}, file, protocol=2)
    with pytest.raises(CheckpointError, match="model_state_dict"):
        chexbert.convert(tmp_path / "evil.pth", tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    from safetensors.torch import save_file

    state = chexbert_folder(tmp_path)
    del state["linear_heads.13.bias"]
    save_file(state, tmp_path / "chexbert.safetensors")
    with pytest.raises(CheckpointError, match=r"linear_heads\.13\.bias"):
        CheXbert(tmp_path)


# ------------------------------------------------------------------------------------------ languages


def test_models_that_read_english_refuse_chinese_and_words_refuse_english(weights, tmp_path, monkeypatch):
    fake_radgraph(monkeypatch)
    for scorer in (CheXbert(weights), adapters.build("radgraph", radgraph_folder(tmp_path))):
        with pytest.raises(UsageError, match="English"):
            scorer.tally([CHINESE])
    pytest.importorskip("jieba", reason="jieba is not installed (extra zh)")
    words = adapters.from_text("words")
    with pytest.raises(UsageError, match="Chinese"):
        words.tally(PAIRS)
    fitted = words.fitted([CHINESE.reference, Record("1", "左肺下叶见结节。", "zh")])
    value = fitted.values(fitted.tally([CHINESE]).sum(axis=0))
    assert {"bleu4", "rouge_l", "cider_d", "meteor_exact_stem"} <= set(value)
    assert float(value["rouge_l"]) == 1.0
