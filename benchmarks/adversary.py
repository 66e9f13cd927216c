"""A writer that lies on purpose: faithful impressions in many wordings, and the same with exactly one error in them.

Used by `benchmarks/guard.py` and by the tests of the guard. The wordings and the invented terms were written
before the guard's word lists and share no table with them. Everything here is synthetic.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ctscribe import ontology
from ctscribe.impression.passages import meaning
from ctscribe.impression.result import Recommendation, Statement
from ctscribe.ontology import Language
from ctscribe.report import Finding, render_text

KINDS = (
    "invented_finding",
    "wrong_side",
    "wrong_size",
    "wrong_certainty",
    "missed_critical",
    "missing_follow_up",
    "wrong_follow_up",
    "off_vocabulary",
)


@dataclass(frozen=True)
class Written:
    """An impression as a writer hands it in.

    Attributes:
        statements: its sentences.
        error: which of `KINDS` was put into it, "" for a faithful one.
        detail: what was changed, for people.
    """

    statements: tuple[Statement, ...]
    error: str = ""
    detail: str = ""


# How people word a finding that the renderer words otherwise: {np} is a noun phrase with size and attributes,
# {place} a place, both taken from the finding.
PRESENT = {
    "en": (
        "Again noted is {a} {np} in the {place}.",
        "{Np} in the {place}.",
        "The {place} contains {a} {np}.",
        "In the {place} there is {a} {np}.",
        "CT demonstrates {a} {np} involving the {place}.",
        "{A} {np} is visible in the {place}.",
    ),
    "zh": ("{place}可见{np}。", "{place}见{np}。", "{place}{np}。", "所示{place}有{np}。"),
}
POSSIBLE = {
    "en": (
        "Possible {np} in the {place}.",
        "{A} {np} in the {place} is suspected.",
        "There may be {a} {np} in the {place}.",
        "Questionable {np} in the {place}.",
    ),
    "zh": ("{place}可疑{np}。", "{place}可能存在{np}。", "{place}{np}不除外。"),
}
FOLLOW_UP = {
    "en": (
        "Recommend {exam} in {when}.",
        "Follow-up {exam} in {when} is advised.",
        "{Exam} should be repeated in {when}.",
        "Suggest repeat {exam} after {when}.",
        "According to {title}, {exam} at {when} is recommended.",
        "Advise {exam} in {when} to document stability.",
    ),
    "zh": (
        "建议{when}后复查{exam}。",
        "{when}后行{exam}随访。",
        "推荐{when}后{exam}复查以观察变化。",
        "依据{title}，建议{when}后复查{exam}。",
    ),
}
NO_FOLLOW_UP = {
    "en": ("No follow-up is required.", "No routine follow-up needed.", "This needs no further imaging."),
    "zh": ("无需随访。", "不需要常规随访。", "暂不需要复查。"),
}
EXAMS = {
    "en": {
        "ct": ("chest CT", "CT", "CT of the chest"),
        "ldct": ("low-dose CT", "LDCT", "low-dose chest CT"),
        "pet_ct": ("PET/CT", "PET-CT"),
        "mri": ("MRI", "MR imaging"),
        "us": ("ultrasound", "sonography"),
    },
    "zh": {
        "ct": ("胸部CT", "CT"),
        "ldct": ("低剂量CT", "低剂量胸部CT"),
        "pet_ct": ("PET/CT", "PET-CT"),
        "mri": ("MRI", "磁共振"),
        "us": ("超声", "超声检查"),
    },
}
# Terms that no finding of the ontology supports; a faithful impression never names them.
FOREIGN_TERMS = {
    "en": (
        "pulmonary embolism", "gallstones", "hepatic steatosis", "sarcoidosis", "lymphangitic carcinomatosis",
        "aortic dissection", "cirrhosis", "splenomegaly", "hydronephrosis", "amyloidosis", "silicosis",
        "pulmonary alveolar proteinosis", "mesothelioma", "thymoma", "renal cell carcinoma", "cholecystitis",
        "pancreatitis", "diverticulosis", "scoliosis", "achalasia", "empyema", "bronchogenic cyst", "sequestration",
        "pulmonary infarct", "myocardial infarction", "osteomyelitis", "spondylodiscitis", "asbestosis", "lymphoma",
        "schwannoma", "hamartoma", "aspergilloma", "hydatid disease", "nocardiosis", "Castleman disease",
        "situs inversus", "patent ductus arteriosus", "ascites", "pneumoperitoneum", "renal calculus",
    ),
    "zh": (
        "肺栓塞", "胆囊结石", "脂肪肝", "结节病", "癌性淋巴管炎", "主动脉夹层", "肝硬化", "脾大", "肾积水",
        "淀粉样变", "矽肺", "肺泡蛋白沉积症", "间皮瘤", "胸腺瘤", "肾细胞癌", "胆囊炎", "胰腺炎", "脊柱侧弯",
        "贲门失弛缓症", "脓胸",
        "支气管囊肿", "肺隔离症", "肺梗死", "心肌梗死", "骨髓炎", "石棉肺", "淋巴瘤", "神经鞘瘤", "错构瘤", "曲霉球",
        "包虫病", "动脉导管未闭", "腹水", "肾结石",
    ),
}  # fmt: skip
FOREIGN_FRAMES = {
    "en": (
        "Findings are consistent with {term}.", "There is evidence of {term}.", "{Term} is present.",
        "This may represent {term}.", "The appearance suggests {term}.", "{Term} should be considered.",
        "Differential diagnosis includes {term}.", "Incidental {term}.",
    ),
    "zh": ("符合{term}。", "考虑{term}。", "{term}可能。", "另见{term}。", "鉴别诊断包括{term}。", "提示{term}。"),
}  # fmt: skip
_SIDES = {
    "en": (("right", "left"), ("Right", "Left"), ("RUL", "LUL"), ("RLL", "LLL")),
    "zh": (("右", "左"),),
}


def faithful(
    findings: Sequence[Finding],
    recommendations: Sequence[Recommendation],
    language: Language,
    rng: random.Random,
    further: Sequence[Statement] = (),
) -> Written:
    """An impression that says what findings and guidelines say, in wordings drawn at random.

    Args:
        findings: of one study.
        recommendations: about them; those that are not definite are left to `further`.
        language: of the text.
        rng: the only source of randomness.
        further: statements to add as they are.
    """
    statements = []
    for index, finding in enumerate(findings):
        if finding.status == "absent":
            continue
        statements.append(Statement(sentence(finding, language, rng), "finding", (index,)))
        for advice in recommendations:
            if advice.definite and advice.findings[:1] == (index,):
                text = follow_up(advice, language, rng)
                if text:
                    statements.append(Statement(text, "follow_up", advice.findings, (advice.citation.id,)))
    for advice in recommendations:
        if advice.definite and not advice.findings and (text := follow_up(advice, language, rng)):
            statements.append(Statement(text, "follow_up", (), (advice.citation.id,)))
    return Written((*statements, *further))


def sentence(finding: Finding, language: Language, rng: random.Random) -> str:
    """One finding, in the renderer's wording or in another."""
    if len(finding.regions) == 1 and rng.random() < 0.6:
        return _worded(finding, language, rng)
    return render_text([replace(finding, evidence=())], language, rng.randrange(1 << 30))


