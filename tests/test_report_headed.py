"""Laws of headed and terse reports: sizes in a row, nouns with adjectives, advice, summaries."""

from __future__ import annotations

import pytest

from ctscribe.report import Finding
from ctscribe.report.parse import parse


def said(text: str) -> list[str]:
    """Findings of an English text in one line each: ``+kind regions size``."""
    mark = {"present": "+", "absent": "-", "uncertain": "?"}
    lines = []
    for f in parse(text, "en"):
        size = "x".join(f"{axis:g}" for axis in f.size_mm)
        lines.append(" ".join(part for part in (mark[f.status] + f.kind, ",".join(f.regions), size) if part))
    return lines


@pytest.mark.parametrize(
    "words",
    [
        "Two nodules measuring 4 mm and 6 mm in the right upper lobe.",
        "Two right upper lobe nodules, 4 and 6 mm.",
        "4 mm and 6 mm nodules in the right upper lobe.",
        "A 4 mm and a 6 mm nodule in the right upper lobe.",
        "In the right upper lobe there are nodules of 0.4 and 0.6 cm.",
    ],
)
def test_sizes_in_a_row_are_findings_of_their_own(words: str) -> None:
    assert said(words) == ["+lung_nodule right_upper_lobe 4", "+lung_nodule right_upper_lobe 6"]


@pytest.mark.parametrize(
    "words",
    [
        "Nodules of 4 and 6 mm in the right upper and left lower lobes respectively.",
        "4 mm and 6 mm nodules in the RUL and LLL.",
        "A 4 mm RUL and a 6 mm LLL nodule.",
        "Nodules in the right upper lobe (4 mm) and left lower lobe (6 mm).",
    ],
)
def test_as_many_places_as_sizes_are_matched_in_order(words: str) -> None:
    assert said(words) == ["+lung_nodule right_upper_lobe 4", "+lung_nodule left_lower_lobe 6"]


def test_two_sizes_of_one_thing_stay_one() -> None:
    assert said("A nodule measuring 12 mm and 9 mm in two planes.") == ["+lung_nodule 12"]


@pytest.mark.parametrize(
    ("noun", "adjective", "finding"),
    [
        ("heart", "enlarged", "+cardiomegaly heart"),
        ("heart", "mildly enlarged", "+cardiomegaly heart"),
        ("heart size", "increased", "+cardiomegaly heart"),
        ("heart", "not enlarged", "-cardiomegaly heart"),
        ("heart", "nonenlarged", "-cardiomegaly heart"),
        ("aorta", "dilated, 4.2 cm", "+aortic_aneurysm aorta 42"),
        ("aorta", "ectatic, 4.1 cm", "+aortic_aneurysm aorta 41"),
        ("aorta", "not aneurysmal", "-aortic_aneurysm aorta"),
        ("pulmonary artery", "enlarged, 3.4 cm", "+enlarged_pulmonary_artery pulmonary_artery 34"),
        ("pulmonary artery", "not dilated", "-enlarged_pulmonary_artery pulmonary_artery"),
        ("trachea", "patent", "-airway_stenosis"),
    ],
)
def test_a_noun_and_its_adjective_say_the_same_in_every_form(noun: str, adjective: str, finding: str) -> None:
    forms = (
        f"{noun}: {adjective}",
        f"{noun}, {adjective}.",
        f"{noun} is {adjective}.",
        f"{noun.upper()}: [{adjective}]",
    )
    kind = finding.split()[0]
    size = finding.split()[-1] if finding[-1].isdigit() else ""
    for form in forms:
        (line,) = said(form.capitalize() if form[0].islower() else form)
        assert (line.split()[0], line.split()[-1] if size else "") == (kind, size), form


def test_advice_states_nothing() -> None:
    for advice in (
        "Recommend PET/CT to exclude a mass.",
        "Consider short-term follow-up CT of the nodule.",
        "Follow-up to document resolution of the consolidation.",
        "Repeat radiograph to exclude pneumothorax is recommended.",
    ):
        assert said(advice) == []
    assert said("Consider atelectasis.") != []


