"""From answers to results: what went in comes out, tests equal references, files are whole, the command line works."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ctscribe.cli import table as command_line
from ctscribe.evaluation.reader_study import Settings, read_answers, score
from ctscribe.evaluation.reader_study.compare import mean_estimate, mrmc, permutation_p
from ctscribe.evaluation.reader_study.questions import scales
from ctscribe.evaluation.reader_study.writer import summary_files
from readers import reading_set, reports, rows, save, scan_rows

QUICK = Settings(resamples=60, permutations=500)
STRICT = {"reader-1": 0, "reader-2": -1, "reader-3": 1}


def judged(made):
    """Readers who rate quartz a point above basalt, c0 to c2 a point lower, each as strictly as he or she is."""
    names = made.key.systems

    def judge(item):
        value = 3 + (names[item.system] == "quartz") - (item.case in ("c0", "c1", "c2"))
        errors = {"missed_finding_significant": int(names[item.system] == "basalt"), "false_finding_minor": 2}
        return {**dict.fromkeys(scales(), value), "relevance": value + STRICT[item.reader], **errors}

    return judge


def summary_of(made, tmp_path: Path, judge=None, settings=QUICK):
    save(tmp_path / "answers.csv", rows(made, judge or judged(made)))
    return score(read_answers([tmp_path], made.key), made.key, settings)


@pytest.mark.parametrize(
    "options",
    [{}, {"design": "split", "overlap": 3}, {"design": "once", "overlap": 2, "count": 14}, {"patients": 5}],
)
def test_what_readers_meant_comes_out(tmp_path: Path, options):
    made = reading_set(**options)
    found = summary_of(made, tmp_path)
    apart = next(r for r in found.differences if r["outcome"] == "clinical_accuracy")
    assert (apart["first"], apart["second"]) == ("basalt", "quartz")
    assert apart["value"] == pytest.approx(-1)
    first = [item for item in made.key.items if item.repeat_of is None]
    for system in ("quartz", "basalt"):
        for scale in scales():
            own = [judged(made)(item)[scale] for item in first if made.key.systems[item.system] == system]
            assert found.mean(scale, system)["value"] == pytest.approx(np.mean(own))
            assert found.mean(scale, system)["ratings"] == len(own)
    rates = {(r["error"], r["weight"], r["system"]): r["value"] for r in found.errors}
    assert rates["missed_finding", "significant", "basalt"] == 100
    assert rates["missed_finding", "significant", "quartz"] == 0
    assert rates["all", "minor", "quartz"] == 200
    assert rates["reports with any", "significant", "basalt"] == 100


def test_agreement_is_perfect_where_readers_agree_and_not_where_one_is_stricter(tmp_path: Path):
    found = summary_of(reading_set(), tmp_path)
    by_name = {(r["outcome"], r["coefficient"]): r["value"] for r in found.agreement}
    for coefficient in ("exact agreement", "Fleiss kappa", "Krippendorff alpha, ordinal", "ICC(2,1)"):
        assert by_name["clinical_accuracy", coefficient] == pytest.approx(1)
        assert by_name["relevance", coefficient] < 0.8
    assert by_name["any_significant_error", "Gwet AC1"] == pytest.approx(1)
    assert len(found.pairs) == 3 * (3 * 4 + 1)
    steady = {r["value"] for r in found.steadiness if r["reader"] == "all" and r["coefficient"] == "exact agreement"}
    assert steady == {1.0}


def test_a_strict_reader_does_not_decide_who_is_better_when_each_reads_half(tmp_path: Path):
    """Design once: whoever reads which system is balanced, and scores are centred by reader."""
    made = reading_set(count=12, design="once", readers=2, repeats=0)

    def judge(item):
        return dict.fromkeys(scales(), 4 if item.reader == "reader-1" else 2)

    found = summary_of(made, tmp_path, judge)
    assert all(r["value"] == pytest.approx(0) for r in found.differences if r["outcome"] in scales())


def test_equal_systems_differ_by_chance_only(tmp_path: Path):
    made = reading_set(count=20)
    rng = np.random.default_rng(3)
    found = summary_of(made, tmp_path, lambda item: {scale: int(rng.integers(1, 6)) for scale in scales()})
    assert all(r["p_holm"] > 0.05 and r["low"] <= 0 <= r["high"] for r in found.differences)
    assert all(r["p_holm"] >= r["p"] for r in found.differences)


def test_one_reader_one_system(tmp_path: Path):
    found = summary_of(reading_set(systems=1, readers=1, repeats=0), tmp_path)
    assert found.differences == found.agreement == found.pairs == found.steadiness == ()
    assert found.mean("clinical_accuracy", "quartz")["value"] == pytest.approx(3.75)


def test_scores_that_could_not_be_judged_are_counted_apart(tmp_path: Path):
    made = reading_set()
    found = summary_of(made, tmp_path, lambda item: {**dict.fromkeys(scales(), 3), "actionability": "na"})
    assert found.mean("actionability", "quartz")["value"] is None
    assert all(r["not_judged"] == (36 if r["outcome"] == "actionability" else 0) for r in found.distributions)
    assert json.loads(found.to_json())["means"]


def test_masked_results_name_no_system(tmp_path: Path):
    made = reading_set()
    found = summary_of(made, tmp_path, settings=Settings(resamples=0, permutations=10, masked=True))
    files = summary_files(found, read_answers([tmp_path], made.key), made.key)
    assert [name for name, content in files.items() if b"quartz" in content or b"basalt" in content] == []
    assert set(found.systems) == {f"system {code}" for code in made.key.systems}


# ------------------------------------------------------------------------------------------ tests
def test_the_permutation_test_equals_scipys():
    d = np.random.default_rng(0).normal(0.4, 1, 9)
    theirs = stats.permutation_test((d, np.zeros(9)), lambda a, b: np.mean(a - b), permutation_type="samples")
    assert permutation_p(d, range(9)) == pytest.approx(theirs.pvalue)
    many = np.random.default_rng(1).normal(0.2, 1, 60)
    assert permutation_p(many, range(60), permutations=4000) == pytest.approx(
        stats.ttest_1samp(many, 0).pvalue, abs=0.03
    )


def test_two_scans_of_a_patient_change_sides_together():
    d = np.array([1.0, 1.0, 1.0, 1.0])
    assert permutation_p(d, [0, 1, 2, 3]) == pytest.approx(2 / 16)
    assert permutation_p(d, [0, 0, 1, 1]) == pytest.approx(2 / 4)
    assert permutation_p(np.array([]), []) is None


def test_without_case_variance_the_analysis_of_variance_is_a_t_test_of_reader_means():
    rng = np.random.default_rng(2)
    d = rng.normal(size=(5, 12))
    d -= d.mean(axis=0)  # every case the same on average
    d += rng.normal(0.5, 0.4, size=(5, 1))
    theirs = stats.ttest_1samp(d.mean(axis=1), 0)
    found = mrmc(d)
    assert found is not None
    assert (found.p, found.df) == (pytest.approx(theirs.pvalue), pytest.approx(4))
    low, high = theirs.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_variance_components_are_found():
    rng = np.random.default_rng(4)
    d = rng.normal(0, 1, (40, 1)) + rng.normal(0, 2, (1, 400)) + rng.normal(0, 0.5, (40, 400))
    found = mrmc(d)
    assert found is not None
    assert found.reader_variance == pytest.approx(1, rel=0.4)
    assert found.case_variance == pytest.approx(4, rel=0.2)
    assert found.error_variance == pytest.approx(0.25, rel=0.05)
    assert mrmc(np.zeros((3, 4))) is None
    assert mrmc(np.ones((1, 4))) is None


def test_the_interval_of_a_mean_is_the_normal_one_for_many_cases():
    values = np.random.default_rng(0).normal(3, 1, (400, 1))
    found = mean_estimate(values, range(400), resamples=2000, level=0.95, seed=0)
    spread = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - spread, abs=0.02)
    assert found.high == pytest.approx(values.mean() + spread, abs=0.02)


# ------------------------------------------------------------------------------------------ checklist
def test_kappa_between_model_and_radiologists(tmp_path: Path):
    """Quartz says just what reader-1 sees; reader-2 sees a nodule in every other case of those; reader-3 nothing."""
    made = reading_set(count=12, findings=True, repeats=0)
    code = next(c for c, name in made.key.systems.items() if name == "quartz")
    labels = made.key.labels[code]

    def see(reader, case):
        half = set(labels[case]) if int(case[1:]) % 2 else set()
        return {"reader-1": set(labels[case]), "reader-2": half, "reader-3": set()}[reader]

    save(tmp_path / "answers.csv", rows(made))
    save(tmp_path / "findings.csv", scan_rows(made, see))
    found = score(read_answers([tmp_path], made.key), made.key, QUICK)
    pooled = {(r["first"], r["second"]): r["value"] for r in found.findings if r["finding"] == "all"}
    assert pooled["quartz", "reader-1"] == pytest.approx(1)
    assert 0 < pooled["quartz", "reader-2"] == pooled["reader-1", "reader-2"] < 1
    assert pooled["quartz", "reader-3"] == 0
    assert pooled["quartz", "readers, mean"] == pytest.approx((1 + pooled["quartz", "reader-2"] + 0) / 3)
    nodule = [r for r in found.findings if r["finding"] == "Lung nodule" and r["first"] == "quartz"]
    assert [r["second_positive"] for r in nodule] == [4, 2, 0]


# ------------------------------------------------------------------------------------------ files
def test_the_files_of_a_summary(tmp_path: Path):
    made = reading_set(include_reference=True, findings=True)
    save(tmp_path / "answers.csv", rows(made, judged(made)))
    save(tmp_path / "findings.csv", scan_rows(made, lambda reader, case: {"lung_nodule"}))
    answers = read_answers([tmp_path], made.key)
    found = score(answers, made.key, QUICK)
    files = summary_files(found, answers, made.key)
    tables = {"means", "distributions", "differences", "errors", "agreement", "pairs", "steadiness", "readers"}
    assert set(files) == {f"{t}.csv" for t in tables | {"findings", "ratings"}} | {"summary.json", "summary.html"}
    assert json.loads(files["summary.json"])["study"] == made.key.study
    ratings = list(csv.DictReader(files["ratings.csv"].decode().splitlines()))
    assert [r["item"] for r in ratings] == [i.code for i in made.key.items]
    assert [r["system"] for r in ratings] == [made.key.systems[i.system] for i in made.key.items]
    page = files["summary.html"].decode()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert re.findall(r"https?://|<script|@import|<link|<img", page) == []
    assert "quartz" in page
    assert "the reference reports" in page


def test_names_are_escaped_in_the_page(tmp_path: Path):
    from ctscribe.evaluation.reader_study import build

    made = build({"<b>x</b>": reports("A", 6)}, reports("Z", 6), readers=1, repeats=0)
    page = summary_files(summary_of(made, tmp_path, lambda item: dict.fromkeys(scales(), 3)),
                         read_answers([tmp_path], made.key), made.key)["summary.html"].decode()  # fmt: skip
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x" in page


# ------------------------------------------------------------------------------------------ command line
@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("quartz", "basalt", "truth"):
        lines = [json.dumps({"id": r.id, "text": r.text, "language": "en"}) for r in reports(f"letter {name[0]}", 8)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path


def run(words: list, capsys) -> tuple[int, str, str]:
    code = command_line.run([str(word) for word in words])
    return code, *capsys.readouterr()


def test_build_fill_and_score_on_the_command_line(files: Path, capsys):
    words = ["reader-study", "build", files / "quartz.jsonl", f"rock={files / 'basalt.jsonl'}", "--ref"]
    words += [files / "truth.jsonl", "--readers", 2, "--cases", 6, "--out", files / "study"]
    code, out, _ = run([*words, "--json"], capsys)
    assert code == 0
    told = json.loads(out)
    assert (told["cases"], sorted(told["systems"])) == (6, ["quartz", "rock"])
    code, _, err = run(words, capsys)
    assert code == 2  # the folder is not empty
    assert "not empty" in err
    forms = sorted((files / "study" / "readers").rglob("answers.csv"))
    for form in forms:
        table = list(csv.DictReader(form.read_text(encoding="utf-8-sig").splitlines()))
        save(form, [{**row, **dict.fromkeys(scales(), 4)} for row in table])
    key = files / "study" / "key" / "key.json"
    code, out, _ = run(
        ["reader-study", "score", files / "study", "--key", key, "--out", files / "out", "--resamples", 50], capsys
    )
    assert code == 0
    assert "clinical accuracy" in out.lower()
    assert (files / "out" / "summary.html").exists()
    code, out, _ = run(["reader-study", "score", *forms, "--key", key, "--resamples", 0, "--json"], capsys)
    assert code == 0
    assert {row["value"] for row in json.loads(out)["means"] if row["outcome"] in scales()} == {4.0}
    code, _, err = run(["reader-study", "score", forms[0], "--key", key, "--json"], capsys)
    assert code == 3
    assert json.loads(err)["error"]["code"] == "missing_answers"
    code, _, err = run(["reader-study", "score", files, "--key", files / "truth.jsonl", "--json"], capsys)
    assert (code, json.loads(err)["error"]["code"]) == (3, "not_a_key")


def test_two_systems_of_one_name_are_wrong_use(files: Path, capsys):
    words = ["reader-study", "build", files / "quartz.jsonl", files / "quartz.jsonl", "--ref", files / "truth.jsonl"]
    code, _, err = run([*words, "--readers", 1, "--out", files / "study"], capsys)
    assert code == 2
    assert "two systems are called 'quartz'" in err
    assert not (files / "study").exists()


def test_power_on_the_command_line(capsys):
    code, out, _ = run(["reader-study", "power", "--difference", 0.5, "--sd", 1, "--readers", 3, "--json"], capsys)
    assert code == 0
    told = json.loads(out)
    assert told["cases_needed"]["other_readers"] is None
    powers = [row["power_these_readers"] for row in told["rows"]]
    assert powers == sorted(powers)
    words = ["reader-study", "power", "--difference", 0.5, "--sd", 1, "--readers", 3, "--cases", 40]
    code, out, _ = run(words, capsys)
    assert code == 0
    assert "take more readers" in out
    code, _, _ = run([*words, "--marginals", "0.5,x"], capsys)
    assert code == 2


def test_the_python_of_the_guide_runs(files: Path, monkeypatch: pytest.MonkeyPatch):
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "run-a-reader-study.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (files / "quartz.jsonl").rename(files / "ours.jsonl")
    monkeypatch.chdir(files)
    exec(compile(first, "guide", "exec"), {})
    (files / "returned").mkdir()
    for form in (files / "study" / "readers").rglob("answers.csv"):
        table = list(csv.DictReader(form.read_text(encoding="utf-8-sig").splitlines()))
        save(files / "returned" / f"{form.parent.name}.csv", [{**row, **dict.fromkeys(scales(), 5)} for row in table])
    scope: dict = {}
    exec(compile(second, "guide", "exec"), scope)
    assert scope["summary"].mean("clinical_accuracy", "ours")["value"] == 5
