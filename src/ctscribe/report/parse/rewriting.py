"""English shorthand written out before a sentence is read: units, "R" and "L", "right > left", shared nouns, slips."""

from __future__ import annotations

import re

from ctscribe.report.parse.spelling import corrected

_THING = (
    r"(?:pleural )?effusions?|h(?:a?emo|ydro)thora(?:x|ces)|pneumothora(?:x|ces)"
    r"|(?:lung |pulmonary )?(?:nodules?|masses|mass)|consolidations?"
)
_SIDE = r"(?:right|left)(?:-sided)?"
_MORE = r"(?:(?:slightly |much )?(?:greater|larger|more|worse|bigger) than|>+)"
_AFTER_SIDE = r"pleural|lung|upper|middle|lower|hil|apex|base|effusion|pneumo|hemithorax"
_LOBE = r"(?:lobe|lung|zone)"
_ONE_LOBE = r"(?:right|left) (?:upper|middle|lower) lobe"
_SEGMENT = (
    r"(?:apical|apicoposterior|anterior|posterior|superior|lateral|medial|(?:superior|inferior) lingular"
    r"|(?:anterior|posterior|lateral|medial|anteromedial)[ -]basal)"
)
_BARE_SEGMENT = re.compile(rf"(?<!lobe )\b({_SEGMENT} segment)\b(?! of| (?:right|left))")
_STATION = r"hilar|axillary|supraclavicular|paratracheal"
_NODES = r"(?:nodes?|adenopathy|lymphadenopathy)"
_DIFFUSE = r"emphysema|scarring|fibrosis|reticulation|bronchiectasis|atelectasis|opacit(?:y|ies)"
_UNEQUAL = re.compile(rf"\b(?:right|left|r|l) ?{_MORE} ?(?:the )?(?:right|left|r|l)\b")
# (what a sentence must hold for the rule to be tried, the rule, what it writes)
_RULES = (
    ("millimet", re.compile(r"(?<=\d)[ -]*millimet(?:er|re)s?\b"), " mm"),
    ("centimet", re.compile(r"(?<=\d)[ -]*centimet(?:er|re)s?\b"), " cm"),
    ("m", re.compile(r"(?<=\d)-(?=[mc]m\b)"), " "),
    (" by ", re.compile(r"(?<=\d)(?: ?[mc]m)? by (?=\d)"), " x "),
    (
        " and ",
        re.compile(
            r"(?<![\w.])(?<!images )(?<!image )(?<!series )(?<!slice )(?<!station )(?<!segment )(?<!nodule )"
            r"(\d{1,2}(?:\.\d)?)(?=(?:, \d{1,2}(?:\.\d)?)*,? and \d{1,2}(?:\.\d)? ?([mc]m)\b)"
        ),
        r"\1 \2",
    ),
    ("r", re.compile(rf"\br(?: |\. ?)(?=(?:{_AFTER_SIDE})\w*)"), "right "),
    ("l", re.compile(rf"\bl(?: |\. ?)(?=(?:{_AFTER_SIDE})\w*)"), "left "),
    (" than ", _UNEQUAL, "bilaterally"),
    (">", _UNEQUAL, "bilaterally"),
    (" and ", re.compile(rf"\b({_SIDE}) and ((?:[a-z-]+ )?{_SIDE}) ({_THING})"), r"\1 \3 and \2 \3"),
    (", ", re.compile(rf"\b({_SIDE}), (?:and )?((?:[a-z-]+ )?{_SIDE}) ({_THING})"), r"\1 \3, \2 \3"),
    ("rul", re.compile(r"\brul\b"), "right upper lobe"),
    ("rml", re.compile(r"\brml\b"), "right middle lobe"),
    ("rll", re.compile(r"\brll\b"), "right lower lobe"),
    ("lul", re.compile(r"\blul\b"), "left upper lobe"),
    ("lll", re.compile(r"\blll\b"), "left lower lobe"),
    ("segment ", re.compile(r"\bsegment (?=(?:right|left) (?:upper|middle|lower) lobe)"), "segment of the "),
    ("eff", re.compile(r"\beffs?\b"), "effusion"),
    ("pl ", re.compile(r"\bpl (?=effusion)"), "pleural "),
    ("ptx", re.compile(r"\bptx\b"), "pneumothorax"),
    ("cac", re.compile(r"\bcacs?\b(?! score)"), "coronary artery calcification"),
    ("main pa", re.compile(r"\bmain pa\b"), "main pulmonary artery"),
    ("mpa", re.compile(r"\bmpa\b"), "main pulmonary artery"),
    ("ln", re.compile(r"\bln(s?)\b"), r"lymph node\1"),
    ("ggn", re.compile(r"\bggn(s?)\b"), r"ground-glass nodule\1"),
    (
        "effusion",
        re.compile(r"\b(heart\b(?:(?!\bpleural?\b)[^;,.]){0,40} (?:without|(?:and|with) no)) (?=(?:an? )?effusion)"),
        r"\1 pericardial ",
    ),
    ("ri", re.compile(r"\b(?:rigth|rihgt|rgiht|irght)\b"), "right"),
    ("le", re.compile(r"\b(?:letf|lfet|leftt)\b"), "left"),
    ("solid ", re.compile(r"(?<!part )(?<!part-)\bsolid (?=(?:component|portion)s?\b)"), ""),
    ("nod", re.compile(r"\bnod(s?)\b"), r"nodule\1"),
    ("cmg", re.compile(r"\bcmg\b"), "cardiomegaly"),
    ("hh", re.compile(r"\bhh\b"), "hiatal hernia"),
    ("fxs", re.compile(r"\bfxs\b"), "fractures"),
    (
        " bilateral",
        re.compile(rf"\b({_STATION}) ((?:lymph )?{_NODES})(?: (?:are|is|seen|noted|present))* bilateral(?:ly)?\b"),
        r"bilateral \1 \2",
    ),
    (
        " on the ",
        re.compile(rf"\b({_STATION}) ((?:lymph )?{_NODES})(?: (?:are|is|seen|noted|present))* on the (right|left)\b"),
        r"\3 \1 \2",
    ),
    (" segment", re.compile(rf"\b({_ONE_LOBE})(?:,| \(| -) ?(?:the )?({_SEGMENT} segment)\)?"), r"\2 of the \1"),
    (
        ", ",
        re.compile(rf"\b({_DIFFUSE}), (?:mainly |mostly |predominantly )?apical(?=$|[,;])"),
        r"\1 in both upper lobes",
    ),
    (
        ", ",
        re.compile(rf"\b({_DIFFUSE}), (?:mainly |mostly |predominantly )?(?:basal|basilar)(?=$|[,;])"),
        r"\1 in both lower lobes",
    ),
    ("nl", re.compile(r"\bnl\b"), "normal"),
    ("b/l", re.compile(r"\bb/l\b"), "bilateral"),
    ("w/o", re.compile(r"\bw/o\b"), "without"),
    ("fx", re.compile(r"\bfx\b"), "fracture"),
    ("lingular", re.compile(r"\blingular\b(?! (?:segment|bronch))"), "lingula"),
    ("lobar", re.compile(r"\b(upper|middle|lower) lobar\b"), r"\1 lobe"),
    (
        "api",
        re.compile(r"\b(right|left) apical\b(?! ?(?:and |-|/)?(?:segment|posterior|cap|lordotic))"),
        r"\1 upper lobe",
    ),
    ("bas", re.compile(r"\b(right|left) (?:lung )?bas(?:al|ilar)\b(?! ?(?:and |-|/)?segment)"), r"\1 lower lobe"),
    ("bas", re.compile(r"\bbi-?(?:basilar|basal)\b"), "bilateral lower lobe"),
    ("apical", re.compile(r"\bbi-?apical\b"), "bilateral upper lobe"),
    ("predomina", re.compile(r"\b(?:bi)?(?:basilar|basal)[- ]predomina(?:nt|nce|ntly)\b"), "bilateral lower lobe"),
    ("predomina", re.compile(r"\b(?:bi)?apical[- ]predomina(?:nt|nce|ntly)\b"), "bilateral upper lobe"),
    ("apical", re.compile(r"\bapical ((?:[a-z-]+ ){1,3})(?:bilaterally|in both lungs)\b"), r"bilateral upper lobe \1"),
    ("apical", re.compile(r"\bapical ((?:[a-z-]+ ){1,3})on the (right|left)\b"), r"\2 upper lobe \1"),
    (
        "bas",
        re.compile(r"\b(?:basal|basilar) ((?:[a-z-]+ ){1,3})(?:bilaterally|in both lungs)\b"),
        r"bilateral lower lobe \1",
    ),
    ("bas", re.compile(r"\b(?:basal|basilar) ((?:[a-z-]+ ){1,3})on the (right|left)\b"), r"\2 lower lobe \1"),
    ("r ", re.compile(r"(?<!station )(?<!\d)(\d{1,2}r)(?= (?:lymph )?(?:node|station))"), r"station \1"),
    ("l ", re.compile(r"(?<!station )(?<!\d)(\d{1,2}l)(?= (?:lymph )?(?:node|station))"), r"station \1"),
    ("level ", re.compile(r"\blevel (?=(?:\d{1,2}[rl]|7|8|9)\b)"), "station "),
    (
        " right",
        re.compile(rf"\b({_THING})(?:,|:| -) ((?:[a-z-]+ )?{_SIDE})(?:,|,? and) ((?:[a-z-]+ )?{_SIDE})(?= *$|[,;])"),
        r"\2 \1, \3 \1",
    ),
    ("predomina", re.compile(rf"\b(upper|lower)[- ]{_LOBE}s?[- ]predomina(?:nt|nce|ntly)\b"), r"bilateral \1 lobe"),
    ("er lung", re.compile(r"\b(right|left) (upper|lower) lung\b(?: fields?| zones?)?(?! lobe)"), r"\1 \2 lobe"),
    ("bases", re.compile(r"\b(?:(?:the |both )?(?:lung|pulmonary)|both|the|bilateral) bases\b"), "both lower lobes"),
    ("apices", re.compile(r"\b(?:(?:the |both )?(?:lung|pulmonary)|both|the|bilateral) apices\b"), "both upper lobes"),
    ("base", re.compile(r"\b(at|in|near) the (?:lung )?base\b(?! of)"), r"\1 the lower lobe"),
    ("apex", re.compile(r"\b(at|in|near) the (?:lung )?apex\b(?! of)"), r"\1 the upper lobe"),
    ("base", re.compile(r"\b(?:the )?(right|left) (?:lung |pulmonary )?base\b"), r"\1 lower lobe"),
    ("apex", re.compile(r"\b(?:the )?(right|left) (?:lung |pulmonary )?apex\b"), r"\1 upper lobe"),
)


def segments_in(sentence: str, lobe: str) -> str:
    """The sentence with "anterior segment" as one of `lobe`, an id such as ``right_upper_lobe``."""
    return _BARE_SEGMENT.sub(rf"\1 of the {lobe.replace('_', ' ')}", sentence)


def written_out(sentence: str) -> str:
    """An English sentence in lower case without shorthand and typing errors."""
    sentence = corrected(sentence)
    for held, rule, full in _RULES:
        if held in sentence:
            sentence = rule.sub(full, sentence)
    return sentence
