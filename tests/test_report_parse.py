"""Free text -> findings: negation, uncertainty, laterality, sizes, lists, headings, typing errors of form."""

from __future__ import annotations

import re

import pytest

from ctscribe import ontology
from ctscribe.report import Finding
from ctscribe.report.parse import ct_rate_labels_of, detect_language, parse, patterns
from ctscribe.report.parse.lexicon import reading
from ctscribe.report.parse.patterns import Cue, Name, Words, masked, pattern


def said(finding: Finding) -> str:
    """A finding in one line: ``kind status regions size attributes``, empty parts left out."""
    mark = {"present": "+", "absent": "-", "uncertain": "?"}[finding.status]
    size = "x".join(f"{axis:g}" for axis in finding.size_mm)
    only = ontology.findings()[finding.kind].only_place
    regions = "" if finding.regions == (only,) else ",".join(finding.regions)
    attributes = ",".join(value for _, value in finding.attributes)
    return " ".join(part for part in (mark + finding.kind, regions, size, attributes) if part)


ENGLISH = {
    # negation and its reach
    "No pleural effusion or pneumothorax.": ["-pleural_effusion", "-pneumothorax"],
    "Pleural effusion was not detected.": ["-pleural_effusion"],
    "No pleural or pericardial effusion.": ["-pleural_effusion", "-pericardial_effusion"],
    "There is no evidence of consolidation, but there is mild emphysema.": ["-consolidation", "+emphysema mild"],
    "The heart is normal in size and there is no pericardial effusion.": ["-cardiomegaly", "-pericardial_effusion"],
    "Consolidation is seen in the right lower lobe, and no pleural effusion is present.": [
        "+consolidation right_lower_lobe",
        "-pleural_effusion",
    ],
    "The previously described nodule has resolved.": ["-lung_nodule"],
    "Without pneumothorax.": ["-pneumothorax"],
    "Pleural effusion: none.": ["-pleural_effusion"],
    # words that look negative but deny nothing
    "No significant change in the 8 mm nodule in the left upper lobe.": ["+lung_nodule left_upper_lobe 8"],
    "Pleural effusion has not changed.": ["+pleural_effusion"],
    # uncertainty
    "Possible small left pneumothorax.": ["?pneumothorax left_pleura small"],
    "Consolidation in the lingula cannot be excluded.": ["?consolidation lingula"],
    "Findings suspicious for lymphadenopathy.": ["?lymphadenopathy"],
    "Ground-glass opacity (infection?) in the right upper lobe.": ["+ground_glass_opacity right_upper_lobe"],
    # laterality and elliptic places
    "Patchy consolidation in the right upper and lower lobes.": [
        "+consolidation right_upper_lobe,right_lower_lobe patchy"
    ],
    "Ground-glass opacities in the upper lobes of both lungs.": [
        "+ground_glass_opacity right_upper_lobe,left_upper_lobe"
    ],
    "Bilateral pleural effusions, larger on the right.": ["+pleural_effusion right_pleura,left_pleura"],
    "Left lung lower lobe consolidation.": ["+consolidation left_lower_lobe"],
    "RUL nodule.": ["+lung_nodule right_upper_lobe"],
    "Linear atelectasis in the middle lobe.": ["+atelectasis right_middle_lobe linear"],
    "Bilateral hilar lymphadenopathy.": ["+lymphadenopathy right_hilum,left_hilum"],
    # sizes
    "A 1.2 x 0.9 cm spiculated nodule in the left lower lobe.": ["+lung_nodule left_lower_lobe 12x9 spiculated"],
    "Nodule in the right lower lobe measuring 7 mm (previously 5 mm).": ["+lung_nodule right_lower_lobe 7"],
    "A mass of 45 mm x 30 mm x 28 mm is seen in the right upper lobe.": ["+mass right_upper_lobe 45x30"],
    "The main pulmonary artery is dilated, measuring 34 mm.": ["+enlarged_pulmonary_artery 34"],
    # several findings in one sentence
    "Cardiomegaly and a small pericardial effusion are seen.": ["+cardiomegaly", "+pericardial_effusion small"],
    "Consolidation and ground-glass opacity are seen in the left lower lobe.": [
        "+consolidation left_lower_lobe",
        "+ground_glass_opacity left_lower_lobe",
    ],
    "In the right upper lobe, there is a 9 mm nodule; mild emphysema in both lungs.": [
        "+lung_nodule right_upper_lobe 9",
        "+emphysema lungs mild",
    ],
    "Calcified plaques are seen in the aorta and the coronary arteries.": [
        "+arterial_wall_calcification",
        "+coronary_artery_wall_calcification",
    ],
    # other organs are not the lungs
    "There is a 15 mm hypodense nodule in the right lobe of the thyroid.": ["+thyroid_nodule 15"],
    "No mass in the liver.": [],
    "A 9 mm cyst in the liver.": ["+hepatic_cyst 9"],
    # headings and lists
    "LUNGS: No nodule. HEART: Mildly enlarged heart.": ["-lung_nodule", "+cardiomegaly mild"],
    "1. Small right pleural effusion\n2. Moderate hiatal hernia": [
        "+pleural_effusion right_pleura small",
        "+hiatal_hernia moderate",
    ],
    "- Honeycombing in both lungs\n- Tree-in-bud opacities in the RML": [
        "+honeycombing lungs",
        "+tree_in_bud right_middle_lobe",
    ],
    # form
    "there  is a   GROUND GLASS  nodule in the right upper lobe": ["+lung_nodule right_upper_lobe ground_glass"],
    "Port catheter in the chest wall.": ["+medical_material chest_wall port_catheter"],
    "": [],
    "Normal chest.": [],
}

