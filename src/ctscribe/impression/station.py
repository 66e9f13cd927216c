"""The impression station with everything a site has chosen: writer, guidelines, passages. Ready for many studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctscribe.impression.context import Context
from ctscribe.impression.guidelines import RuleSet
from ctscribe.impression.result import Impression, verdicts
from ctscribe.impression.retrieval import Library
from ctscribe.impression.rules import METHOD, note
from ctscribe.impression.writers import Writer, prompts
from ctscribe.impression.writing import write_with
from ctscribe.ontology import Language
from ctscribe.report import Finding


@dataclass(frozen=True)
class Station:
    """Who writes impressions, and from what; without arguments the rules, with what ships.

    Attributes:
        writer: proposes the text; None is the rule writer.
        rule_sets: guidelines to follow; None takes those that ship.
        library: passages the writer may use and cite; None takes the shipped ones.
    """

    writer: Writer | None = None
    rule_sets: tuple[RuleSet, ...] | None = None
    library: Library | None = None

    def write(
        self, findings: Sequence[Finding], language: Language, *, context: Context | None = None, text: str = ""
    ) -> Impression:
        """One impression under guard, see `writing.write_with`."""
        return write_with(
            self.writer,
            findings,
            language,
            context=context,
            rule_sets=self.rule_sets,
            text=text,
            library=self.library,
        )


def note_in(made: Impression, language: Language) -> str:
    """How an impression came about, in a language that it need not be written in."""
    if made.method != METHOD:
        return prompts()["note"][language].format(name=made.method)
    signed = next((kind for kind in (True, None) if made.note == note(made.language, signed=kind)), False)
    return note(language, signed=signed)


def guard_note_in(made: Impression, language: Language) -> str:
    """What the guard made of it, likewise; what happened on the way stays in the impression's own language."""
    if made.check is None:
        return ""
    return (" " if language == "en" else "").join((verdicts()[made.check.verdict][language], *made.check.remarks))
