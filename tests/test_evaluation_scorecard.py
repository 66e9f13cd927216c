"""From two sets of reports to a scorecard and its files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from ctscribe.errors import UsageError
from ctscribe.evaluation import Measure, Record, Scorer, evaluate, run_evaluate, score_pair
from ctscribe.evaluation.baselines import BASELINE_NAMES, BASELINES, always_normal, most_frequent
from ctscribe.evaluation.reading import read_reports
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.registry import default_scorers
from ctscribe.evaluation.scorer import ratio
from ctscribe.report import Finding
from ctscribe.report.render import render_text

KINDS = ("lung_nodule", "pleural_effusion", "emphysema", "cardiomegaly", "consolidation", "atelectasis")


def study(i: int, kinds: tuple[str, ...], language: str = "en", patient: str | None = None) -> Record:
    findings = tuple(Finding(kind, "present" if kind in kinds else "absent") for kind in KINDS)
    return Record(f"s{i}", render_text(findings, language, seed=i), language, findings, patient)  # type: ignore[arg-type]


def some(n: int, seed: int, language: str = "en") -> list[Record]:
    """Studies of n // 2 patients; every fourth is normal."""
    rng = np.random.default_rng(seed)
    chosen = [() if i % 4 == 0 else tuple(k for k in KINDS if rng.random() < 0.3) for i in range(n)]
    return [study(i, kinds, language, patient=f"p{i // 2}") for i, kinds in enumerate(chosen)]


def noisy(references: list[Record], seed: int = 1) -> list[Record]:
    """A system that is wrong about one kind in ten."""
    rng = np.random.default_rng(seed)
    flipped = [{k for k in KINDS if (k in r.present) != (rng.random() < 0.1)} for r in references]
    return [study(int(r.id[1:]), tuple(sorted(k)), r.language) for r, k in zip(references, flipped, strict=True)]


@pytest.fixture(scope="module")
def card():
    references = some(40, seed=0)
    return evaluate(noisy(references), references, system="a <b> system", resamples=200, permutations=10)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_references_themselves_score_best_on_everything(language):
    references = some(24, seed=3, language=language)
    perfect = evaluate(references, references, resamples=0, permutations=2)
    for result in perfect.results:
        if result.estimate.value is not None:
            assert result.estimate.value == pytest.approx(result.best, abs=0.02), result.name
    assert perfect.language == language
    assert perfect.diversity["system"].collapse == 0.0


def test_the_always_normal_baseline_scores_a_third_on_crg(card):
    assert card["crg.crg"].baselines["always normal"] == pytest.approx(1 / 3)
    assert card.value("crg.crg") > 0.6
    assert card["labels18.micro_f1"].baselines["always normal"] == 0.0


def test_every_measure_has_its_baselines_interval_and_control(card):
    assert card.baseline_names == BASELINE_NAMES
    for name in ("crg.crg", "labels18.macro_f1", "faithfulness.hallucination", "bleu.bleu4", "rouge.rouge_l"):
        result = card[name]
        assert result.estimate.low <= result.estimate.value <= result.estimate.high
        assert set(result.baselines) == set(BASELINE_NAMES)
        assert result.control is not None
    assert card["labels18.micro_f1"].control.p == pytest.approx(1 / 11)
    assert card["labels18.micro_f1"].control.shuffled < card["labels18.micro_f1"].estimate.low


def test_a_template_is_unmasked_by_its_diversity_and_its_control():
    references = some(30, seed=5)
    template = [Record(r.id, "The heart is enlarged.", findings=(Finding("cardiomegaly"),)) for r in references]
    found = evaluate(template, references, resamples=0, permutations=10)
    assert found.diversity["system"].distinct == pytest.approx(1 / 30)
    assert found.diversity["system"].collapse == 1.0
    assert found["labels18.micro_f1"].control.p == 1.0


def test_a_scorecard_is_reproducible_and_depends_on_the_seed():
    references = some(20, seed=0)
    first, second, third = (
        evaluate(noisy(references), references, resamples=50, permutations=3, seed=s).to_json() for s in (0, 0, 1)
    )
    assert first == second
    assert first != third


def test_absent_support_and_missing_patients_are_said():
    references = [study(0, ("lung_nodule",)), study(1, ()), study(2, ("lung_nodule",))]
    found = evaluate([study(i, ("emphysema",)) for i in range(3)], references, resamples=20)
    notes = " ".join(found.notes)
    assert "17 of 18 labels have no positive reference" in notes
    assert "calls them positive 3 times" in notes
    assert "Patients are not stated" in notes
    assert found.patients is None


def test_patients_are_counted_but_never_written(card, tmp_path):
    assert card.patients == 20
    assert "p7" not in card.to_json()
    assert all("p7" not in json.dumps(row) for row in card.report_rows())


def test_baselines_never_use_a_patients_own_report():
    references = some(12, seed=2)
    for build in BASELINES.values():
        drawn = build(references, references, 0)
        assert all(d is not r and d.cluster != r.cluster for d, r in zip(drawn, references, strict=True))


