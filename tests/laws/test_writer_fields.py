"""No field is read and then ignored of what teaches, names and limits the writers of impressions."""

from __future__ import annotations

import json
import threading
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import hosts_kit
from tests import tiny as small
from tests.endpoint_kit import serving
from torch import nn

from ctscribe import checkpoint
from ctscribe.errors import EndpointError, UsageError
from ctscribe.impression.client import Client, Question, ask_all
from ctscribe.impression.endpoint import EndpointConfig, Usage
from ctscribe.impression.writers import WRITERS, Choice, EndpointWriter, LocalWriter
from ctscribe.language.head import HeadConfig
from ctscribe.pipeline.writers import HeadWriter, make
from ctscribe.training import impression_head, impression_lora
from ctscribe.training.impression_head import HeadCourse
from ctscribe.training.impression_lora import LoraCourse
from ctscribe.training.stages import TrainConfig
from recipes import impression_head as head_recipe
from recipes import impression_lora as lora_recipe

HEAD: dict[str, Any] = {"layers": 1, "max_tokens": 7}
HEAD_COURSE: dict[str, Any] = {
    "recipe": "another",
    "name": "another",
    "base": "two",
    "head": HeadConfig(layers=1),
    "train": replace(head_recipe.config().train, seed=9),
    "languages": ("zh",),
    "variety": 1.0,
    "comments": True,
    "longest": 5,
}
LORA_COURSE: dict[str, Any] = {
    "recipe": "another",
    "name": "another",
    "base": "two",
    "train": replace(lora_recipe.config().train, seed=9),
    "rank": 3,
    "languages": ("zh",),
    "variety": 0.0,
    "longest": 5,
}
ENDPOINT: dict[str, Any] = {
    "model": "other",
    "base_url": "",
    "api": "responses",
    "key_env": "OTHER_KEY",
    "timeout_s": 7.0,
    "retries": 1,
    "backoff_s": 3.0,
    "longest_wait_s": 30.0,
    "requests_per_minute": 1,
    "concurrency": 3,
    "max_tokens": 99,
    "temperature": 0.5,
    "price_in": 2.0,
    "price_out": 5.0,
    "budget": 1e-6,
    "token_budget": 1,
    "cache": Path("cache"),
    "offline": True,
    "stream": True,
}
CHOICE: dict[str, Any] = {
    "config": EndpointConfig("m", "http://127.0.0.1:1/v1"),
    "folder": Path("other"),
    "base": Path("other"),
    "constrained": True,
}
#: writer -> the parts of a choice that it reads
READ: dict[str, set[str]] = {
    "rules": set(),
    "openai": {"config"},
    "server": {"config"},
    "local": {"folder", "constrained"},
    "tuned": {"folder", "base", "constrained"},
    "head": {"folder", "base"},
}


def test_there_is_a_case_for_every_field() -> None:
    listed = (
        (HeadCourse, HEAD_COURSE),
        (HeadConfig, HEAD),
        (LoraCourse, LORA_COURSE),
        (EndpointConfig, ENDPOINT),
        (Choice, CHOICE),
    )
    assert set(READ) == set(WRITERS)
    for cls, cases in listed:
        assert {f.name for f in fields(cls)} == set(cases), cls.__name__


# --------------------------------------------------------------------------------------------- learning
class Learned(Exception):
    """Raised where training would begin, with what it was given."""


@pytest.fixture
def _stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def teach(learner: nn.Module, config: TrainConfig, pairs: Any, collate: Any, folder: Path) -> Any:
        batch = collate([pairs[i] for i in range(2)])
        names = [(name, tuple(p.shape)) for name, p in learner.named_parameters()]
        writer = getattr(learner, "writer", None)
        longest = None if writer is None else writer.config.max_tokens
        weight, ids = next(learner.parameters()).sum().item(), (batch.input_ids.tolist(), batch.labels.tolist())
        recipe = (folder / "recipe.yaml").read_text(encoding="utf-8").partition("recipe: ")[2].split()[0]
        raise Learned(names, weight, ids, config, longest, recipe)

    monkeypatch.setattr(impression_head, "teach", teach)
    monkeypatch.setattr(impression_lora, "teach", teach)
    monkeypatch.setattr(checkpoint, "load", cache(checkpoint.load))


PLAIN: dict[Any, tuple[Any, ...]] = {}


def differs(module: Any, plain: Any, changed: Any, folder: Path) -> bool:
    """Whether learning would begin with something else; what it plainly begins with is found once."""

    def given(config: Any) -> tuple[Any, ...]:
        with pytest.raises(Learned) as caught:
            module.run(config, folder)
        return caught.value.args

    if module not in PLAIN:
        PLAIN[module] = given(plain)
    return PLAIN[module] != given(changed)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, none = tmp_path_factory.mktemp("models"), checkpoint.Thresholds({}, {})
    return {
        name: str(checkpoint.save(folder / name, small.build(seed), checkpoint.ModelInfo("tiny"), none))
        for seed, name in enumerate(("one", "two"))
    }


@pytest.mark.usefixtures("_stopped")
@pytest.mark.parametrize("name", [*sorted(set(HEAD_COURSE) - {"name"}), *(f"head.{field}" for field in HEAD)])
def test_a_field_of_the_heads_course_matters(name: str, models: dict[str, str], tmp_path: Path) -> None:
    plain = replace(head_recipe.config(), base=models["one"], head=HeadConfig(layers=2))
    part, _, field = name.partition(".")
    value = replace(plain.head, **{field: HEAD[field]}) if field else HEAD_COURSE[name]
    changed = replace(plain, **{part: models[value] if part == "base" else value})
    assert differs(impression_head, plain, changed, tmp_path)


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, long = tmp_path_factory.mktemp("chats"), {"max_position_embeddings": 4096, "num_hidden_layers": 1}
    return {name: hosts_kit.llama(folder / name, seed, **long) for seed, name in enumerate(("one", "two"))}


