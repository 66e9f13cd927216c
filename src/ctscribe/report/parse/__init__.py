"""Report text -> findings, in English and Chinese.

Made for two kinds of text: what `render_findings` writes, which reads back to exactly the findings it was written
from, and what people write. No model is involved: names come from the ontology, cues and further patterns from
``reading/*.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ctscribe import ontology
from ctscribe.errors import UsageError
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report.parse import scan, scope
from ctscribe.report.parse.assemble import Draft, assemble
from ctscribe.report.parse.lexicon import lexicon
from ctscribe.report.parse.text import detect_language, normalise, sentences, split_sentences
from ctscribe.report.words import Finding

__all__ = [
    "ct_rate_labels_of",
    "detect_language",
    "normalise",
    "parse",
    "parse_sentence",
    "sentences",
    "split_sentences",
]


def parse(text: str, language: Language | None = None) -> list[Finding]:
    """Read the findings stated in a report, in the order of the text, each once.

    Args:
        text: one or more sections, headed or not.
        language: ``"en"`` or ``"zh"``; detected from the letters when None.

    Returns:
        Findings with status, regions, sizes and attributes as far as the text says them.

    Raises:
        UsageError: an unknown language.
    """
    chosen = detect_language(text) if language is None else language
    if chosen not in LANGUAGES:
        raise UsageError("language of a report", expected=" | ".join(LANGUAGES), got=str(language))
    found: dict[Finding, None] = {}
    for sentence in sentences(text, chosen):
        found.update(dict.fromkeys(parse_sentence(sentence, chosen)))
    return list(found)


@lru_cache(maxsize=65536)
def parse_sentence(sentence: str, language: Language) -> tuple[Finding, ...]:
    """Findings of one normalised sentence (see `sentences`)."""
    words = lexicon(language)
    if heading := words.cues["headings"].match(sentence):  # "LUNGS: ..." says where to look, not where something is
        sentence = sentence[heading.end() :]
    found = scan.mentions(sentence, words)
    if not found:
        return ()
    parts = scope.clauses(sentence, language, words, found)
    found = [m for m in found if not scan.veto(sentence, scope.clause_of(m, parts), m, words)]
    loose = scan.items(sentence, words, language, found)
    drafts = assemble(sentence, language, words, found, loose)
    findings = []
    for draft in drafts:
        status = scope.status_of(draft.mention, scope.clause_of(draft.mention, parts), sentence, words)
        findings.append(_finding(draft, status))
    return tuple(dict.fromkeys(findings))


def _finding(draft: Draft, status: str) -> Finding:
    size = () if status == "absent" else draft.size
    return Finding(draft.kind, status, draft.regions, size, tuple(draft.values.items()))  # type: ignore[arg-type]


def ct_rate_labels_of(findings: Iterable[Finding], *, uncertain: bool = True) -> dict[str, bool]:
    """CT-RATE's 18 labels of a list of findings, in CT-RATE's column order.

    A label is true when its kind, or a kind that implies it, is present; `uncertain` says whether an uncertain finding
    counts, as it does for the annotators of CT-RATE.
    """
    counted = ("present", "uncertain") if uncertain else ("present",)
    kinds = {f.kind for f in findings if f.status in counted}
    for kind in tuple(kinds):
        kinds.update(ontology.findings()[kind].implies)
    return {label: kind in kinds for label, kind in ontology.ct_rate_labels().items()}