CHINESE = {
    "双肺未见实变、肿块及结节。": ["-consolidation", "-mass", "-lung_nodule"],
    "右肺上叶见一枚实性结节,大小约12×9 mm,边缘毛刺。": ["+lung_nodule right_upper_lobe 12x9 solid,spiculated,single"],
    "右肺上叶见一枚实性结节,大小约1.2cm×0.9cm,边缘毛刺。": [
        "+lung_nodule right_upper_lobe 12x9 solid,spiculated,single"
    ],
    "左侧胸腔见少量积液,右侧胸腔未见积液。": ["+pleural_effusion left_pleura small", "-pleural_effusion right_pleura"],
    "心影不大,心包未见积液。": ["-cardiomegaly", "-pericardial_effusion"],
    "双侧胸腔积液。": ["+pleural_effusion right_pleura,left_pleura"],
    "右肺下叶肺炎待排,实变影不除外。": ["?consolidation"],
    "两肺散在多发小结节,较大者位于左肺下叶,直径约6毫米。": ["+lung_nodule lungs 6 multiple"],
    "双肺下叶见斑片状磨玻璃影。": ["+ground_glass_opacity right_lower_lobe,left_lower_lobe patchy"],
    "右肺上、中叶见纤维条索影。": ["+pulmonary_fibrotic_sequela right_upper_lobe,right_middle_lobe"],
    "纵隔内未见明显肿大淋巴结。": ["-lymphadenopathy"],
    "主动脉及冠状动脉壁钙化。": ["+arterial_wall_calcification", "+coronary_artery_wall_calcification"],
    "双肺纹理增多,见多发结节。": ["+lung_nodule lungs multiple"],
    "考虑左侧少量气胸可能。": ["?pneumothorax left_pleura small"],
    "肝脏见囊肿,直径约15mm。": ["+hepatic_cyst 15"],
    "甲状腺左叶见低密度结节,大小约8mm。": ["+thyroid_nodule 8"],
    "左肺上叶舌段见线状肺不张。": ["+atelectasis lingula linear"],
    "双肺支气管壁增厚,部分支气管柱状扩张。": ["+peribronchial_thickening lungs", "+bronchiectasis cylindrical"],
    "胸部:未见气胸": ["-pneumothorax"],
    "": [],
    "胸部CT未见异常。": [],
}


@pytest.mark.parametrize(("text", "expected"), ENGLISH.items(), ids=str)
def test_english(text, expected):
    assert [said(f) for f in parse(text, "en")] == expected


@pytest.mark.parametrize(("text", "expected"), CHINESE.items(), ids=str)
def test_chinese(text, expected):
    assert [said(f) for f in parse(text, "zh")] == expected


def test_the_language_is_detected():
    assert detect_language("未见气胸 (CT)") == "zh"
    assert detect_language("No pneumothorax.") == "en"
    assert parse("未见气胸") == parse("No pneumothorax.")


def test_full_width_and_half_width_read_the_same():
    assert parse("右肺上叶见结节,直径约8mm。") == parse("右肺上叶见结节,直径约8mm.", "zh") != []


def test_labels_follow_what_a_finding_implies():
    labels = ct_rate_labels_of(parse("Ground-glass opacity in both lungs. No pleural effusion. Possible emphysema."))
    assert list(labels) == list(ontology.ct_rate_labels())
    assert [label for label, value in labels.items() if value] == ["Emphysema", "Lung opacity"]
    strict = ct_rate_labels_of([Finding("emphysema", "uncertain")], uncertain=False)
    assert not any(strict.values())


def test_a_cue_is_found_where_its_whole_expression_is() -> None:
    """Cues are searched for one by one, and only where their literals are; the answer is that of all together."""
    whole = reading("en")
    sides = [whole[part][side] for part in ("negation", "mute", "uncertainty") for side in ("before", "after")]
    texts = [
        "", "?", ": none", " is not", " isn't seen", "no ", "history of ", " cannot be excluded", " vs", "node",
        " was not observed on this scan", " had resolved", "without any evidence of ", "favoring ",
    ]  # fmt: skip
    for regexes in sides:
        cue, expression = Cue(regexes), re.compile("|".join(f"(?:{regex})" for regex in regexes))
        for text in texts:
            assert cue.search(text) == bool(expression.search(text)), (text, regexes)
            assert cue.masked(text) == masked(expression, text)


def test_words_that_call_nothing_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_REMEMBERED", 3)
    words = Words([pattern("stone", r"\bstones?\b"), Name("cold", "ice cold", whole_words=True)])
    found = [[means for means, _ in words.hits(f"word{i} milestone stones ice-cold")] for i in range(20)]
    assert found == [["stone", "cold"]] * 20
    assert len(words._silent) <= 3