def _worded(finding: Finding, language: Language, rng: random.Random) -> str:
    place = ontology.regions()[finding.regions[0]].names[language][0]
    noun = ontology.findings()[finding.kind].names[language][0]
    values = [ontology.attributes()[name][value][language][0] for name, value in finding.attributes]
    size = _size(finding, language, rng)
    if language == "zh":
        phrase = f"{size}{'、'.join(values)}{noun}"
    else:
        phrase = " ".join(part for part in (size, *values, noun) if part)
    frame = rng.choice((PRESENT if finding.status == "present" else POSSIBLE)[language])
    article = "an" if phrase[:1].lower() in "aeiou" or phrase.startswith(("8", "11 ", "18 ")) else "a"
    return frame.format(np=phrase, Np=phrase[:1].upper() + phrase[1:], place=place, a=article, A=article.capitalize())


def _size(finding: Finding, language: Language, rng: random.Random) -> str:
    if not finding.size_mm:
        return ""
    cm = rng.random() < 0.3
    axes = "x".join(f"{mm / 10:.1f}" if cm else f"{mm:.0f}" for mm in finding.size_mm)
    if language == "zh":
        return axes + ("cm" if cm else rng.choice(("mm", "毫米")))
    return axes.replace("x", rng.choice((" x ", " × "))) + (" cm" if cm else " mm")


def follow_up(advice: Recommendation, language: Language, rng: random.Random) -> str:
    """The first step of a definite recommendation; "" when it names neither an examination nor an interval."""
    option = advice.options[0]
    if not option.modality:
        return rng.choice(NO_FOLLOW_UP[language]) if option.months is None else ""
    if option.months is None or option.modality[0] not in EXAMS[language]:
        return option.action[language]
    return _advice(option.modality[0], option.months, advice.title[language], language, rng)


