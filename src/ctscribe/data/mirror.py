"""The mirror image of a study, with right and left exchanged wherever they are said: masks, boxes, findings, words.

A chest is not symmetrical: heart and aortic arch lie left, the right lung has a middle lobe where the left one has the
lingula. A mirrored study is therefore a chest that hardly exists, and is off by default. It is made only when nothing
in the report would lie: a text that names a structure bound to its side (a ventricle, the liver, the arch) and findings
in a segment that the other side lacks leave the study as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ctscribe import ontology
from ctscribe.data.batch import Sample
from ctscribe.ontology import Language
from ctscribe.report import Finding

_PAIRS_OF_ITS_OWN = {"right_middle_lobe": "lingula", "lingula": "right_middle_lobe"}
_PREFIX = {"right_": "left_", "left_": "right_", "rul_": "lul_", "lul_": "rul_", "rll_": "lll_", "lll_": "rll_"}
_MERGED = {"right_middle_lobe": "left_upper_lobe"}
"""Masks: the mirrored middle lobe becomes part of a left upper lobe, and the mirror image has no middle lobe."""

_BOUND = {
    "en": re.compile(
        r"\batri|ventric|descending|circumflex|\barch\b|situs|dextro|laevo|levo|azygos|hepat|liver|spleen|splenic|stomach"
        r"|gastric|gallbladder|cholecyst|laryngeal|aberrant|(?<!lingular )\bsegments?\b|subclavian|innominate"
        r"|brachiocephalic|apex of the heart",
        re.IGNORECASE,
    ),
    "zh": re.compile(
        r"心房|心室|前降支|回旋支|主动脉弓|反位|右位|奇静脉|肝|脾|胃|胆"
        r"|喉返|锁骨下动脉|头臂|心尖|[尖前后背外内基]段|基底段"
    ),
}
_ENGLISH = re.compile(
    r"\b(?:right\s+)?middle\s+lobe\b|\b(?:left\s+upper\s+lobe\s+)?lingula(?:r\s+segment)?\b|\bright\b|\bleft\b"
    r"|\b[RL][UL]L\b|\bRML\b|\b(?P<station>2|4|10|11|12|13|14)(?P<side>[RL])\b",
    re.IGNORECASE,
)
_CHINESE = re.compile(r"左右|右(?:侧)?肺中叶|右中叶|左(?:侧)?肺(?:上叶)?舌(?:段|叶)|[左右]")


@dataclass(frozen=True)
class Mirror:
    """A transform: the mirror image of some studies.

    Attributes:
        chance: share of the studies that are mirrored where that is possible; 0, the default, mirrors none.
    """

    chance: float = 0.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return mirror(sample) if rng.random() < self.chance and mirrorable(sample) else sample


def mirrorable(sample: Sample) -> bool:
    """True when the mirror image can be described by exchanging right and left."""
    if sample.text and (sample.language not in _BOUND or _BOUND[sample.language].search(sample.text)):
        return False
    regions = {region for finding in sample.findings or () for region in finding.regions}
    kinds = {finding.kind for finding in sample.findings or () if finding.status != "absent"}
    bound = any(ontology.findings()[kind].section == "abdomen" for kind in kinds)
    return not bound and all(_other(region) is not None for region in regions)


def mirror(sample: Sample) -> Sample:
    """Exchange right and left in everything a study holds; ask `mirrorable` first."""
    occupancy, present = _regions(sample.occupancy[..., ::-1], sample.present)
    return replace(
        sample,
        hu=np.ascontiguousarray(sample.hu[..., ::-1]),
        occupancy=occupancy,
        present=present,
        findings=None if sample.findings is None else tuple(mirror_finding(finding) for finding in sample.findings),
        dense=_flipped(sample.dense),
        valid=_flipped(sample.valid),
        lesions=_flipped(sample.lesions),
        boxes=None if sample.boxes is None else _boxes(sample.boxes),
        outlines=None if sample.outlines is None else sample.outlines.mirrored(),
        text=None if sample.text is None else mirror_text(sample.text, "zh" if sample.language == "zh" else "en"),
    )


def mirror_finding(finding: Finding) -> Finding:
    """The finding on the other side; regions without a side stay. Evidence points to the old place: it is dropped."""
    regions = tuple(_other(region) or region for region in finding.regions)
    return replace(finding, regions=regions, evidence=())


def mirror_text(text: str, language: Language) -> str:
    """The words exchanged: sides, lobes, abbreviations, nodal stations; "左右", which means "about", stays."""
    if language == "zh":
        return _CHINESE.sub(_chinese, text)
    return _ENGLISH.sub(_english, text)


def _english(match: re.Match[str]) -> str:
    word = match[0]
    if match["station"]:
        return match["station"] + ("L" if match["side"].upper() == "R" else "R")
    plain = " ".join(word.lower().split())
    if plain.endswith("middle lobe") or plain == "rml":
        other = "lingula"
    elif "lingula" in plain:
        other = "right middle lobe"
    elif len(plain) == 3:
        return ("L" if plain[0] == "r" else "R") + word[1:]
    else:
        other = "left" if plain == "right" else "right"
    return other.capitalize() if word[0].isupper() else other


def _chinese(match: re.Match[str]) -> str:
    word = match[0]
    if word == "左右":
        return word
    if "中叶" in word:
        return "左肺上叶舌段"
    if "舌" in word:
        return "右肺中叶"
    return "左" if word == "右" else "右"


@cache
def _other(region: str) -> str | None:
    """The region on the other side; itself where it has no side; None where the other side has nothing like it."""
    if ontology.regions()[region].side is None:
        return region
    if region in _PAIRS_OF_ITS_OWN:
        return _PAIRS_OF_ITS_OWN[region]
    for prefix, other in _PREFIX.items():
        if region.startswith(prefix):
            name = other + region.removeprefix(prefix)
            return name if name in ontology.regions() else None
    return None


def _regions(flipped: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks under the names of the other side."""
    names = ontology.model_regions()
    occupancy, there = np.zeros_like(flipped), np.zeros_like(present)
    for row, name in enumerate(names):
        other = _MERGED.get(name) or _other(name)
        if other in names:
            target = names.index(other)
            joined = occupancy[target].astype(np.uint16) + flipped[row]
            occupancy[target] = np.minimum(joined, 255).astype(flipped.dtype)
            there[target] |= present[row]
    return occupancy, there


def _flipped(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.ascontiguousarray(array[..., ::-1])


def _boxes(boxes: np.ndarray) -> np.ndarray:
    """x of low and high corner change places and sign; boxes are given from the middle of the grid."""
    turned = boxes.copy()
    turned[:, 2], turned[:, 5] = -boxes[:, 5], -boxes[:, 2]
    return turned
