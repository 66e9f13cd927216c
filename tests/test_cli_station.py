"""Who writes the impression, and from what: one set of options for two commands, and the guard behind both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import people_fakes as fakes
import tiny_bert
from ctscribe.cli import table
from ctscribe.report import Report
from endpoint_kit import Server, serving

NAMED = {"text": "12 mm nodule in the right lower lobe.", "role": "finding", "findings": [0], "citations": []}
INVENTED = {"text": "Large left pneumothorax.", "role": "finding", "findings": [0], "citations": []}
CITED = {
    "text": "This may be metastasis.",
    "role": "differential",
    "findings": [0],
    "citations": ["kb:nodule_meaning:en"],
}
KNOWN = "age=61,smoker=true,screening=false,cancer=false,immunosuppressed=false"
TABLE = """
id: our_rule
title: {en: Our rule, zh: 本院规则}
citation: {text: "Protocol 7, 2026."}
checked: original
about: [lung_nodule]
actions: {board: {en: tumour board on Tuesday, zh: 周二肿瘤讨论, modality: [referral]}}
rows: [{id: any, when: {long_mm: ">= 3"}, do: board}]
"""


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("openai")
    with serving() as state:
        yield state


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    monkeypatch.setattr("ctscribe.checkpoint.load", lambda *_, **__: fakes.FakeModel())


@pytest.fixture
def findings(tmp_path: Path) -> str:
    path = tmp_path / "findings.txt"
    path.write_text("A 12 mm nodule in the right lower lobe. No pleural effusion.", encoding="utf-8")
    return str(path)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    text = "# Nodules\n\nA pulmonary nodule goes to the Tuesday board.\n\n# Parking\n\nUse the second gate.\n"
    (folder / "house.md").write_text(text, encoding="utf-8")
    return folder


def said(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"statements": list(statements)}


def asked(server: Server) -> list[str]:
    return ["--writer", "server", "--llm", "m", "--endpoint", server.url, "--llm-set", "retries=0"]


# -------------------------------------------------------------------------------------------- report
def reported(tmp_path: Path, *options: str) -> tuple[Report, str, str]:
    out = tmp_path / "out"
    assert table.run(["report", "scan", "--out", str(out), *options]) == 0
    texts = [(out / f"report.{ending}").read_text(encoding="utf-8") for ending in ("json", "html", "txt")]
    return Report.from_json(texts[0]), texts[1], texts[2]


def test_the_guard_reads_the_rule_written_impression_of_every_report(scan: None, tmp_path: Path) -> None:
    report, page, text = reported(tmp_path, "--lang", "both")
    for language in ("en", "zh"):
        check = report.text(language).check
        assert check is not None
        assert (check.writer, check.written_by, check.verdict, check.objections) == ("rules", "rules", "passed", ())
        (cites,) = {c for s in report.text(language).impression for c in s.citations if c.startswith("kb:")}
        assert cites == f"kb:nodule_meaning:{language}"
        assert {c for s in report.text(language).impression for c in s.citations} <= {
            r.id for r in report.text(language).references
        }
    assert "objects to nothing" in text
    assert "未提出问题" in text
    assert "[kb:nodule_meaning:en]" in page
    assert page.count("not reviewed by a radiologist") == 1
    assert report.provenance.impression_by == "rules"


def test_a_finding_that_a_language_model_invents_is_dropped_recorded_and_shown(
    scan: None, server: Server, tmp_path: Path
) -> None:
    server.script = [said(NAMED, CITED, INVENTED)]
    report, page, text = reported(tmp_path, *asked(server))
    check = report.text("en").check
    assert check is not None
    assert (check.writer, check.written_by, check.verdict) == ("m", "m", "cut")
    about = [(o.kind, o.answer) for o in check.objections if o.sentence == INVENTED["text"]]
    assert about == [("invented_finding", "written_again"), ("invented_finding", "dropped")]
    shown = [s.text for s in report.text("en").impression]
    assert not any("pneumothorax" in sentence for sentence in shown)
    assert any("12 mm nodule" in sentence for sentence in shown)
    assert "kb:nodule_meaning:en" in [r.id for r in report.text("en").references]
    assert report.provenance.impression_by == "m"
    (note,) = [n for n in report.quality if n.code == "impression_guard"]
    assert note.severity == "warning"
    assert "dropped 1 sentence" in text
    assert f"<q>{INVENTED['text']}</q> → sentence dropped" in page
    assert "worded by a language model (m)" in page


def test_an_endpoint_that_fails_leaves_the_rules_impression_and_says_so(
    scan: None, server: Server, tmp_path: Path
) -> None:
    server.script = [(503, {})]
    report, _, text = reported(tmp_path, *asked(server))
    check = report.text("en").check
    assert check is not None
    assert (check.writer, check.written_by, check.verdict) == ("m", "rules", "replaced")
    assert "by rule because" in text


def test_a_wrong_key_ends_the_report_without_files(scan: None, server: Server, tmp_path: Path, capsys) -> None:
    server.script = [(401, {})]
    assert table.run(["report", "scan", "--out", str(tmp_path / "out"), *asked(server)]) != 0
    assert "OPENAI_API_KEY" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_sent_from_a_report_without_a_writer_that_sends(scan: None, server: Server, tmp_path: Path) -> None:
    reported(tmp_path)
    assert server.bodies == []


def test_a_report_follows_the_guidelines_of_the_house(scan: None, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "ours.yaml").write_text(TABLE, encoding="utf-8")
    report, _, _ = reported(tmp_path, "--guidelines", str(rules), "--use", "our_rule")
    shown = " ".join(s.text for s in report.text("en").impression)
    assert "Our rule: tumour board on Tuesday" in shown
    assert "Fleischner" not in shown


# ---------------------------------------------------------------------------------------- impression
def test_the_guards_record_is_printed_and_in_the_json(findings: str, server: Server, capsys) -> None:
    server.script = [said(NAMED, INVENTED), said(NAMED, CITED)]
    assert table.run(["impression", findings, *asked(server)]) == 0
    out = capsys.readouterr().out
    assert "pneumothorax" not in out.split("REFERENCES")[0]
    assert "invented_finding" in out
    server.bodies.clear()
    assert table.run(["impression", findings, *asked(server), "--json"]) == 0
    check = json.loads(capsys.readouterr().out)["impression"]["en"]["check"]
    assert check["objections"][0]["sentence"] == INVENTED["text"]


def test_references_stand_with_their_ids_and_the_lines_that_cite_them(findings: str, capsys) -> None:
    assert table.run(["impression", findings, "--context", KNOWN, "--lang", "both"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^- \[kb:nodule_meaning:en\] ctscribe knowledge base, not reviewed .*Bankier", out, re.MULTILINE)
    assert "[kb:nodule_meaning:zh] ctscribe知识库，未经放射科医师审阅" in out
    assert re.search(r"^- \[fleischner_2017\] MacMahon H.*doi:10.1148/radiol.2017161659 \(1, 2\)$", out, re.MULTILINE)
    assert "objects to nothing" in out


def test_documents_are_shown_beside_what_the_rules_write(findings: str, site: Path, capsys) -> None:
    assert table.run(["impression", findings, "--documents", str(site)]) == 0
    text, beside = capsys.readouterr().out.split("IN YOUR DOCUMENTS")
    assert "Tuesday" not in text
    assert "- [site:house.md#Nodules/1] Nodules: A pulmonary nodule goes to the Tuesday board." in beside
    assert "gate" not in beside


def test_documents_go_to_a_language_model_and_may_be_cited(findings: str, site: Path, server: Server, capsys) -> None:
    board = {"text": "The nodule goes to the Tuesday board.", "role": "significance", "findings": [0]}
    server.script = [said(NAMED, board | {"citations": ["site:house.md#Nodules/1"]})]
    assert table.run(["impression", findings, "--documents", str(site), *asked(server), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["impression"]["en"]
    assert "Tuesday board" in json.dumps(server.bodies[0])
    assert "second gate" not in json.dumps(server.bodies[0])
    assert "site:house.md#Nodules/1" in [c["id"] for c in made["citations"]]


def test_documents_are_found_by_meaning_where_a_text_encoder_is_given(
    findings: str, site: Path, tmp_path: Path, capsys
) -> None:
    (site / "far.md").write_text("Call the surgeon of the day.\n", encoding="utf-8")
    assert table.run(["impression", findings, "--documents", str(site)]) == 0
    assert "far.md" not in capsys.readouterr().out
    encoder = tiny_bert.save(tmp_path / "encoder")
    assert table.run(["impression", findings, "--documents", str(site), "--embeddings", str(encoder)]) == 0
    out, err = capsys.readouterr()
    assert "site:far.md#top/1" in out  # random weights find everything near
    assert "does not read Chinese" in err


def test_only_the_guidelines_that_are_named_are_used(findings: str, tmp_path: Path, capsys) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "ours.yaml").write_text(TABLE, encoding="utf-8")
    both = ["--guidelines", str(rules)]
    assert table.run(["impression", findings, "--context", KNOWN, *both]) == 0
    out = capsys.readouterr().out
    assert "Our rule: tumour board on Tuesday." in out
    assert "Fleischner" in out
    assert table.run(["impression", findings, "--context", KNOWN, *both, "--use", "our_rule"]) == 0
    assert "Fleischner Society 2017:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--writer", "poet"], 2, "rules"),
        (["--writer", "openai"], 2, "--llm"),
        (["--writer", "server", "--llm", "m"], 2, "--endpoint"),
        (["--writer", "local"], 2, "--llm-folder"),
        (["--writer", "local", "--llm-folder", "nowhere"], 2, "config.json"),
        (["--writer", "tuned"], 2, "--llm-folder"),
        (["--writer", "tuned", "--llm-folder", "nowhere"], 2, "impression_lora"),
        (["--writer", "head"], 2, "--llm-folder"),
        (["--writer", "head", "--llm-folder", "nowhere"], 2, "impression_head"),
        (["--grammar"], 2, "local or tuned"),
        (["--writer", "head", "--llm-folder", "nowhere", "--grammar"], 2, "local or tuned"),
        (["--writer", "local", "--llm-folder", "nowhere", "--llm-base", "nowhere"], 2, "tuned or head"),
        (["--llm-base", "nowhere"], 2, "--writer"),
        (["--llm", "m"], 2, "--writer"),
        (["--endpoint", "http://127.0.0.1:1/v1"], 2, "--writer"),
        (["--writer", "server", "--llm-set", "retries=1"], 2, "--llm"),
        (["--writer", "server", "--llm", "m", "--endpoint", "ftp://x"], 2, "http"),
        (["--writer", "server", "--llm", "m", "--endpoint", "http://x/v1", "--llm-set", "retrys=1"], 2, "retries"),
        (["--documents", "nowhere"], 2, "a folder"),
        (["--documents", "."], 3, ".md"),
        (["--embeddings", "nowhere"], 2, "--documents"),
        (["--documents", "site", "--embeddings", "nowhere"], 2, "config.json"),
        (["--guidelines", "nowhere"], 2, ".yaml"),
        (["--guidelines", "broken"], 2, "broken.yaml"),
        (["--use", "no_such_guideline"], 2, "fleischner_2017"),
    ],
)
@pytest.mark.parametrize("command", ["impression", "report"])
def test_options_that_cannot_be_met_are_refused_before_anything_is_read(
    command: str, options: list[str], code: int, told: str, site: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.yaml").write_text("id: broken\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if options == ["--documents", "."] else tmp_path)
    assert table.run([command, "not-read", *options]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert "Traceback" not in err
