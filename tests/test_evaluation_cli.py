"""The evaluate command: what it writes, what it refuses and with which exit code, and that processes change nothing."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ctscribe.cli import table
from ctscribe.errors import UsageError
from ctscribe.evaluation import Measure, Scorer, evaluate
from ctscribe.evaluation.reading import read_rows
from ctscribe.evaluation.record import Record
from ctscribe.evaluation.stream import Crew, prepared
from ctscribe.report.render import render_text
from ctscribe.report.sampler import sample_findings

ROW = {"id": "s1", "text": "The heart is enlarged.", "language": "en"}
REFERENCE = [ROW, {**ROW, "id": "s2", "text": "No pleural effusion."}]


def saved(path: Path, rows: list, encoding: str = "utf-8") -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


@pytest.fixture
def ref(tmp_path: Path) -> Path:
    return saved(tmp_path / "ref.jsonl", REFERENCE)


def studies(n: int, seed: int, wrong: float = 0.0) -> list[dict]:
    """Synthetic studies; of a share `wrong` the report of another."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        source = i if rng.random() >= wrong else i + n
        findings = sample_findings(np.random.default_rng(source), mean_present=3.0)
        rows.append({"id": f"s{i}", "language": "en", "text": render_text(findings, "en", seed=i + seed)})
    return rows


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (["{'id': 1}"], "not_jsonl"),
        (['{"id": "s1", "text": "The heart'], "not_jsonl"),
        (["[" * 100_000], "not_jsonl"),
        ([{"text": "No id."}], "missing_ids"),
        ([ROW, {**ROW, "id": "s3"}], "missing_ids"),
        ([ROW], "missing_ids"),
        ([ROW, ROW], "duplicate_ids"),
        ([{**ROW, "text": ""}, REFERENCE[1]], "empty_texts"),
        ([{**ROW, "text": None}, REFERENCE[1]], "empty_texts"),
        (['{"id": "s1", "text": NaN}'], "not_jsonl"),
        ([{**ROW, "text": "cafÃ© sign"}, REFERENCE[1]], "wrong_encoding"),
        ([{**ROW, "text": "The heart is enlarged. 心脏增大,双肺清晰。"}, REFERENCE[1]], "mixed_languages"),
        ([{**ROW, "text": "心脏增大。", "language": "zh"}, REFERENCE[1]], "mixed_languages"),
        ([{**ROW, "language": "xx"}, REFERENCE[1]], "unknown_language"),
        (['{"id": "s1", "text": "Big heart.", "probabilities": {"mass": NaN}}', REFERENCE[1]], "bad_probability"),
        ([{**ROW, "probabilities": {"mass": 1.5}}, REFERENCE[1]], "bad_probability"),
        ([{**ROW, "probabilities": {"mass": True}}, REFERENCE[1]], "bad_probability"),
        ([{**ROW, "probabilities": {"dragon": 0.5}}, REFERENCE[1]], "bad_probability"),
        ([{**ROW, "probabilities": [0.5]}, REFERENCE[1]], "bad_probability"),
        ([{**ROW, "boxes": [{"centre_mm": [1, 2, 3], "diameter_mm": 5}]}, REFERENCE[1]], "bad_box"),
        ([{**ROW, "boxes": [{"centre_mm": [1, 2], "diameter_mm": 5, "score": 1}]}, REFERENCE[1]], "bad_box"),
        ([{**ROW, "boxes": [{"centre_mm": [1, 2, 3], "diameter_mm": 0, "score": 1}]}, REFERENCE[1]], "bad_box"),
        ([{**ROW, "boxes": {}}, REFERENCE[1]], "bad_box"),
        ([{**ROW, "metadata": "A"}, REFERENCE[1]], "bad_metadata"),
        ([{**ROW, "findings": "none"}, REFERENCE[1]], "bad_findings"),
        ([], "no_reports"),
    ],
)
def test_bad_input_is_3_with_a_stable_code_and_no_traceback(tmp_path, ref, capsys, rows, code):
    path = saved(tmp_path / "mine.jsonl", rows)
    assert table.run(["evaluate", str(path), "--ref", str(ref), "--json", "--out", str(tmp_path / "out")]) == 3
    out, err = capsys.readouterr()
    body = json.loads(err)["error"]
    assert (out, body["code"], body["exit_code"]) == ("", code, 3)
    assert body["expected"]
    assert not (tmp_path / "out").exists()
    assert table.run(["evaluate", str(path), "--ref", str(ref)]) == 3
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "expected:" in said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "gbk", "gb18030"])
def test_other_encodings_are_3_and_say_how_to_convert(tmp_path, ref, capsys, encoding):
    path = saved(tmp_path / "mine.jsonl", [{**ROW, "text": "心脏增大。", "language": "zh"}], encoding)
    assert table.run(["evaluate", str(path), "--ref", str(ref)]) == 3
    assert "iconv" in capsys.readouterr().err


