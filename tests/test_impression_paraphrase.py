"""Reports in a language model's words: only the same findings are kept, and nothing that identifies anybody is sent."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctscribe.cli import table
from ctscribe.errors import EndpointError
from ctscribe.impression.client import Client
from ctscribe.impression.endpoint import EndpointConfig
from ctscribe.impression.paraphrase import paraphrase
from endpoint_kit import Server, chat, serving

TEXT = "There is a 7 mm nodule in the right upper lobe. No pleural effusion."
SAME = "No pleural effusion. A nodule of 7 mm is seen in the right upper lobe."


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def said(text: str) -> dict:
    return chat(json.dumps({"text": text}))


def client(server: Server) -> Client:
    return Client(EndpointConfig("m", server.url, retries=0))


def test_other_words_for_the_same_findings_are_kept(server: Server) -> None:
    server.script = [said(SAME)]
    assert paraphrase(TEXT, "en", client(server)).text == SAME


@pytest.mark.parametrize(
    "other",
    [
        SAME.replace("right", "left"),
        SAME.replace("7 mm", "9 mm"),
        SAME.replace("No pleural", "A pleural"),
        SAME.replace("A nodule", "Possibly a nodule"),
        "No pleural effusion.",
        SAME + " There is cardiomegaly.",
        "",
    ],
)
def test_a_text_with_other_findings_is_not(server: Server, other: str) -> None:
    server.script = [said(other)]
    made = paraphrase(TEXT, "en", client(server))
    assert (made.text, made.kept_because) == (TEXT, "bad_reply")


def test_an_endpoint_that_cannot_be_used_is_an_error(server: Server) -> None:
    server.script = [(401, {})]
    with pytest.raises(EndpointError, match="key"):
        paraphrase(TEXT, "en", client(server))


def reworded(server: Server, folder: Path, *more: str) -> int:
    rows = [["study", "patient", "findings"], ["s1", "Doe^Jane", f"{TEXT} Jane Doe was told on 12.03.2024."]]
    rows += [["s2", "p2", "Cardiomegaly, moderate."], ["s3", "p3", ""]]
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    options = ["--llm", "m", "--endpoint", server.url, "--llm-set", "retries=0", "--llm-set", "concurrency=1", *more]
    return table.run(["reword", str(folder / "pairs.csv"), "--out", str(folder / "new.csv"), *options])


def test_a_manifest_is_reworded_where_the_findings_stay(server: Server, tmp_path: Path, capsys) -> None:
    server.script = [said(SAME)]
    assert reworded(server, tmp_path, "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["reports"], counts["reworded"]) == (3, 1)
    assert counts["kept"] == {"bad_reply": 1, "nothing to send": 1}
    rows = list(csv.DictReader((tmp_path / "new.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["findings"] for row in rows] == [SAME, "Cardiomegaly, moderate.", ""]
    assert [row["study"] for row in rows] == ["s1", "s2", "s3"]
    sent = json.dumps(server.bodies)
    assert "Doe" not in sent
    assert "2024" not in sent


def test_a_run_that_cannot_go_on_leaves_no_file(server: Server, tmp_path: Path) -> None:
    server.script = [(401, {})]
    assert reworded(server, tmp_path) != 0
    assert not (tmp_path / "new.csv").exists()
    assert reworded(server, tmp_path, "--column", "text") == 2
    (tmp_path / "other").mkdir()
    assert reworded(server, tmp_path, "--out", str(tmp_path / "other" / "new.csv")) == 2