def test_a_size_that_is_named_again_is_the_size_unless_it_changed() -> None:
    assert said("The previously described 6 mm nodule is unchanged.") == ["+lung_nodule 6"]
    assert said("The previously described 6 mm nodule now measures 8 mm.") == ["+lung_nodule 8"]
    assert said("The previously described 6 mm nodule has decreased in size.") == ["+lung_nodule"]


def test_a_lobe_below_nodules_is_where_a_nodule_lies() -> None:
    text = "NODULES:\n- Right upper lobe: 7 mm, solid.\n- Left lower lobe: none.\nEmphysema: mild."
    assert said(text) == ["+lung_nodule right_upper_lobe 7", "-lung_nodule left_lower_lobe", "+emphysema"]


def test_a_side_below_a_heading_still_speaks_of_it() -> None:
    assert said("PLEURA:\nRight: small effusion.\nLeft: no effusion.") == [
        "+pleural_effusion right_pleura",
        "-pleural_effusion left_pleura",
    ]


def test_an_impression_that_sums_up_adds_nothing() -> None:
    stated = "Small right and trace left pleural effusions."
    assert said(f"PLEURA: {stated} IMPRESSION: Bilateral pleural effusions.") == said(stated)


def test_what_is_said_to_be_so_is_no_second_finding() -> None:
    (finding,) = parse("Loculated right pleural collection, consistent with empyema.")
    assert finding == Finding("pleural_effusion", "present", ("right_pleura",))


def test_picks_of_a_template_are_read_without_their_brackets() -> None:
    assert said("Pneumothorax: [None]\nLymphadenopathy: [None]") == ["-pneumothorax", "-lymphadenopathy"]


def test_what_announces_a_list_is_not_one_more() -> None:
    text = "Pulmonary nodules as follows:\n- 10 mm, right upper lobe nodule\n- 6 mm left lower lobe nodule"
    assert said(text.replace("\n- ", " ", 1).replace("\n- ", ". ")) == said(text)
    assert said(text) == ["+lung_nodule right_upper_lobe 10", "+lung_nodule left_lower_lobe 6"]


def test_what_is_referred_to_is_not_one_more() -> None:
    assert said("5 mm nodule in the lingula. Pleural thickening adjacent to the nodule.") == [
        "+lung_nodule lingula 5",
        "+pleural_thickening",
    ]


def test_a_threshold_is_a_size_only_where_there_is_no_other() -> None:
    assert said("Nodules larger than 6 mm: left upper lobe, 11 mm.") == ["+lung_nodule left_upper_lobe 11"]
    assert said("Nodules smaller than 6 mm in the lingula.") == said("Sub-6 mm nodules in the lingula.")
    assert said("A mass greater than 5 cm.") == ["+mass 50"]


@pytest.mark.parametrize(
    "words",
    ["anterior segment, 7 mm nodule.", "7 mm nodule in the anterior segment.", "7 mm nodule, anterior segment."],
)
def test_a_segment_is_of_the_lobe_above(words: str) -> None:
    assert said(f"RIGHT UPPER LOBE: {words}") == ["+lung_nodule rul_anterior_segment 7"]
    assert said("7 mm nodule in the right upper lobe, anterior segment.") == ["+lung_nodule rul_anterior_segment 7"]


def test_dictation_without_punctuation() -> None:
    text = "lungs no consolidation mild emphysema\npleura small left pleural effusion no pneumothorax"
    assert said(text) == ["-consolidation", "+emphysema", "+pleural_effusion left_pleura", "-pneumothorax"]


def test_a_table_of_nodules_without_a_verb() -> None:
    text = "Nodule table\nRUL | 6 mm | solid | stable\nLUL | 11 mm | ground glass | larger (prior 9 mm)"
    assert said(text) == ["+lung_nodule right_upper_lobe 6", "+lung_nodule left_upper_lobe 11"]
    assert said("Two nodules: right lower lobe, 4 mm; and left upper lobe, 3 mm (image 40).") == [
        "+lung_nodule right_lower_lobe 4",
        "+lung_nodule left_upper_lobe 3",
    ]


