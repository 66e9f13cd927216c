"""The same findings in other words, by a language model behind an endpoint.

```
 text ──► language model ──► other words ──► report parser ──┬─ the same findings: kept
                                                             └─ others: not kept, the text stays as it was
```

What the parser does not read (an aside, a measurement of nothing) is not checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctscribe.errors import EndpointError
from ctscribe.impression.client import Client, Question
from ctscribe.impression.wording import prompts
from ctscribe.ontology import Language
from ctscribe.report.parse import parse

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
_THE_MODELS = ("bad_reply", "truncated", "refused")
"""Failures of one answer; any other failure would befall the next text as well."""


@dataclass(frozen=True)
class Paraphrase:
    """A text, reworded or not.

    Attributes:
        text: the new words, or those that were given.
        kept_because: why nothing was changed: a code of `EndpointError`, or "" where it was.
    """

    text: str
    kept_because: str = ""


def paraphrase(text: str, language: Language, client: Client) -> Paraphrase:
    """Ask for other words and keep them only where every finding is the same, with side, size and certainty.

    Args:
        text: findings section, without identifiers: it is sent as it is.
        language: of the text.
        client: the endpoint.

    Raises:
        EndpointError: the endpoint cannot be used (no address, no key, budget spent, nobody answers).
    """
    said = frozenset(parse(text, language))

    def same(data: Any) -> str:
        new = data.get("text") if isinstance(data, dict) else None
        if not isinstance(new, str) or not new.strip():
            raise ValueError("an answer without a text")
        if frozenset(parse(new, language)) != said:
            raise ValueError("other findings than the text that was given")
        return new.strip()

    words = prompts()
    system = words["paraphrase"].format(language=words["languages"][language])
    try:
        new, _ = client.ask(Question(system, text, SCHEMA), same)
    except EndpointError as error:
        if error.code not in _THE_MODELS:
            raise
        return Paraphrase(text, error.code)
    return Paraphrase(new)
