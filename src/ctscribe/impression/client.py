"""Asks a language model behind an OpenAI-compatible endpoint and gives back a validated answer.

```
budget ─ cache ─ pace ─ request (retried) ─ validate ─ answer
                          │ schema, then JSON mode, then plain text: the next one when an endpoint cannot do it
```

The official ``openai`` package does the talking; it is imported on the first request. Retries are ours, so that every
attempt is counted and none outlives the limits. No prompt, answer or key is logged.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ctscribe.errors import DependencyMissing, EndpointError
from ctscribe.impression.answers import AnswerCache
from ctscribe.impression.endpoint import EndpointConfig, Ledger, Usage

T = TypeVar("T")
Form = Literal["schema", "json", "text"]
FORMS: tuple[Form, ...] = ("schema", "json", "text")
"""How an answer is asked for, the strictest first."""

_RETRIED = (408, 409, 425, 429)
_FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        system: what the model is to do.
        user: the material.
        schema: JSON schema of the answer.
        name: of the schema.
    """

    system: str
    user: str
    schema: dict[str, Any]
    name: str = "impression"


@dataclass(frozen=True)
class Answer:
    """A raw answer.

    Attributes:
        text: as it came.
        usage: tokens; zero where the endpoint does not count.
        form: how it was asked for.
        attempts: requests it took.
    """

    text: str
    usage: Usage
    form: Form
    attempts: int = 1


