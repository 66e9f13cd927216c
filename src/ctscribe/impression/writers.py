"""Who writes an impression: one protocol, and a registry of writers by name.

| name | what it is | needs |
| --- | --- | --- |
| ``rules`` | the rule writer, no language model | nothing |
| ``openai`` | a hosted model through the Responses API | a key, the extra ``api`` |
| ``server`` | any OpenAI-compatible server | its address, the extra ``api`` |
| ``local`` | a causal language model in a folder, fine-tuned or not, in this process | its folder |

A writer only proposes; what becomes of its text is decided in `writing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import yaml

from ctscribe import ontology
from ctscribe.errors import UsageError
from ctscribe.impression.client import Answer, Client, Question, decode
from ctscribe.impression.context import Context
from ctscribe.impression.endpoint import OPENAI_URL, EndpointConfig
from ctscribe.impression.guard import Known, Problem
from ctscribe.impression.result import Statement
from ctscribe.ontology import Language
from ctscribe.report import render_text
from ctscribe.report.codec import from_plain, schema_of

_PATIENT = ("sex", "smoker", "family_history", "exposure", "cancer", "immunosuppressed", "screening")
OLDEST = 89
"""Ages above this one identify people and are sent as "90 or older"."""


@dataclass(frozen=True)
class Sentence:
    """One sentence as a writer proposes it."""

    text: str
    role: Literal["finding", "differential", "significance", "follow_up", "question", "comparison", "normal"]
    findings: tuple[int, ...]
    citations: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    """An impression as a writer proposes it; its JSON schema is what a model is asked for."""

    statements: tuple[Sentence, ...]


@runtime_checkable
class Writer(Protocol):
    """Proposes the statements of an impression."""

    name: str

    def draft(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()
    ) -> tuple[Statement, ...]:
        """Statements for one study.

        Args:
            known: findings, guidelines and sources it may use.
            language: to write in.
            context: of the patient.
            problems: what was wrong with its last proposal.

        Raises:
            EndpointError: the model gave no usable answer.
        """
        ...


def schema() -> dict[str, Any]:
    """JSON schema of a `Draft`, strict: every key required, none besides."""
    definitions: dict[str, Any] = {}
    schema_of(Draft, definitions)
    return {**definitions.pop("Draft"), "$defs": definitions}


def statements_of(data: Any, findings: int) -> tuple[Statement, ...]:
    """A decoded answer as statements; numbers of findings that do not exist are left out.

    Raises:
        UnreadableInput: not of the schema.
        ValueError: no sentence at all.
    """
    draft = from_plain(Draft, data, "answer")
    kept = [s for s in draft.statements if s.text.strip()]
    if not kept:
        raise ValueError("an impression without a sentence")
    return tuple(
        Statement(s.text.strip(), s.role, tuple(i for i in s.findings if 0 <= i < findings), s.citations) for s in kept
    )


def question(known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()) -> Question:
    """The prompt: structured findings, guideline and source texts and a few facts.

    It holds no free text of a report, so no name, number or date of a patient can be in it.
    """
    words = prompts()
    parts: dict[str, list[str]] = {"findings": [], "follow_up": [], "sources": [], "patient": [], "problems": []}
    for index, finding in enumerate(known.findings):
        if finding.status != "absent":
            mark = "critical, " if ontology.findings()[finding.kind].critical else ""
            text = render_text([replace(finding, evidence=())], language)
            parts["findings"].append(f"{index} ({mark}{finding.status}): {text}")
    for statement in known.ruled:
        if statement.role == "follow_up":
            about = ", ".join(map(str, statement.findings)) or "-"
            parts["follow_up"].append(f"[{', '.join(statement.citations)}] finding {about}: {statement.text}")
        elif statement.role in ("differential", "significance"):
            parts["sources"].append(f"finding {', '.join(map(str, statement.findings))}: {statement.text}")
    parts["sources"] += [f"[{name}] {text}" for name, text in known.passages]
    parts["patient"] = _patient(context)
    parts["problems"] = [f"- {p.message}" for p in problems]
    blocks = [
        f"{words['parts'][name]}\n" + ("\n".join(lines) or words["nothing"])
        for name, lines in parts.items()
        if lines or name != "problems"
    ]
    return Question(words["system"].format(language=words["languages"][language]), "\n\n".join(blocks), schema())


def _patient(context: Context) -> list[str]:
    facts = []
    if context.age is not None:
        facts.append(f"age: {context.age}" if context.age <= OLDEST else f"age: {OLDEST + 1} or older")
    facts += [f"{name}: {value}" for name in _PATIENT if (value := getattr(context, name)) is not None]
    return facts


@cache
def prompts() -> Any:
    """Prompt texts, remarks and notes, from ``prompts.yaml``."""
    return yaml.safe_load((files(__package__) / "prompts.yaml").read_text(encoding="utf-8"))


class EndpointWriter:
    """A language model behind an endpoint.

    Args:
        client: how to ask it.
        name: for notes and provenance.
    """

    def __init__(self, client: Client, name: str = "") -> None:
        self.client, self.name = client, name or client.config.model
        self.last: Answer | None = None

    def draft(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()
    ) -> tuple[Statement, ...]:
        """One question to the endpoint; the answer is validated."""
        asked = question(known, language, context, problems)
        made, self.last = self.client.ask(asked, lambda data: statements_of(data, len(known.findings)))
        return made


class LocalWriter:
    """A causal language model in a folder, run in this process.

    Args:
        folder: as `transformers` saves it, with its tokenizer.
        device: a torch device.
        max_tokens: of one answer.
    """

    def __init__(self, folder: Path, device: str = "cpu", max_tokens: int = 600) -> None:
        if not (folder / "config.json").is_file():
            raise UsageError(f"no language model in {folder}", expected="a folder with config.json and weights")
        self.folder, self.device, self.max_tokens = folder, device, max_tokens
        self.name = folder.name
        self._loaded: Any = None

    def draft(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()
    ) -> tuple[Statement, ...]:
        """Greedy decoding of the same prompt that endpoints get.

        Raises:
            EndpointError: the text is no draft (code ``bad_reply``).
        """
        import json

        import torch

        from ctscribe.errors import CTScribeError, EndpointError

        model, tokenizer = self._model()
        asked = question(known, language, context, problems)
        user = asked.user + "\n\nAnswer with JSON of this schema and nothing else:\n" + json.dumps(asked.schema)
        messages = [{"role": "system", "content": asked.system}, {"role": "user", "content": user}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.device)
        with torch.inference_mode():
            made = model.generate(**ids, max_new_tokens=self.max_tokens, do_sample=False)
        text = tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        try:
            return statements_of(decode(text), len(known.findings))
        except (CTScribeError, ValueError) as error:
            raise EndpointError(f"{self.name} gave no valid answer", code="bad_reply", got=str(error)[:200]) from error

    def _model(self) -> Any:
        if self._loaded is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            model = AutoModelForCausalLM.from_pretrained(self.folder, local_files_only=True).to(self.device).eval()
            self._loaded = model, AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        return self._loaded


Factory = Callable[[EndpointConfig | None, Path | None], Writer | None]


def _rules(config: EndpointConfig | None, folder: Path | None) -> None:
    return None


def _hosted(config: EndpointConfig | None, folder: Path | None) -> Writer:
    if config is None:
        raise UsageError("--writer openai without a model", expected="--llm NAME, such as gpt-5.1")
    return EndpointWriter(Client(replace(config, base_url=config.base_url or OPENAI_URL, api="responses")))


def _server(config: EndpointConfig | None, folder: Path | None) -> Writer:
    if config is None or not (config.base_url or config.offline):
        raise UsageError("--writer server", expected="--llm NAME and --endpoint URL")
    return EndpointWriter(Client(config))


def _local(config: EndpointConfig | None, folder: Path | None) -> Writer:
    if folder is None:
        raise UsageError("--writer local", expected="--llm-folder DIR, a language model as transformers saves it")
    return LocalWriter(folder)


WRITERS: dict[str, Factory] = {"rules": _rules, "openai": _hosted, "server": _server, "local": _local}
"""Name -> how it is made; a site adds its own here."""


def make(name: str, config: EndpointConfig | None = None, folder: Path | None = None) -> Writer | None:
    """A writer by name; None stands for the rule writer, which needs no other.

    Raises:
        UsageError: no such writer, or it lacks what it needs.
    """
    if name not in WRITERS:
        raise UsageError(f"--writer {name}", expected=" | ".join(WRITERS))
    return WRITERS[name](config, folder)