def test_a_byte_order_mark_is_no_reason_to_refuse(tmp_path, ref, capsys):
    path = saved(tmp_path / "mine.jsonl", REFERENCE, "utf-8-sig")
    assert table.run(["evaluate", str(path), "--ref", str(ref), "--json", "--resamples", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["reports"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--ref", "{ref}"],
        ["{ref}", "--ref", "{ref}", "--compare", "{ref}", "{ref}"],
        ["{ref}"],
        ["{ref}", "--ref", "{ref}", "--format", "word"],
        ["{ref}", "--ref", "{ref}", "--processes", "0"],
        ["{ref}", "--ref", "{ref}", "--metric", "no-such-metric"],
        ["{ref}", "--ref", "{ref}", "--out", "{ref}"],
        ["--ref", "{ref}", "--compare", "{ref}"],
    ],
)
def test_wrong_use_is_2(ref, capsys, words):
    assert table.run(["evaluate", *(word.format(ref=ref) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_files_that_are_not_there_are_3(tmp_path, ref, capsys):
    gone = str(tmp_path / "gone.jsonl")
    assert table.run(["evaluate", gone, "--ref", str(ref)]) == 3
    assert table.run(["evaluate", str(ref), "--ref", gone]) == 3
    assert table.run(["evaluate", str(ref), "--ref", str(ref), "--pool", gone]) == 3
    assert table.run(["evaluate", str(tmp_path), "--ref", str(ref)]) == 3
    assert capsys.readouterr().err.count("cannot be read") == 4


def test_strata_of_an_unknown_field_are_refused(ref, capsys):
    assert table.run(["evaluate", str(ref), "--ref", str(ref), "--by", "kernel"]) == 3
    assert "kernel" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ results


def test_a_scorecard_is_written_whole(tmp_path, capsys):
    truth = [{**row, "patient": f"p{i // 2}", "scanner": "AB"[i % 2]} for i, row in enumerate(studies(16, seed=0))]
    probabilities = {"lung_nodule": 0.3, "mass": 0.8}
    mine = [{**row, "probabilities": probabilities} for row in studies(16, seed=5, wrong=0.5)]
    paths = [saved(tmp_path / name, rows) for name, rows in (("mine.jsonl", mine), ("ref.jsonl", truth))]
    words = ["evaluate", str(paths[0]), "--ref", str(paths[1]), "--out", str(tmp_path / "out"), "--resamples", "20"]
    assert table.run(words) == 0
    said = capsys.readouterr().out
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} >= {
        "scorecard.json", "scorecard.html", "scorecard.csv", "scorecard.tex", "strata.csv", "reports.jsonl",
        "table_labels18.csv", "table_calibration.csv",
    }  # fmt: skip
    assert not any(p.name.startswith(".") for p in out.iterdir())
    assert all(name in said for name in ("always normal", "most frequent", "random other", "retrieval"))
    page = (out / "scorecard.html").read_text(encoding="utf-8")
    for wanted in ("Funnel", "Reliability", "Strata", "<mark class=", "<u>", "scanner", "<svg"):
        assert wanted in page, wanted
    assert "http" not in page
    assert "<script" not in page
    assert "p7" not in page
    tex = (out / "scorecard.tex").read_text(encoding="utf-8")
    assert tex.count("{") == tex.count("}")
    assert r"labels18.macro\_f1" in tex
    strata = list(csv.DictReader((out / "strata.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["stratum"] for row in strata] == ["A", "B"]
    lines = (out / "reports.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"s{i}" for i in range(16)]


def test_two_systems_are_compared(tmp_path, capsys):
    names = {"good.jsonl": studies(20, 1), "poor.jsonl": studies(20, 2, wrong=0.8), "ref.jsonl": studies(20, 0)}
    good, poor, ref = (saved(tmp_path / name, rows) for name, rows in names.items())
    words = ["evaluate", "--ref", str(ref), "--compare", str(good), str(poor), "--resamples", "50", "--no-baselines"]
    assert table.run([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "p (Holm)" in said
    found = json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    rows = {row["measure"]: row for row in found["rows"]}
    assert rows["findings.micro_f1"]["better"] == "good"
    assert rows["findings.micro_f1"]["low"] > 0.3
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "a", "b", "compare.json", "compare.html", "compare.csv", "compare.tex",
    }  # fmt: skip
    assert (tmp_path / "out" / "b" / "scorecard.html").exists()
    assert table.run([*words, "--json", "--permutations", "99"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [card["system"] for card in body["scorecards"]] == ["good", "poor"]


def test_comparing_different_studies_is_3(tmp_path, capsys):
    ref = saved(tmp_path / "ref.jsonl", REFERENCE)
    half = saved(tmp_path / "half.jsonl", REFERENCE[:1])
    words = ["evaluate", "--ref", str(ref), "--compare", str(ref), str(half), "--partial", "--resamples", "0"]
    assert table.run(words) == 3
    assert "different studies" in capsys.readouterr().err


def test_of_two_systems_the_file_that_does_not_fit_is_named(tmp_path, ref, capsys):
    whole, part = saved(tmp_path / "whole.jsonl", REFERENCE), saved(tmp_path / "part.jsonl", REFERENCE[:1])
    assert table.run(["evaluate", "--ref", str(ref), "--compare", str(whole), str(part), "--resamples", "0"]) == 3
    said = capsys.readouterr().err
    assert "part.jsonl: references without a prediction" in said
    assert "whole.jsonl" not in said


def test_other_systems_files_are_scored(tmp_path, capsys):
    texts = [row["text"] for row in studies(6, 0)]
    for name in ("5res.csv", "5gts.csv"):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([text] for text in texts)
    assert table.run(["evaluate", str(tmp_path / "5res.csv"), "--ref", str(tmp_path / "5gts.csv"), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert {r["name"]: r["estimate"]["value"] for r in card["results"]}["bleu.bleu4"] == pytest.approx(1.0)
    both = tmp_path / "eval_caption.csv"
    with both.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("Question", "Ground Truth", "pred"), *(("?", text, text) for text in texts)])
    assert table.run(["evaluate", str(both), "--ref", str(both), "--json", "--resamples", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["reports"] == 6


def test_the_terminal_tables_show_every_measure(tmp_path):
    from rich.console import Console

    from ctscribe.cli.scores import comparison_table, scorecard_table, strata_table
    from ctscribe.evaluation.compare import run_compare

    truth = [{**row, "sex": "FM"[i % 2]} for i, row in enumerate(studies(10, 0))]
    ref, mine = saved(tmp_path / "ref.jsonl", truth), saved(tmp_path / "[odd] name.jsonl", studies(10, 3, wrong=0.5))
    found, cards = run_compare(mine, ref, ref, swaps=50, resamples=20)
    console = Console(width=300, record=True, file=(tmp_path / "sink").open("w", encoding="utf-8"))
    for shown in (scorecard_table(cards[0]), strata_table(cards[0]), comparison_table(found)):
        console.print(shown)
    text = console.export_text()
    assert all(result.name in text for result in cards[0].results)
    assert "[odd] name" in text
    assert "sex: female" in text
    console.file.close()


# ------------------------------------------------------------------------------------------ processes


def test_two_processes_give_the_numbers_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr("ctscribe.evaluation.stream.SHARD", 5)
    truth = [{**row, "patient": f"p{i // 3}"} for i, row in enumerate(studies(18, 0))]
    paths = saved(tmp_path / "mine.jsonl", studies(18, 4, wrong=0.4)), saved(tmp_path / "ref.jsonl", truth)
    one, two = (evaluate(*paths, resamples=30, permutations=2, processes=n) for n in (1, 2))
    assert one.to_json() == two.to_json()
    assert one.report_rows() == two.report_rows()
    assert one.worst == two.worst


def test_filed_and_held_shards_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("ctscribe.evaluation.stream.SHARD", 4)
    paths = saved(tmp_path / "mine.jsonl", studies(11, 4, wrong=0.4)), saved(tmp_path / "ref.jsonl", studies(11, 0))
    held = evaluate(*paths, resamples=10, permutations=1)
    monkeypatch.setattr("ctscribe.evaluation.stream.HELD_MOST", 3)
    assert evaluate(*paths, resamples=10, permutations=1).to_json() == held.to_json()


def test_texts_are_read_while_their_shard_is_prepared_and_not_again(tmp_path, monkeypatch):
    monkeypatch.setattr("ctscribe.evaluation.stream.HELD_MOST", 3)
    parsed = "ctscribe.report.parse.ct_rate_labels"
    paths = saved(tmp_path / "mine.jsonl", studies(6, 4, wrong=0.5)), saved(tmp_path / "ref.jsonl", studies(6, 0))
    rows = list(zip(*(read_rows(path).rows for path in paths), strict=True))
    with Crew() as crew:
        shards, _ = prepared(rows, paths, "text", crew, tmp_path)
        monkeypatch.setattr(parsed, None)  # a shard that asks the parser again would fail
        pairs = shards.load(0)
        assert [pair.candidate.ct_rate is not None for pair in pairs] == [True] * 6
        assert sum("statements" in pair.candidate.__dict__ for pair in pairs) >= 1
        assert all("contradictions" in record.__dict__ for pair in pairs for record in (pair.candidate, pair.reference))
        assert list(shards.references) == [pair.reference for pair in pairs]
        assert shards.references[2:5] == [pair.reference for pair in pairs[2:5]]
        assert shards.references[-1] == pairs[-1].reference


def test_a_large_set_is_sampled_where_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("ctscribe.evaluation.run.SAMPLE", 10)
    monkeypatch.setattr("ctscribe.evaluation.run.DETAILED", 10)
    paths = saved(tmp_path / "mine.jsonl", studies(24, 4, wrong=0.4)), saved(tmp_path / "ref.jsonl", studies(24, 0))
    card = evaluate(*paths, resamples=10, permutations=1)
    assert "computed on 10 of 24 pairs" in " ".join(card.notes)
    assert (card.reports, card.per_report) == (24, {})
    assert card["bleu.bleu4"].baselines["retrieval"] is not None
    assert card.value("bleu.bleu4") == evaluate(*paths, resamples=0, baselines=False).value("bleu.bleu4")


class Nameless(Scorer):
    """A metric that cannot travel."""

    name = "nameless"
    measures = (Measure("value", "One."),)

    def __init__(self):
        self.secret = lambda: 1

    def tally(self, pairs):
        return np.ones((len(pairs), 1))

    def values(self, totals):
        return {"value": totals[..., 0]}


def test_what_cannot_be_done_with_processes_is_said(tmp_path):
    ref = saved(tmp_path / "ref.jsonl", REFERENCE)
    with pytest.raises(UsageError, match="another process"):
        evaluate(ref, ref, scorers=[Nameless()], processes=2, baselines=False)
    with pytest.raises(UsageError, match="every metric once"):
        evaluate(ref, ref, extra=[Nameless(), Nameless()])


# ------------------------------------------------------------------------------------------ differences


def test_differences_are_marked_and_the_reports_escaped():
    from ctscribe.evaluation.differences import marked
    from ctscribe.evaluation.worst import Worst

    worst = Worst(
        id="s1",
        hallucinated=("mass",),
        contradicted=(),
        omitted=("cardiomegaly",),
        candidate="There is a <b>mass</b> on the left. Clear lungs.",
        reference="The heart is enlarged. Clear lungs.",
        language="en",
        invented_sentences={"mass": "there is a <b>mass</b> on the left"},
        missing_sentences={"cardiomegaly": "the heart is enlarged"},
    )
    ours, theirs = map(str, marked(worst))
    assert "<b>" not in ours
    assert re.sub(r"<[^>]+>", "", ours) == "There is a &lt;b&gt;mass&lt;/b&gt; on the left. Clear lungs."
    assert ours.count('<mark class="invented" title="mass">') >= 1
    assert '<mark class="missing" title="cardiomegaly"><u>The</u></mark>' in theirs
    assert ours.endswith(". Clear lungs.")


def test_retrieval_takes_the_most_alike_report_of_another_patient():
    from ctscribe.evaluation.baselines import retrieval

    pool = [
        Record("a", "A nodule in the right upper lobe.", patient="p1"),
        Record("b", "A nodule in the right lower lobe.", patient="p2"),
        Record("c", "The heart is enlarged.", patient="p3"),
    ]
    said = [Record(r.id, r.text) for r in pool]
    assert [r.id for r in retrieval(said, pool, pool)] == ["b", "a", "a"]
    assert retrieval(said[:1], [Record("a", "x", patient="p9")], pool)[0].id == "a"
    assert retrieval(said, pool, pool[:1]) is None