def test_an_effusion_below_the_heart_is_pericardial() -> None:
    assert said("HEART: Normal; no effusion.") == ["-cardiomegaly", "-pericardial_effusion"]
    assert said("Heart normal in size without effusion.") == said("HEART: Normal; no effusion.")


def test_a_bare_effusion_is_the_one_that_has_a_side() -> None:
    text = "LUNGS: Atelectasis due to large effusion. PLEURA: Large right effusion."
    assert said(text) == ["+atelectasis", "+pleural_effusion right_pleura"]


def test_calcification_of_two_vessels_is_both() -> None:
    found = said("Atherosclerotic calcifications of the aorta and coronary arteries.")
    assert found == ["+arterial_wall_calcification aorta", "+coronary_artery_wall_calcification heart"]


def test_slips_in_sides_are_put_right() -> None:
    assert said("5 mm nodlue in the rigth upper lobe.") == said("5 mm nodule in the right upper lobe.")


@pytest.mark.parametrize("form", ["Pleura: {}", "Pleura - {}", "PLEURA\n{}", "Pleura; {}"])
def test_a_heading_may_end_in_other_marks(form: str) -> None:
    assert said(form.format("no fluid.")) == ["-pleural_effusion"]


def test_keys_and_values_complete_the_nodule_they_follow() -> None:
    text = "LUNG NODULES:\nNodule #1: Location: Right upper lobe. Size: 6.2 mm. Density: Ground glass."
    (finding,) = parse(text, "en")
    assert finding == Finding("lung_nodule", "present", ("right_upper_lobe",), (6.2,), (("density", "ground_glass"),))


def test_sides_in_brackets() -> None:
    assert said("Effusions (small R, trace L).") == ["+pleural_effusion right_pleura", "+pleural_effusion left_pleura"]
    assert said("Nodules: (R) 5 mm upper lobe; (L) 7 mm lower lobe.") == [
        "+lung_nodule right_upper_lobe 5",
        "+lung_nodule left_lower_lobe 7",
    ]


def test_words_that_deny_in_part_do_not_deny() -> None:
    assert said("The pleural effusion has not resolved.") == ["+pleural_effusion"]
    assert said("Near complete resolution of the lingular consolidation.") == ["+consolidation lingula"]
    assert said("6 mm non-calcified nodule in the lingula.") == ["+lung_nodule lingula 6"]
    assert said("Normal descending aorta. Ascending aortic aneurysm, 4.5 cm.") == ["+aortic_aneurysm aorta 45"]


def test_what_goes_with_a_thing_lies_where_it_does() -> None:
    assert said("Consolidation in the lingula with surrounding ground glass.") == [
        "+consolidation lingula",
        "+ground_glass_opacity lingula",
    ]


def test_a_place_after_and_leads_to_what_lies_there() -> None:
    assert said("In the right upper lobe there is a 5 mm nodule, and in the left lower lobe a 7 mm nodule.") == [
        "+lung_nodule right_upper_lobe 5",
        "+lung_nodule left_lower_lobe 7",
    ]


def test_dated_sizes_are_earlier_ones_where_another_is_given() -> None:
    assert said("Lingular nodule: 9 mm (1/2/2020), now 6 mm.") == ["+lung_nodule lingula 6"]
    assert said("10 x 8 mm (image 50; previously 8 x 7 mm) lingular nodule.") == ["+lung_nodule lingula 10x8"]


def test_a_doubt_within_a_thing_is_no_doubt_of_it() -> None:
    assert said("Possible cavitation within the lingular mass.") == ["?cavity", "+mass lingula"]
    assert said("No cavitation within the lingular mass.") == ["-cavity", "+mass lingula"]


def test_a_doubt_about_what_it_is_leaves_it_there() -> None:
    assert said("1 cm nodule in the lingula, malignancy not excluded.") == ["+lung_nodule lingula 10"]
    assert said("Nodule in the lingula not excluded.") == ["?lung_nodule lingula"]


