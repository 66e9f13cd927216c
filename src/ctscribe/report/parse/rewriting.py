"""English shorthand written out before a sentence is read: units, "R" and "L", "right > left", shared nouns, slips."""

from __future__ import annotations

import re

from ctscribe.report.parse.spelling import corrected

_THING = r"(?:pleural )?effusions?|pneumothora(?:x|ces)|(?:lung |pulmonary )?(?:nodules?|masses|mass)|consolidations?"
_SIDE = r"(?:right|left)(?:-sided)?"
_MORE = r"(?:(?:slightly |much )?(?:greater|larger|more|worse|bigger) than|>+)"
_RULES = (
    (re.compile(r"(?<=\d)[ -]*millimet(?:er|re)s?\b"), " mm"),
    (re.compile(r"(?<=\d)[ -]*centimet(?:er|re)s?\b"), " cm"),
    (re.compile(r"(?<=\d)-(?=[mc]m\b)"), " "),
    (re.compile(r"(?<=\d)(?: ?[mc]m)? by (?=\d)"), " x "),
    (
        re.compile(r"\br(?: |\. ?)(?=(?:pleural|lung|upper|middle|lower|hil|apex|base|effusion|pneumo|hemithorax)\w*)"),
        "right ",
    ),
    (re.compile(r"\bl(?: |\. ?)(?=(?:pleural|lung|upper|lower|hil|apex|base|effusion|pneumo|hemithorax)\w*)"), "left "),
    (re.compile(rf"\b(?:right|left|r|l) ?{_MORE} ?(?:the )?(?:right|left|r|l)\b"), "bilaterally"),
    (re.compile(rf"\b({_SIDE}) and ((?:[a-z-]+ )?{_SIDE}) ({_THING})"), r"\1 \3 and \2 \3"),
    (re.compile(r"\bbi-?(?:basilar|basal)\b"), "bilateral lower lobe"),
    (re.compile(r"\bbi-?apical\b"), "bilateral upper lobe"),
    (re.compile(r"\b(upper|lower)[- ](?:lobe|lung|zone)s?[- ]predomina(?:nt|nce|ntly)\b"), r"bilateral \1 lobe"),
    (re.compile(r"\b(right|left) (upper|lower) lung\b(?: fields?| zones?)?(?! lobe)"), r"\1 \2 lobe"),
    (re.compile(r"\b(?:the |both )?(?:lung|pulmonary) bases\b"), "both lower lobes"),
    (re.compile(r"\b(?:the |both )?(?:lung|pulmonary) apices\b"), "both upper lobes"),
    (re.compile(r"\b(?:the )?(right|left) (?:lung |pulmonary )?base\b"), r"\1 lower lobe"),
    (re.compile(r"\b(?:the )?(right|left) (?:lung |pulmonary )?apex\b"), r"\1 upper lobe"),
)


def written_out(sentence: str) -> str:
    """An English sentence in lower case without shorthand and typing errors."""
    for rule, full in _RULES:
        sentence = rule.sub(full, sentence)
    return corrected(sentence)
