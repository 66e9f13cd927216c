"""Which language model writes, and under which limits; what was spent so far.

Nothing here opens a connection. A key is never part of a configuration: only the name of the environment variable
that holds it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctscribe.errors import EndpointError, UsageError

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True)
class EndpointConfig:
    """One OpenAI-compatible endpoint and the limits it is used under.

    Attributes:
        model: name of the model, as the endpoint knows it.
        base_url: of the endpoint, ending in ``/v1`` as a rule; "" means that none was chosen, and nothing is sent.
        api: ``"responses"`` (OpenAI), ``"chat"`` (chat completions, what compatible servers speak).
        key_env: environment variable that holds the key; unset is fine for a server without keys.
        timeout_s: for one answer.
        retries: after a time-out, a throttle, a broken connection or a fault of the server.
        backoff_s: wait before the first retry; doubles with each one, unless the server names a time.
        longest_wait_s: no wait is longer, whatever the server asks for.
        requests_per_minute: 0 means no limit of our own.
        concurrency: requests at the same time.
        max_tokens: of one answer.
        temperature: of sampling; None leaves it to the endpoint (some models refuse the parameter).
        price_in: per million tokens sent, in the currency of the budget.
        price_out: per million tokens received.
        budget: no request is made once this much is spent; 0 means no limit.
        token_budget: the same in tokens, sent and received; 0 means no limit.
        cache: folder of answers already given; None keeps none.
        offline: answer from the cache only.
        stream: read answers as they are written; a stalled connection is then noticed within the time-out.
    """

    model: str
    base_url: str = ""
    api: Literal["responses", "chat"] = "chat"
    key_env: str = "OPENAI_API_KEY"
    timeout_s: float = 60.0
    retries: int = 3
    backoff_s: float = 1.0
    longest_wait_s: float = 60.0
    requests_per_minute: int = 0
    concurrency: int = 4
    max_tokens: int = 2000
    temperature: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    budget: float = 0.0
    token_budget: int = 0
    cache: Path | None = None
    offline: bool = False
    stream: bool = False

    def __post_init__(self) -> None:
        if not self.model:
            raise UsageError("no model is named", expected="its name at the endpoint", hint="--llm NAME")
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise UsageError(f"endpoint {self.base_url!r}", expected="an address beginning with http:// or https://")
        if self.timeout_s <= 0 or self.retries < 0 or self.concurrency < 1:
            raise UsageError("limits of the endpoint", expected="timeout_s above 0, retries from 0, concurrency from 1")
        if self.budget and not (self.price_in or self.price_out):
            raise UsageError("a budget without prices", expected="price_in and price_out per million tokens")

    @property
    def key(self) -> str:
        """The key, read now; a placeholder where there is none, which servers without keys ignore."""
        return os.environ.get(self.key_env, "") or "none"


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more answers.

    Attributes:
        sent: tokens of the prompts.
        received: tokens of the answers.
        requests: answers that came from the endpoint.
        cached: answers that came from the folder instead.
    """

    sent: int = 0
    received: int = 0
    requests: int = 0
    cached: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.sent + other.sent,
            self.received + other.received,
            self.requests + other.requests,
            self.cached + other.cached,
        )


class Ledger:
    """Counts what an endpoint was used for, across threads, and stops when the budget is spent."""

    def __init__(self, config: EndpointConfig) -> None:
        self._config, self._lock, self._usage = config, threading.Lock(), Usage()

    @property
    def usage(self) -> Usage:
        """Everything so far."""
        return self._usage

    @property
    def cost(self) -> float:
        """In the currency of the prices."""
        return (self._usage.sent * self._config.price_in + self._usage.received * self._config.price_out) / 1e6

    def add(self, usage: Usage) -> None:
        """Enter one answer."""
        with self._lock:
            self._usage += usage

    def check(self) -> None:
        """Before a request.

        Raises:
            EndpointError: the budget is spent (code ``budget``).
        """
        tokens = self._usage.sent + self._usage.received
        spent_money = self._config.budget and self.cost >= self._config.budget
        spent_tokens = self._config.token_budget and tokens >= self._config.token_budget
        if spent_money or spent_tokens:
            raise EndpointError(
                "the budget of the language model is spent",
                code="budget",
                expected=f"below {self._config.budget:g} and {self._config.token_budget} tokens (0: no limit)",
                got=f"{self.cost:.4f}, {tokens} tokens in {self._usage.requests} requests",
                hint="raise budget or token_budget, or use --writer rules",
            )