def test_a_lobe_below_a_lung_is_of_that_lung() -> None:
    assert said("LEFT LUNG:\n- Lower lobe bronchiectasis\n- Upper lobe nodule, 5 mm") == [
        "+bronchiectasis left_lower_lobe",
        "+lung_nodule left_upper_lobe 5",
    ]
    assert said("LEFT PLEURA: Small effusion.") == ["+pleural_effusion left_pleura"]


def test_a_synonym_in_brackets_is_denied_with_its_word() -> None:
    assert said("There is no collapsed lung (pneumothorax).") == ["-pneumothorax"]
    assert said("Ground glass (infection, consolidation?) in the lingula.")[0] == "+ground_glass_opacity lingula"


def test_words_and_signs_for_numbers_and_denials() -> None:
    assert said("A six-millimeter nodule in the lingula.") == ["+lung_nodule lingula 6"]
    assert said("PLEURA: (-) effusion, (+) thickening.") == ["-pleural_effusion", "+pleural_thickening"]
    assert said("She does not have a pleural effusion.") == ["-pleural_effusion"]
    assert said("Is there a lung mass? No pneumothorax.") == ["-pneumothorax"]


def test_stations_are_listed_below_lymph_nodes() -> None:
    assert said("LYMPH NODES:\n- Right hilar: 12 mm\n- 4R: 9 mm\n- 7: 14 mm") == [
        "+lymphadenopathy right_hilum 12",
        "?lymphadenopathy right_lower_paratracheal 9",
        "+lymphadenopathy subcarinal 14",
    ]


def test_a_known_thing_is_completed_wherever_it_was_named() -> None:
    text = "KEY FINDINGS: New 12 mm RUL nodule. Mild emphysema. LUNGS: The RUL nodule measures 12 x 10 mm."
    assert said(text) == ["+lung_nodule right_upper_lobe 12x10", "+emphysema"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("MEDIASTINUM: Normal heart size. Patent central airways.", ["-cardiomegaly", "-airway_stenosis"]),
        ("MEDIASTINUM: Heart and pericardium are normal.", ["-cardiomegaly"]),
        ("Nonenlarged aorta and main pulmonary artery.", ["-aortic_aneurysm", "-enlarged_pulmonary_artery"]),
        ("No substantial change in mildly prominent hilar nodes.", ["?lymphadenopathy"]),
        ("4 mm nodule of the left fissure, likely a perifissural lymph node.", ["+lung_nodule left_lung 4"]),
        ("LUNGS: 3 mm right upper (2:14) and right middle (2:40) nodules.",
         ["+lung_nodule right_upper_lobe,right_middle_lobe 3"]),
        ("No consolidation or suspicious nodule. 2 mm lingular nodule.", ["-consolidation", "+lung_nodule lingula 2"]),
        ("LUNGS: Septal thickening, worse in the lower lungs.",
         ["+interlobular_septal_thickening right_lower_lobe,left_lower_lobe"]),
        ("A fluid-attenuating focus in the right pericardial fat pad. Collapse of the left breast implant.",
         ["+medical_material left_breast"]),
        ("Old left rib and clavicle fractures. Nodular adrenal thickening.", ["+rib_fracture ribs"]),
        ("Band of atelectasis in the lower lobes as well as round atelectasis in the lingula.",
         ["+atelectasis right_lower_lobe,left_lower_lobe", "+atelectasis lingula"]),
    ],
)  # fmt: skip
def test_habits_of_real_reports(text: str, lines: list[str]) -> None:
    assert said(text) == lines


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (
            "Mass in the left upper lobe, 4 cm. Satellite nodules in the same lobe measure up to 9 mm.",
            "left_upper_lobe",
        ),
        ("A 5 mm nodule in the right middle lobe and a 9 mm nodule in the same lobe.", "right_middle_lobe"),
    ],
)
def test_the_same_lobe_is_the_one_named_before(text: str, stated: str) -> None:
    (nodule,) = (f for f in parse(text, "en") if f.size_mm == (9.0,))
    assert (nodule.kind, nodule.regions) == ("lung_nodule", (stated,))


def test_the_same_lobe_of_nothing_is_no_place() -> None:
    (nodule,) = parse("A 9 mm nodule in the same lobe.", "en")
    assert nodule.regions == ()