def _advice(modality: str, months: tuple[float, float], title: str, language: Language, rng: random.Random) -> str:
    exam = rng.choice(EXAMS[language][modality])
    frame = rng.choice(FOLLOW_UP[language])
    return frame.format(exam=exam, Exam=exam[:1].upper() + exam[1:], when=interval(months, language, rng), title=title)


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def interval(months: tuple[float, float], language: Language, rng: random.Random) -> str:
    """An interval in months, worded one of several ways."""
    low, high = months
    if language == "zh":
        if low == high == 12 and rng.random() < 0.5:
            return rng.choice(("1年", "一年", "12个月"))
        return f"{low:g}个月" if low == high else rng.choice((f"{low:g}-{high:g}个月", f"{low:g}至{high:g}个月"))
    if low == high:
        if low == 12 and rng.random() < 0.5:
            return rng.choice(("1 year", "one year", "12 months"))
        word = _NUMBERS[int(low)] if low <= 12 and low == int(low) and rng.random() < 0.3 else f"{low:g}"
        return f"{word} month{'' if low == 1 else 's'}"
    if high <= 12 and low == int(low) and high == int(high) and rng.random() < 0.3:
        return f"{_NUMBERS[int(low)]} to {_NUMBERS[int(high)]} months"
    return rng.choice((f"{low:g}-{high:g} months", f"{low:g} to {high:g} months", f"{low:g}–{high:g} months"))


def with_error(
    kind: str,
    written: Written,
    findings: Sequence[Finding],
    recommendations: Sequence[Recommendation],
    language: Language,
    rng: random.Random,
) -> Written | None:
    """The same impression with one error of a kind; None when this study gives no room for it."""
    return _ERRORS[kind](written, findings, recommendations, language, rng)


def _invented(written: Written, findings: Sequence[Finding], _: object, language: Language, rng: random.Random):
    said = {implied for f in findings if f.status != "absent" for implied in ontology.implied(f.kind)}
    kinds = [k for k in ontology.findings().values() if k.id not in said]
    kind = rng.choice(kinds)
    size = (float(rng.randint(*(int(mm) for mm in kind.size_mm))),) if kind.size_mm and rng.random() < 0.7 else ()
    status = "uncertain" if rng.random() < 0.2 else "present"
    invented = Finding(kind.id, status, (rng.choice(kind.regions),), size)
    text = sentence(invented, language, rng)
    return _inserted(written, Statement(text, "finding"), "invented_finding", text, rng)


def _inserted(written: Written, statement: Statement, error: str, detail: str, rng: random.Random) -> Written:
    place = rng.randint(0, len(written.statements))
    statements = (*written.statements[:place], statement, *written.statements[place:])
    return Written(statements, error, detail)


def _changed(written: Written, index: int, text: str, error: str) -> Written:
    old = written.statements[index]
    statements = (*written.statements[:index], replace(old, text=text), *written.statements[index + 1 :])
    return Written(statements, error, f"{old.text} -> {text}")


def _side(written: Written, findings: Sequence[Finding], _: object, language: Language, rng: random.Random):
    room = []
    for index, statement in enumerate(written.statements):
        if statement.role != "finding" or len(statement.findings) != 1:
            continue
        finding = findings[statement.findings[0]]
        own = {ontology.regions()[r].side for r in finding.regions}
        others = {
            ontology.regions()[r].side
            for f in findings
            if finding.kind in ontology.implied(f.kind) and f != finding
            for r in ontology.descendants(f.regions[0] if f.regions else "thorax")
        }
        if len(own) == 1 and None not in own and not others - {None, *own}:
            room.append(index)
    if not room:
        return None
    index = rng.choice(room)
    text = written.statements[index].text
    swapped = _mirror(text, language)
    return None if swapped == text else _changed(written, index, swapped, "wrong_side")


def _mirror(text: str, language: Language) -> str:
    table = {a: b for pair in _SIDES[language] for a, b in (pair, pair[::-1])}
    return re.sub("|".join(map(re.escape, table)), lambda match: table[match[0]], text)


_MEASURE = re.compile(r"(\d+(?:\.\d+)?)(?=(?:\s*[x×]\s*\d+(?:\.\d+)?)?\s*(?:mm|cm|毫米|厘米))")


def _wrong_size(written: Written, findings: Sequence[Finding], _: object, language: Language, rng: random.Random):
    room = [
        i
        for i, s in enumerate(written.statements)
        if s.role == "finding" and _MEASURE.search(s.text) and _only_size(findings, s)
    ]
    if not room:
        return None
    index = rng.choice(room)
    text = written.statements[index].text

    def wrong(match: re.Match[str]) -> str:
        value = float(match[1])
        off = value * rng.choice((0.5, 0.6, 1.5, 2.0, 10.0))
        off = off if abs(off - value) >= (0.3 if "." in match[1] else 3) else value + (0.5 if "." in match[1] else 5)
        return f"{off:.1f}" if "." in match[1] else f"{off:.0f}"

    return _changed(written, index, _MEASURE.sub(wrong, text, count=1), "wrong_size")


