"""Constrained decoding: the only impressions that can be written are those that the findings support.

```
findings ── every wording that the report renderer knows ── those the guard passes ─┐
rules    ── given sentences, by number ─────────────────────────────────────────────┴─► grammar ─► mask over tokens
```

One line for each finding in the rules' order, then the numbers of the given sentences about it. A finding that is
critical, or that a guideline asks something about, cannot be left out, and neither can what is asked; the others may.
So every text that comes out is complete, names only what is there, and can be read back. `llguidance` (extra
``grammar``) turns the grammar into the tokens that may come next, for any tokenizer of the fast kind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctscribe import ontology
from ctscribe.errors import DependencyMissing
from ctscribe.impression import lines
from ctscribe.impression.guard import Known, problems
from ctscribe.impression.result import Statement
from ctscribe.ontology import Language

WORDINGS = 24
"""Other wordings of a finding that are tried; fewer are admitted, since many come out alike."""
_MUST = ("follow_up", "comparison", "question")


@dataclass(frozen=True)
class Block:
    """What may be said about one finding: its wordings, and lines that must or may follow."""

    wordings: tuple[str, ...]
    must: bool
    after: tuple[tuple[str, bool], ...]


def grammar(known: Known, language: Language) -> str:
    """The impressions that may be written, in the notation of Lark."""
    given = lines.given(known)
    blocks, told = [], set[int]()
    for index in lines.named(known):
        about = [i for i, s in enumerate(given) if i not in told and index in s.findings]
        told |= set(about)
        blocks.append(_block(index, [(i, given[i]) for i in about], known, language))
    last = [f"[{i + 1}]" for i, s in enumerate(given) if i not in told and s.role in _MUST]
    if not blocks:
        normal = [s.text for s in known.ruled if s.role == "normal"]
        return _rules([f"start: {_all([*normal, *last])}"])
    return _rules([*_chain(blocks, last), *(_said(number, block) for number, block in enumerate(blocks))])


def _block(index: int, about: Sequence[tuple[int, Statement]], known: Known, language: Language) -> Block:
    must = any(s.role in _MUST for _, s in about) or ontology.findings()[known.findings[index].kind].critical
    after = tuple((f"[{i + 1}]", s.role in _MUST) for i, s in about)
    return Block(wordings(index, known, language), must, after)


def wordings(index: int, known: Known, language: Language) -> tuple[str, ...]:
    """Sentences that state one finding and that the guard passes; the rules' own only where there is no other."""
    finding = known.findings[index]
    canonical = lines.restated(finding, language)
    others = dict.fromkeys(lines.restated(finding, language, seed) for seed in range(WORDINGS))
    passed = [text for text in others if text != canonical and _passes(Statement(text, "finding", (index,)), known)]
    return tuple(passed) or (canonical,)


def _passes(said: Statement, known: Known) -> bool:
    language: Language = "zh" if any("\u4e00" <= letter <= "\u9fff" for letter in said.text) else "en"
    return not any(p.statement == 0 for p in problems([said], known, language))


def _chain(blocks: Sequence[Block], last: Sequence[str]) -> list[str]:
    """``from_i``: nothing was said before block i; ``then_i``: something was."""
    rows = ["start: from_0"]
    for i, block in enumerate(blocks):
        skipped = "" if block.must or i + 1 == len(blocks) else f" | from_{i + 1}"
        rows.append(f"from_{i}: said_{i} then_{i + 1}{skipped}")
        optional = f"NL said_{i}" if block.must else f"(NL said_{i})?"
        if i:
            rows.append(f"then_{i}: {optional} then_{i + 1}")
    ending = "".join(f" NL {_quoted(text)}" for text in last) or ' ""'
    return [*rows, f"then_{len(blocks)}:{ending}"]


def _said(number: int, block: Block) -> str:
    after = "".join(f" NL {_quoted(t)}" if must else f" (NL {_quoted(t)})?" for t, must in block.after)
    return f"said_{number}: ({' | '.join(map(_quoted, block.wordings))}){after}"


def _all(texts: Sequence[str]) -> str:
    return " NL ".join(map(_quoted, texts))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _rules(rows: Sequence[str]) -> str:
    return "\n".join([*rows, 'NL: "\\n"', ""])


class Masks:
    """Which tokens may come next, for the grammars of one tokenizer.

    Args:
        tokenizer: of the fast kind, as `transformers` loads it.
        entries: of the model's vocabulary, which may have more than the tokenizer.

    Raises:
        DependencyMissing: ``llguidance`` is not installed.
    """

    def __init__(self, tokenizer: Any, entries: int) -> None:
        try:
            import llguidance.hf
        except ImportError as error:
            raise DependencyMissing(
                "constrained decoding needs the package llguidance",
                hint="pip install 'ctscribe[grammar]', or leave --grammar out",
            ) from error
        self._guidance, self.entries = llguidance, entries
        self._tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=entries)

    def start(self, grammar: str) -> Matcher:
        """A matcher before the first token."""
        made = self._guidance.LLMatcher(self._tokens, self._guidance.LLMatcher.grammar_from_lark(grammar))
        return Matcher(made, self.entries)


class Matcher:
    """One text while it is written."""

    def __init__(self, matcher: Any, entries: int) -> None:
        self._matcher, self._entries = matcher, entries
        self._check()

    def allowed(self) -> Any:
        """Bool array over the vocabulary: what may come next, the end of the text included."""
        import numpy as np

        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(mask, bitorder="little")[: self._entries].astype(bool)

    def take(self, token: int) -> list[int]:
        """Go on with a token; gives back the tokens that must follow it, already taken."""
        self._matcher.consume_token(token)
        forced = [] if self.ended else list(self._matcher.compute_ff_tokens())
        for following in forced:
            self._matcher.consume_token(following)
        self._check()
        return forced

    @property
    def ended(self) -> bool:
        """Nothing may follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ValueError(f"the grammar cannot be followed: {self._matcher.get_error()}")