@pytest.mark.usefixtures("_stopped")
@pytest.mark.parametrize("name", sorted(set(LORA_COURSE) - {"name"}))
def test_a_field_of_the_adapters_course_matters(name: str, chats: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (extra llm)")
    plain = replace(lora_recipe.config(), base=chats["one"], longest=3000, rank=2)
    value = LORA_COURSE[name]
    changed = replace(plain, **{name: chats[value] if name == "base" else value})
    assert differs(impression_lora, plain, changed, tmp_path)


def test_the_names_are_kept_with_what_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards: list[Any] = []
    loaded = SimpleNamespace(model=SimpleNamespace(language=small.build().language), info=checkpoint.ModelInfo("base"))
    monkeypatch.setattr(checkpoint, "load", lambda folder: loaded)
    monkeypatch.setattr(checkpoint, "save_head", lambda folder, writer, card, base: cards.append(card) or folder)
    monkeypatch.setattr(impression_head, "load_weights", lambda *_: None)
    monkeypatch.setattr(impression_head, "teach", lambda *_: SimpleNamespace(averaged=None, weights=None))
    impression_head.run(replace(head_recipe.config(), name=HEAD_COURSE["name"]), tmp_path)
    adapted = SimpleNamespace(save_pretrained=lambda folder: None)
    lora = replace(lora_recipe.config(), name=LORA_COURSE["name"])
    impression_lora.save(tmp_path, adapted, lora, tmp_path, "")
    kept = json.loads((tmp_path / impression_lora.TUNING).read_text(encoding="utf-8"))
    assert (cards[0].name, kept["name"]) == ("another", "another")


# --------------------------------------------------------------------------------------------- choosing
def test_a_part_of_a_choice_is_used_by_its_writer_and_refused_by_the_others(
    models: dict[str, str], chats: dict[str, str]
) -> None:
    told = EndpointConfig("m", "http://127.0.0.1:1/v1")
    server = make("server", Choice(config=told))
    assert isinstance(server, EndpointWriter)
    assert server.client.config == told
    local = make("local", Choice(folder=Path(chats["one"]), constrained=True))
    assert isinstance(local, LocalWriter)
    assert (local.folder, local.constrained) == (Path(chats["one"]), True)
    head = Path(models["one"]).parent / "head"
    head.mkdir(exist_ok=True)
    (head / "config.json").write_text("{}", encoding="utf-8")
    (head / "card.json").write_text('{"name": "h"}', encoding="utf-8")
    based = make("head", Choice(folder=head, base=Path(models["two"])))
    assert isinstance(based, HeadWriter)
    assert based.base == Path(models["two"])
    for writer, part in ((w, p) for w in WRITERS for p in CHOICE if p not in READ[w]):
        with pytest.raises(UsageError, match=rf"--[a-z-]+ with --writer {writer}"):
            make(writer, Choice(**{part: CHOICE[part]}))


# -------------------------------------------------------------------------------------------- endpoint
QUESTION = Question("Write.", "findings", {"type": "object"})
BUSY = [(429, {"retry-after": "70"}), (503, {}), (503, {}), {"statements": []}]


def asked(folder: Path, **changes: Any) -> dict[str, Any]:
    """What a server is sent twice, and what the client does on the way."""
    made: dict[str, Any] = {"waits": [], "errors": [], "usage": []}
    changes = {key: folder / value if key == "cache" else value for key, value in changes.items()}
    with serving() as server:
        server.script = list(BUSY)
        given = {"model": "m", "base_url": server.url, "price_in": 1.0, **changes}
        client = Client(EndpointConfig(**given), sleep=lambda s: made["waits"].append(round(s)))
        for _ in range(2):
            try:
                client.ask(QUESTION, lambda data: data)
            except EndpointError as error:
                made["errors"].append(error.code)
        made["sent"] = list(server.bodies)
        made["keys"] = [headers["authorization"] for headers in server.headers]
    made["patience"] = getattr(client._made, "timeout", None)
    made["cost"], made["cached"] = client.ledger.cost, client.ledger.usage.cached
    return made


@pytest.mark.parametrize("name", sorted(ENDPOINT))
def test_a_field_of_the_endpoint_matters(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="openai is not installed (extra api)")
    monkeypatch.setenv("OTHER_KEY", "other")
    if name == "concurrency":
        assert [at_once(EndpointConfig("m", "http://127.0.0.1:1/v1", concurrency=n)) for n in (1, 3)] == [1, 3]
        return
    assert asked_plainly() != asked(tmp_path, **{name: ENDPOINT[name]})


@cache
def asked_plainly() -> dict[str, Any]:
    return asked(Path())


def at_once(config: EndpointConfig) -> int:
    """The largest number of requests under way at the same time."""
    running, most, lock, full = 0, 0, threading.Lock(), threading.Event()

    def once(*_: Any) -> tuple[str, Usage]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == config.concurrency:
                full.set()
        full.wait(1)
        with lock:
            running -= 1
        return "{}", Usage()

    client = Client(config)
    client._once = once  # type: ignore[method-assign]
    ask_all([lambda: client.ask(QUESTION, lambda data: data)] * 6, 6)
    return most
