"""Recommendations as sentences, English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe.impression.result import Option, Recommendation
from ctscribe.ontology import Language

MOST_OPTIONS = 4
MOST_LETTERS = 200
"""With more options than this, or longer conditions, a sentence names the facts that decide instead of every option."""


def sentence(recommendation: Recommendation, language: Language) -> str:
    """What a recommendation says, in one sentence that names its guideline and every proviso.

    It names nothing as present: `ctscribe.report.parse` reads no finding out of it.
    """
    words = phrases()[language]
    options = _merged(recommendation.options, language)
    title = recommendation.title[language]
    if not recommendation.options:
        key = "no_row" if recommendation.about_the_table else "outside"
        return words[key].format(title=title, why=recommendation.rationale[language])
    category = options[0].category_name[language] if recommendation.category else ""
    head = words["category"].format(title=title, category=category) if category else title
    if recommendation.provisos[language]:
        head += words["proviso"].format(provisos=recommendation.provisos[language])
    if len(options) > MOST_OPTIONS or sum(len(o.condition["en"]) for o in options) > MOST_LETTERS:
        asked = words["comma"].join(dict.fromkeys(need.question[language] for need in recommendation.deciding))
        body = words["depends"].format(asked=asked)
    else:
        shown = [_option(option, language, bool(category)) for option in options]
        body = words["semicolon"].join(shown)
    tail = "" if recommendation.verified else words["unverified"]
    return words["sentence"].format(head=head, body=body + tail)


def _option(option: Option, language: Language, category_said: bool) -> str:
    words = phrases()[language]
    text = option.action[language]
    if option.category and not category_said and option.condition[language]:
        text = words["option_category"].format(category=option.category_name[language], action=text)
    if option.condition[language]:
        text = words["option"].format(condition=option.condition[language], action=text)
    return text


def _merged(options: tuple[Option, ...], language: Language) -> tuple[Option, ...]:
    """Options that ask for the same are one; a category that differs then goes unsaid."""
    if len({option.action[language] for option in options}) != 1 or len(options) == 1:
        return options
    nothing: Mapping[str, str] = {"en": "", "zh": ""}
    return (replace(options[0], condition=nothing, category="", category_name=nothing),)


@cache
def phrases() -> Mapping[str, Any]:
    """Sentence frames per language, from ``phrases.yaml``."""
    return yaml.safe_load((files(__package__) / "phrases.yaml").read_text(encoding="utf-8"))