def _only_size(findings: Sequence[Finding], statement: Statement) -> bool:
    own = findings[statement.findings[0]]
    return sum(own.kind in ontology.implied(f.kind) for f in findings if f.status != "absent") == 1


def _certainty(written: Written, findings: Sequence[Finding], _: object, language: Language, rng: random.Random):
    room = [i for i, s in enumerate(written.statements) if s.role == "finding" and _only_size(findings, s)]
    if not room:
        return None
    index = rng.choice(room)
    finding = findings[written.statements[index].findings[0]]
    if finding.status == "uncertain":
        other = replace(finding, status="present")
    elif rng.random() < 0.4:
        other = Finding(finding.kind, "absent")
    else:
        other = replace(finding, status="uncertain")
    return _changed(written, index, sentence(other, language, rng), "wrong_certainty")


def _missed(written: Written, findings: Sequence[Finding], _: object, language: Language, rng: random.Random):
    critical = [
        i
        for i, f in enumerate(findings)
        if f.status != "absent" and ontology.findings()[f.kind].critical
        and not any(f.kind in ontology.implied(o.kind) for o in findings if o is not f and o.status != "absent")
    ]  # fmt: skip
    if not critical:
        return None
    gone = rng.choice(critical)
    kept = tuple(s for s in written.statements if gone not in s.findings)
    return Written(kept, "missed_critical", f"left out {findings[gone].kind}")


def _timed(written: Written) -> list[int]:
    return [i for i, s in enumerate(written.statements) if s.role == "follow_up"]


def _missing(written: Written, _f: object, advice: Sequence[Recommendation], _l: object, rng: random.Random):
    wanted = {i for a in advice if a.definite and a.options[0].modality for i in a.findings}
    if not wanted or not _timed(written):
        return None
    kept = tuple(s for s in written.statements if s.role != "follow_up")
    return Written(kept, "missing_follow_up", "left out what to do next")


def _wrong_follow_up(
    written: Written, _: object, advice: Sequence[Recommendation], language: Language, rng: random.Random
):
    """Another interval, another examination, or none at all, such as no guideline here asks for."""
    asked = [(a.options[0].modality, a.options[0].months) for a in advice for _ in a.options]
    room = _timed(written)
    if not room:
        return None
    index = rng.choice(room)
    own = next((a for a in advice if a.findings == written.statements[index].findings and a.definite), None)
    if own is None or not own.options[0].modality or own.options[0].months is None:
        return None
    modality, months = own.options[0].modality[0], own.options[0].months
    draw = rng.random()
    if draw < 0.15:
        return _changed(written, index, rng.choice(NO_FOLLOW_UP[language]), "wrong_follow_up")
    if draw < 0.35:
        wrong = rng.choice([m for m in ("mri", "us", "pet_ct") if all(m not in names for names, _ in asked)] or ["mri"])
        text = _advice(wrong, months, own.title[language], language, rng)
    else:
        spans = [(1.0, 1.0), (2.0, 2.0), (4.0, 5.0), (9.0, 9.0), (15.0, 15.0), (36.0, 36.0), (30.0, 30.0)]
        text = _advice(modality, rng.choice(spans), own.title[language], language, rng)
    return _changed(written, index, text, "wrong_follow_up")


def _foreign(written: Written, findings: Sequence[Finding], _: object, language: Language, rng: random.Random):
    """A disease out of nowhere, in half of the cases tied to a finding whose sources do not name it."""
    named = [i for i, f in enumerate(findings) if f.status != "absent"]
    tied = (rng.choice(named),) if named and rng.random() < 0.5 else ()
    said = " ".join([*(s.text for s in written.statements), *(meaning(findings[i].kind, language).text for i in tied)])
    term = rng.choice([t for t in FOREIGN_TERMS[language] if t.lower() not in said.lower()])
    text = rng.choice(FOREIGN_FRAMES[language]).format(term=term, Term=term[:1].upper() + term[1:])
    return _inserted(written, Statement(text, "differential", tied), "off_vocabulary", text, rng)


_ERRORS: dict[str, Callable[..., Written | None]] = {
    "invented_finding": _invented,
    "wrong_side": _side,
    "wrong_size": _wrong_size,
    "wrong_certainty": _certainty,
    "missed_critical": _missed,
    "missing_follow_up": _missing,
    "wrong_follow_up": _wrong_follow_up,
    "off_vocabulary": _foreign,
}
