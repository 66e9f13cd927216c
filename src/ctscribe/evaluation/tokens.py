"""Text to tokens: the convention that every n-gram metric depends on."""

from __future__ import annotations

from ctscribe.ontology import Language


def tokenise(text: str, language: Language) -> tuple[str, ...]:
    """Placeholder until the conventions are in."""
    return tuple(text.lower().split()) if language == "en" else tuple(text)