@dataclass
class Client:
    """One endpoint, for many questions and threads.

    Args:
        config: which endpoint, and the limits.
        on_text: called with each piece of a streamed answer.
        sleep: waits; replaced in tests.
    """

    config: EndpointConfig
    on_text: Callable[[str], None] | None = None
    sleep: Callable[[float], None] = time.sleep
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.config)
        self._cache = AnswerCache(self.config.cache) if self.config.cache else None
        self._gate = threading.Semaphore(self.config.concurrency)
        self._lock = threading.Lock()
        self._next_start = 0.0
        self._forms: list[Form] = list(FORMS)
        self._made: Any = None

    def ask(self, question: Question, read: Callable[[Any], T]) -> tuple[T, Answer]:
        """Ask until an answer is valid.

        Args:
            question: what is asked.
            read: turns the decoded JSON into a value; raises `CTScribeError` or `ValueError` when it does not fit.

        Raises:
            EndpointError: no endpoint was chosen (``no_endpoint``), it is not in the cache (``offline``), the budget is
                spent (``budget``), nobody answers (``timeout``, ``throttled``, ``unreachable``, ``server``), the key is
                wrong (``unauthorised``), the model refuses (``refused``), or no form gave a valid answer
                (``truncated``, ``bad_reply``).
            DependencyMissing: the ``openai`` package is not installed.
        """
        from ctscribe.errors import CTScribeError

        if not self.config.base_url and not self.config.offline:
            raise EndpointError(
                "no endpoint was chosen, so nothing was sent",
                code="no_endpoint",
                hint="name one, such as --endpoint http://127.0.0.1:8000/v1, or use --writer rules",
            )
        key = AnswerCache.key(
            system=question.system,
            user=question.user,
            schema=question.schema,
            model=self.config.model,
            url=self.config.base_url,
            temperature=self.config.temperature,
            max_tokens=self.config.max_tokens,
        )
        if (kept := self._cache.get(key) if self._cache else None) is not None:
            self.ledger.add(Usage(cached=1))
            return read(decode(kept["text"])), Answer(kept["text"], Usage(cached=1), kept.get("form", "text"), 0)
        if self.config.offline:
            raise EndpointError("the answer is not in the cache, and the client is offline", code="offline")
        last: Exception | None = None
        attempts = 0
        for form in tuple(self._forms):
            try:
                answer = self._request(question, form)
                attempts += answer.attempts
                value = read(decode(answer.text))
            except _NotSupported as error:
                self._drop(form)
                last = error
            except EndpointError as error:
                if error.code != "truncated":
                    raise
                last = error
            except (CTScribeError, ValueError) as error:
                last = error
            else:
                if self._cache:
                    self._cache.put(key, {"text": answer.text, "form": form})
                return value, Answer(answer.text, answer.usage, form, attempts)
        if isinstance(last, EndpointError):
            raise last
        raise EndpointError(
            f"{self.config.model} gave no valid answer",
            code="bad_reply",
            expected="JSON of the schema that was sent",
            got=_short(last),
            hint="try a larger model, or --writer rules",
        ) from last

    def _drop(self, form: Form) -> None:
        with self._lock:
            if form in self._forms and len(self._forms) > 1:
                self._forms.remove(form)

    def _request(self, question: Question, form: Form) -> Answer:
        """One form, with retries."""
        openai = _openai()
        attempts = 0
        while True:
            self.ledger.check()
            self._pace()
            attempts += 1
            try:
                with self._gate:
                    text, usage = self._once(question, form)
            except openai.APIStatusError as error:
                wait = self._after_status(error, form, attempts)
            except openai.APITimeoutError as error:
                wait = self._retry(attempts, "timeout", f"no answer within {self.config.timeout_s:g} s", error)
            except openai.APIConnectionError as error:
                wait = self._retry(attempts, "unreachable", "the connection failed or broke", error)
            except (openai.APIResponseValidationError, openai.APIError, json.JSONDecodeError) as error:
                wait = self._retry(attempts, "server", "the answer is not what the interface promises", error)
            else:
                self.ledger.add(usage)
                return Answer(text, usage, form, attempts)
            self.sleep(min(wait, self.config.longest_wait_s))

    def _after_status(self, error: Any, form: Form, attempts: int) -> float:
        status = int(error.status_code)
        if status in (401, 403):
            raise EndpointError(
                f"the endpoint does not accept the key in {self.config.key_env}", code="unauthorised", got=str(status)
            ) from None
        if form != "text" and (status in (400, 404, 415, 422, 501) or (status == 500 and attempts > 1)):
            raise _NotSupported(f"HTTP {status} to an answer in the form {form}")
        if status not in _RETRIED and status < 500:
            raise EndpointError("the endpoint refused the request", code="server", got=f"HTTP {status}") from None
        code = "throttled" if status == 429 else "server"
        named = error.response.headers.get("retry-after", "")
        wait = self._retry(attempts, code, f"HTTP {status}", error)
        return float(named) if re.fullmatch(r"\d+(?:\.\d+)?", named) else wait

    def _retry(self, attempts: int, code: str, got: str, error: Exception) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            EndpointError: there is none left.
        """
        if attempts > self.config.retries:
            raise EndpointError(
                f"{self.config.model} did not answer in {attempts} attempts",
                code=code,
                got=got,
                hint="look at the address and whether the server runs; --writer rules writes impressions without it",
            ) from error
        return self.config.backoff_s * 2.0 ** (attempts - 1)

    def _pace(self) -> None:
        """Wait for this request's turn under the limit of requests a minute."""
        if not self.config.requests_per_minute:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + 60.0 / self.config.requests_per_minute
        if start > now:
            self.sleep(start - now)

    # -------------------------------------------------------------------------------------- one request
    def _once(self, question: Question, form: Form) -> tuple[str, Usage]:
        if self._made is None:
            openai = _openai()
            with self._lock:
                self._made = openai.OpenAI(
                    base_url=self.config.base_url,
                    api_key=self.config.key,
                    timeout=self.config.timeout_s,
                    max_retries=0,
                )
        user = question.user
        if form != "schema":
            user += "\n\nAnswer with JSON of this schema and nothing else:\n" + json.dumps(question.schema)
        if self.config.api == "responses":
            return self._responses(question, user, form)
        return self._chat(question, user, form)

    def _chat(self, question: Question, user: str, form: Form) -> tuple[str, Usage]:
        messages = [{"role": "system", "content": question.system}, {"role": "user", "content": user}]
        options: dict[str, Any] = {
            "model": self.config.model,
            "messages": messages,
            "max_tokens": self.config.max_tokens,
        }
        if self.config.temperature is not None:
            options["temperature"] = self.config.temperature
        if form == "schema":
            shape = {"name": question.name, "schema": question.schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": shape}
        elif form == "json":
            options["response_format"] = {"type": "json_object"}
        if self.config.stream:
            return self._streamed(options)
        made = self._made.chat.completions.create(**options)
        if not getattr(made, "choices", None):
            raise ValueError("no choices in the answer")
        choice = made.choices[0]
        usage = getattr(made, "usage", None)
        counted = Usage(getattr(usage, "prompt_tokens", 0) or 0, getattr(usage, "completion_tokens", 0) or 0, 1)
        _check_end(choice.finish_reason, getattr(choice.message, "refusal", None), counted, self.ledger)
        return choice.message.content or "", counted

    def _streamed(self, options: dict[str, Any]) -> tuple[str, Usage]:
        parts: list[str] = []
        counted, reason = Usage(requests=1), None
        pieces = self._made.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
        for piece in pieces:
            if piece.usage is not None:
                counted = Usage(piece.usage.prompt_tokens, piece.usage.completion_tokens, 1)
            for choice in piece.choices:
                reason = choice.finish_reason or reason
                if choice.delta.content:
                    parts.append(choice.delta.content)
                    if self.on_text:
                        self.on_text(choice.delta.content)
        _check_end(reason or "length", None, counted, self.ledger)
        return "".join(parts), counted

    def _responses(self, question: Question, user: str, form: Form) -> tuple[str, Usage]:
        options: dict[str, Any] = {
            "model": self.config.model,
            "instructions": question.system,
            "input": user,
            "max_output_tokens": self.config.max_tokens,
            "store": False,
        }
        if self.config.temperature is not None:
            options["temperature"] = self.config.temperature
        if form == "schema":
            shape = {"type": "json_schema", "name": question.name, "schema": question.schema, "strict": True}
            options["text"] = {"format": shape}
        elif form == "json":
            options["text"] = {"format": {"type": "json_object"}}
        made = self._heard(options) if self.config.stream else self._made.responses.create(**options)
        if isinstance(made, str):
            return made, Usage(requests=1)
        usage = made.usage
        counted = Usage(usage.input_tokens, usage.output_tokens, 1) if usage else Usage(requests=1)
        parts = [part for item in made.output for part in (getattr(item, "content", None) or ())]
        refusal = next((part.refusal for part in parts if getattr(part, "type", "") == "refusal"), None)
        _check_end("length" if made.status == "incomplete" else "stop", refusal, counted, self.ledger)
        return made.output_text, counted

    def _heard(self, options: dict[str, Any]) -> Any:
        """The whole answer of the responses interface, listened to as it is written."""
        whole = None
        for event in self._made.responses.create(**options, stream=True):
            if event.type == "response.output_text.delta" and self.on_text:
                self.on_text(event.delta)
            whole = getattr(event, "response", None) or whole
        if whole is None:
            raise ValueError("no response in the stream")
        return whole


class _NotSupported(ValueError):
    """The endpoint cannot answer in the form that was asked for."""


def _check_end(reason: str | None, refusal: str | None, usage: Usage, ledger: Ledger) -> None:
    """An answer that was cut off or refused is not one; its tokens are counted all the same."""
    if refusal or reason == "content_filter":
        ledger.add(usage)
        raise EndpointError("the model refuses to write this impression", code="refused", hint="--writer rules")
    if reason == "length":
        ledger.add(usage)
        raise EndpointError("the answer was cut off", code="truncated", hint="raise max_tokens")


def decode(text: str) -> Any:
    """JSON out of an answer: alone, in a fence, or the first object between other words.

    Raises:
        ValueError: there is none.
    """
    fenced = _FENCE.match(text)
    plain = fenced[1] if fenced else text.strip()
    try:
        return json.loads(plain)
    except json.JSONDecodeError:
        start = plain.find("{")
        if start < 0:
            raise ValueError("no JSON in the answer") from None
        value, _ = json.JSONDecoder().raw_decode(plain[start:])
        return value


def _short(error: Exception | None) -> str:
    return " ".join(str(error).split())[:200]


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise DependencyMissing(
            "the openai package is not installed", hint="pip install 'ctscribe[api]', or use --writer rules"
        ) from error
    return openai


def ask_all(questions: Sequence[Callable[[], T]], workers: int) -> list[T | EndpointError]:
    """Run several questions at the same time; a failed one gives its error in its place."""
    from concurrent.futures import ThreadPoolExecutor

    def one(ask: Callable[[], T]) -> T | EndpointError:
        try:
            return ask()
        except EndpointError as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        return list(pool.map(one, questions))
