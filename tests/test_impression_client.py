"""The client of language models, against a real server on this machine that misbehaves in every way it is told to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ctscribe.errors import EndpointError, UsageError
from ctscribe.impression import Context
from ctscribe.impression.client import Client, Question, decode
from ctscribe.impression.endpoint import EndpointConfig
from ctscribe.impression.writers import Choice, EndpointWriter, make
from ctscribe.impression.writing import write_with
from ctscribe.report import Finding
from endpoint_kit import Server, chat, responses, serving

pytest.importorskip("openai")

NODULE = Finding("lung_nodule", "present", ("right_upper_lobe",), (7,), (("density", "solid"), ("number", "single")))
EFFUSION = Finding("pleural_effusion", "present", ("left_pleura",), (), (("severity", "small"),))
KNOWN = Context(age=61, smoker=True, cancer=False, immunosuppressed=False, screening=False)
GOOD = {
    "statements": [
        {
            "text": "7 mm solid nodule in the right upper lobe.",
            "role": "finding",
            "findings": [0],
            "citations": [],
        },
        {
            "text": "CT at 6 to 12 months, then CT at 18 to 24 months.",
            "role": "follow_up",
            "findings": [0],
            "citations": ["fleischner_2017"],
        },
        {"text": "Small left pleural effusion.", "role": "finding", "findings": [1], "citations": []},
    ]
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        state.script = [GOOD]
        yield state


QUESTION = Question("Write.", "findings", {"type": "object"})


def ask(server: Server, **limits: Any) -> tuple[Any, Client, list[float]]:
    waits: list[float] = []
    config = EndpointConfig(**{"model": "m", "base_url": server.url, "timeout_s": 5.0} | limits)
    client = Client(config, sleep=waits.append)
    return client.ask(QUESTION, statements)[0], client, waits


def statements(data: Any) -> Any:
    if "statements" not in data:
        raise ValueError("no statements")
    return data["statements"]


def code_of(server: Server, **limits: Any) -> str:
    with pytest.raises(EndpointError) as raised:
        ask(server, **limits)
    return raised.value.code


def test_a_schema_goes_out_and_tokens_are_counted(server: Server) -> None:
    made, client, _ = ask(server, price_in=2.0, price_out=10.0)
    assert made == GOOD["statements"]
    assert server.bodies[0]["response_format"]["json_schema"]["strict"] is True
    assert (client.ledger.usage.sent, client.ledger.usage.received) == (1000, 100)
    assert client.ledger.cost == pytest.approx(0.003)


def test_the_responses_interface_stores_nothing(server: Server) -> None:
    made, client, _ = ask(server, api="responses")
    assert made == GOOD["statements"]
    assert server.bodies[0]["store"] is False
    assert server.bodies[0]["text"]["format"]["type"] == "json_schema"
    assert client.ledger.usage.sent == 10


def test_a_throttle_is_waited_for_as_long_as_the_server_says(server: Server) -> None:
    server.script = [(429, {"retry-after": "7"}), (429, {}), (503, {}), GOOD]
    made, _, waits = ask(server, backoff_s=0.5)
    assert made == GOOD["statements"]
    assert waits == [7.0, 1.0, 2.0]


def test_faults_that_last_end_with_their_name(server: Server) -> None:
    for wrong, code in (
        ((429, {}), "throttled"),
        ((503, {}), "server"),
        ((401, {}), "unauthorised"),
        ("drop", "unreachable"),
    ):
        server.bodies.clear()
        server.script = [wrong]
        assert code_of(server, retries=1) == code
        assert len(server.bodies) == (1 if code == "unauthorised" else 2)


def test_a_server_that_hangs_is_left(server: Server) -> None:
    server.script = ["hang"]
    assert code_of(server, timeout_s=0.1, retries=0) == "timeout"


def test_a_server_without_schemas_is_asked_for_json_and_then_for_text(server: Server) -> None:
    fenced = chat("Here it is:\n```json\n" + json.dumps(GOOD) + "\n```")
    server.script = [(400, {}), (400, {}), fenced, fenced]
    made, client, _ = ask(server)
    assert made == GOOD["statements"]
    assert [body.get("response_format", {}).get("type") for body in server.bodies] == [
        "json_schema",
        "json_object",
        None,
    ]
    client.ask(QUESTION, lambda data: data)
    assert "response_format" not in server.bodies[3]  # what it cannot do is not tried again


def test_a_schema_that_is_ignored_is_noticed(server: Server) -> None:
    server.script = [chat('{"impression": "fine"}'), chat("Sure! Nothing."), chat(json.dumps(GOOD))]
    made, _, _ = ask(server)
    assert made == GOOD["statements"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (chat("no json"), "bad_reply"),
        (chat('{"statements": [', "length"), "truncated"),
        (chat("", "content_filter"), "refused"),
    ],
)
def test_an_answer_that_is_none_ends_with_its_name(server: Server, answer: dict[str, Any], code: str) -> None:
    server.script = [answer]
    assert code_of(server, retries=0) == code


def test_a_budget_stops_before_the_next_request(server: Server) -> None:
    _, client, _ = ask(server, token_budget=1000)
    with pytest.raises(EndpointError, match="budget"):
        client.ask(QUESTION, lambda data: data)
    assert len(server.bodies) == 1


def test_the_same_question_is_asked_once_and_then_offline(server: Server, tmp_path: Any) -> None:
    ask(server, cache=tmp_path)
    again, client, _ = ask(server, cache=tmp_path)
    assert again == GOOD["statements"]
    assert (len(server.bodies), client.ledger.usage.cached) == (1, 1)
    assert ask(server, cache=tmp_path, offline=True)[0] == GOOD["statements"]
    assert code_of(server, cache=tmp_path, offline=True, model="other") == "offline"


def test_a_stream_arrives_in_pieces(server: Server) -> None:
    def piece(text: str, end: str | None = None) -> str:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": end}
        return json.dumps(
            {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        )

    whole = json.dumps(GOOD)
    server.script = [[piece(whole[:50]), piece(whole[50:]), piece("", "stop"), "[DONE]"]]
    heard: list[str] = []
    client = Client(EndpointConfig("m", server.url, stream=True), on_text=heard.append)
    made, _ = client.ask(QUESTION, lambda data: data["statements"])
    assert (made, heard) == (GOOD["statements"], [whole[:50], whole[50:]])


def test_the_responses_interface_streams_as_well(server: Server) -> None:
    whole = json.dumps(GOOD)
    deltas = [{"type": "response.output_text.delta", "delta": part} for part in (whole[:50], whole[50:])]
    for index, delta in enumerate(deltas):
        delta |= {"item_id": "m", "output_index": 0, "content_index": 0, "sequence_number": index, "logprobs": []}
    end = {"type": "response.completed", "sequence_number": 2, "response": responses(whole)}
    server.script = [[*map(json.dumps, (*deltas, end))], ["[DONE]"]]
    heard: list[str] = []
    client = Client(EndpointConfig("m", server.url, api="responses", stream=True), on_text=heard.append)
    made, answer = client.ask(QUESTION, lambda data: data["statements"])
    assert (made, heard, answer.usage.sent) == (GOOD["statements"], [whole[:50], whole[50:]], 10)
    with pytest.raises(EndpointError, match="no valid answer"):
        client.ask(QUESTION, lambda data: data)


def test_requests_are_spread_over_the_minute(server: Server) -> None:
    waits: list[float] = []
    client = Client(EndpointConfig("m", server.url, requests_per_minute=6), sleep=waits.append)
    for _ in range(3):
        client.ask(QUESTION, lambda data: data)
    assert waits == [pytest.approx(10, abs=5), pytest.approx(20, abs=5)]


def test_a_key_is_in_no_configuration_error_or_log(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    caplog.set_level(logging.DEBUG)
    server.script = [(401, {})]
    with pytest.raises(EndpointError) as raised:
        ask(server)
    assert server.headers[0]["authorization"] == "Bearer very-secret"
    config = EndpointConfig("m", server.url)
    assert "very-secret" not in f"{raised.value} {config} {Client(config)} {caplog.text}"


def test_nothing_is_sent_unless_an_endpoint_was_chosen(server: Server) -> None:
    with pytest.raises(EndpointError, match="nothing was sent"):
        Client(EndpointConfig("m")).ask(QUESTION, lambda data: data)
    with pytest.raises(UsageError):
        make("server", Choice(EndpointConfig("m")))
    assert write_with(make("rules"), [NODULE], "en").method == "rules"
    assert server.bodies == []


# ------------------------------------------------------------------------------------- writer and policy
def write(server: Server, *script: Any, **limits: Any) -> Any:
    server.script = list(script)
    client = Client(EndpointConfig("m", server.url, retries=0, **limits), sleep=lambda _: None)
    text = "John Roe, MRN 4711: 7 mm solid nodule in the right upper lobe, small left pleural effusion."
    return write_with(EndpointWriter(client), [NODULE, EFFUSION], "en", context=KNOWN, text=text)


def changed(index: int, **values: Any) -> dict[str, Any]:
    statements = [dict(s) for s in GOOD["statements"]]
    statements[index] |= values
    return {"statements": statements}


def test_a_faithful_text_is_taken_as_it_is(server: Server) -> None:
    made = write(server, GOOD)
    assert [s.text for s in made.statements] == [s["text"] for s in GOOD["statements"]]
    assert (made.method, made.remarks) == ("m", ())
    assert [c.id for c in made.citations] == ["fleischner_2017"]


def test_no_identifier_leaves_the_house(server: Server) -> None:
    write(server, GOOD)
    sent = json.dumps(server.bodies)
    assert "7 mm" in sent
    assert not any(word in sent for word in ("John", "Roe", "4711", "MRN"))


def test_a_wrong_text_is_written_again_with_the_errors_named(server: Server) -> None:
    made = write(server, changed(0, text="7 mm solid nodule in the left upper lobe."), GOOD)
    assert "left upper lobe is not where it lies" in json.dumps(server.bodies[1])
    assert made.method == "m"
    assert "wrong_side" in made.remarks[0]


def test_what_stays_wrong_is_dropped_and_what_is_missing_comes_from_the_rules(server: Server) -> None:
    made = write(server, changed(0, text="17 mm solid nodule in the right upper lobe."))
    assert "17 mm" not in made.text
    assert "7 mm" in made.text
    assert len(made.remarks) == 3
    assert made.method == "m"


def test_a_hopeless_text_is_replaced_by_the_rules(server: Server) -> None:
    lies = {"statements": [{"text": "Large right pneumothorax.", "role": "finding", "findings": [], "citations": []}]}
    made = write(server, lies)
    assert made.method == "rules"
    assert "pneumothorax" not in made.text
    assert "by rule because" in made.remarks[-1]


def test_an_endpoint_that_fails_is_replaced_by_the_rules_and_said_so(server: Server) -> None:
    made = write(server, (503, {}))
    assert made.method == "rules"
    assert "server" in made.remarks[-1]


def test_json_is_found_between_other_words() -> None:
    assert decode('Sure: {"a": [1]} as asked') == {"a": [1]}
    with pytest.raises(ValueError, match="no JSON"):
        decode("nothing here")