def test_without_a_normal_report_in_the_pool_one_is_written():
    references = [study(0, ("mass",)), study(1, ("emphysema",))]
    references = [
        Record(r.id, r.text, "en", tuple(f for f in r.findings if f.status == "present") or (Finding("mass"),))
        for r in references
    ]
    normal = always_normal(references, references, 0)
    assert not normal[0].possible
    assert "effusion" in normal[0].text


def test_most_frequent_takes_the_most_common_findings():
    pool = [study(0, ("emphysema",)), study(1, ("cardiomegaly",)), study(2, ("cardiomegaly",)), study(3, ())]
    drawn = most_frequent([study(9, ())], pool, 0)
    assert drawn[0].present == {"cardiomegaly"}


def test_an_unknown_measure_is_a_clear_error(card):
    with pytest.raises(UsageError, match=r"labels18\.macro_f1"):
        card["labels18.f2"]


# ------------------------------------------------------------------------------------------ scorers


class Length(Scorer):
    """A metric somebody adds: one file, one line."""

    name = "length"
    measures = (Measure("words", "Candidate words per reference word.", 0.0, None),)

    def tally(self, pairs):
        return np.array([(len(p.candidate.tokens), len(p.reference.tokens)) for p in pairs], dtype=float)

    def values(self, totals):
        return {"words": ratio(totals[..., 0], totals[..., 1])}


def test_a_new_metric_needs_no_more_than_a_tally_and_its_values():
    pair = Pair(Record("a", "one two"), Record("a", "one two three four"))
    assert score_pair(Length(), pair).values == {"words": 0.5}
    found = evaluate([pair.candidate], [pair.reference], scorers=[Length()])
    assert found.value("length.words") == 0.5


@pytest.mark.parametrize("scorer", default_scorers(), ids=lambda s: s.name)
def test_scorers_keep_the_protocol(scorer):
    assert isinstance(scorer, Scorer)
    references = some(6, seed=0)
    ready = scorer.fitted(references)
    pairs = [Pair(c, r) for c, r in zip(noisy(references), references, strict=True)]
    tally = ready.tally(pairs)
    assert tally.shape[0] == 6
    many = ready.values(np.stack([tally.sum(0), 2 * tally.sum(0)]))
    assert set(many) == {m.name for m in ready.measures}
    for values in many.values():
        assert values.shape == (2,)
        assert values[0] == pytest.approx(values[1], nan_ok=True, abs=1e-3)  # twice the same reports: the same score
    json.dumps([ready.explain(pairs[0]), ready.table(tally.sum(0))], allow_nan=False)


# ------------------------------------------------------------------------------------------ files


def jsonl(path, records):
    rows = (
        {"id": r.id, "text": r.text, "language": r.language, "patient": r.patient,
         "findings": [{"kind": f.kind, "status": f.status, "regions": list(f.regions)} for f in r.findings]}
        for r in records
    )  # fmt: skip
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def test_run_evaluate_writes_every_file(tmp_path):
    references = some(10, seed=0, language="zh")
    found = run_evaluate(
        jsonl(tmp_path / "mine.jsonl", noisy(references)),
        jsonl(tmp_path / "ref.jsonl", references),
        tmp_path / "new" / "out",
        resamples=20,
        permutations=2,
    )
    out = tmp_path / "new" / "out"
    names = {p.name for p in out.iterdir()}
    assert {"scorecard.json", "scorecard.html", "scorecard.csv", "reports.jsonl", "table_labels18.csv"} <= names
    assert not any(name.endswith(".part") for name in names)
    data = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
    assert data["system"] == "mine"
    assert data["results"][0]["estimate"]["value"] == found.results[0].estimate.value
    rows = list(csv.DictReader((out / "scorecard.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["measure"] for row in rows] == [r.name for r in found.results]
    reports = [json.loads(line) for line in (out / "reports.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in reports] == [r.id for r in references]
    assert {"hallucinated", "omitted"} <= set(reports[0]["reasons"]["faithfulness"])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_texts_alone_score_as_well_as_their_findings(tmp_path, language):
    references = some(8, seed=4, language=language)
    given = jsonl(tmp_path / "ref.jsonl", references)
    found = evaluate(given, given, findings_from="text", resamples=0)
    assert found.value("labels18.micro_f1") == 1.0
    assert any("8 parsed from text, 0 given" in note for note in found.notes)
    for record in read_reports(given, findings_from="text").records:
        assert record.possible == next(r for r in references if r.id == record.id).possible


def test_the_page_is_self_contained_and_escapes_what_it_shows(card):
    from ctscribe.evaluation.writer import to_html

    page = to_html(card)
    assert "a &lt;b&gt; system" in page
    assert "<b> system" not in page
    assert "<script" not in page
    assert "http" not in page
    for result in card.results:
        assert result.name in page


def test_the_terminal_table_names_every_measure_and_note(card):
    text = card.to_text()
    assert all(result.name in text for result in card.results)
    assert all(note in text for note in card.notes)


def test_a_folder_that_cannot_be_made_is_a_clear_error(card, tmp_path):
    from ctscribe.evaluation.writer import write_scorecard

    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot write"):
        write_scorecard(card, tmp_path / "file" / "out")


def test_evaluation_needs_no_torch():
    code = "import sys; from ctscribe import evaluate; import ctscribe.evaluation.writer; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
