"""The vocabulary: complete, consistent, and checked when it is loaded."""

from __future__ import annotations

import pytest

from ctscribe import ontology
from ctscribe.errors import ConfigError

# The network's region axis: saved weights depend on these, in this order.
MODEL_REGIONS = (
    "thorax", "right_lung", "left_lung", "right_upper_lobe", "right_middle_lobe", "right_lower_lobe",
    "left_upper_lobe", "left_lower_lobe", "trachea", "right_main_bronchus", "left_main_bronchus", "mediastinum",
    "heart", "aorta", "pulmonary_artery", "oesophagus", "right_pleura", "left_pleura", "diaphragm", "chest_wall",
    "ribs", "spine", "thyroid", "upper_abdomen",
)  # fmt: skip


def test_the_region_axis_of_the_network_does_not_move():
    assert ontology.model_regions() == MODEL_REGIONS


def test_the_18_labels_of_ct_rate_are_there_in_order():
    labels = ontology.ct_rate_labels()
    assert len(labels) == len(set(labels.values())) == 18
    assert tuple(labels) == (
        "Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion",
        "Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis",
        "Lung nodule", "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern",
        "Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening",
    )  # fmt: skip


def test_every_lobe_has_its_bronchopulmonary_segments():
    counts = {
        lobe: sum(ontology.regions()[r].level == "segment" and r != "lingula" for r in ontology.descendants(lobe))
        for lobe in MODEL_REGIONS[3:8]
    }
    assert list(counts.values()) == [3, 2, 5, 4, 4]


def test_everything_has_a_name_and_a_synonym_in_both_languages():
    entries = {**ontology.findings(), **ontology.regions()}
    alone = [(key, code) for key, entry in entries.items() for code, names in entry.names.items() if len(names) < 2]
    assert alone == []


def test_medical_priors():
    assert not ontology.allowed("lung_nodule", "mediastinum")
    assert not ontology.allowed("pericardial_effusion", "right_upper_lobe")
    assert not ontology.allowed("lymphadenopathy", "heart")
    assert ontology.allowed("lung_nodule", "right_upper_lobe")
    assert ontology.allowed("lung_nodule", "rul_apical_segment")
    assert ontology.allowed("lung_nodule", "right_lung")
    assert ontology.allowed("lymphadenopathy", "subcarinal")
    assert ("lung_nodule", "mediastinum") in ontology.forbidden()
    assert not {(k, r) for k in ontology.findings() for r in ontology.findings()[k].regions} & ontology.forbidden()


def test_airways_form_a_tree_and_vessels_start_at_the_heart():
    airway = [c for c in ontology.connections() if c.relation == "airway"]
    reached = {"trachea"}
    for _ in airway:
        reached |= {c.b for c in airway if c.a in reached}
    assert reached == {"trachea"} | {c.b for c in airway}
    assert set(MODEL_REGIONS[3:8]) <= reached
    assert {c.b for c in ontology.connections() if c.relation == "vessel" and c.a == "heart"} == {
        "aorta",
        "pulmonary_artery",
    }


def test_everywhere():
    assert ontology.everywhere("consolidation", ("right_lung", "left_lung"))
    assert not ontology.everywhere("consolidation", ("right_lung",))
    assert not ontology.everywhere("pleural_effusion", ("lungs",))


REGION = {"parent": None, "en": ["chest"], "zh": ["胸部"]}
KIND = {"section": "lungs", "regions": ["chest"], "en": ["spot"], "zh": ["斑"]}


def kinds(**changes):
    known = ontology.build_regions({"chest": REGION})
    table = {"spot": KIND | changes, "dot": KIND | {"en": ["dot"], "zh": ["点"]}}
    return ontology.build_findings(table, known, {"severity": {"mild": None}})


def test_a_sound_table_is_accepted():
    assert set(kinds()) == {"spot", "dot"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"regions": ["moon"]}, "moon"),
        ({"regions": []}, "region"),
        ({"section": "sky"}, "sky"),
        ({"implies": ["nothing"]}, "nothing"),
        ({"attributes": {"severity": ["fierce"]}}, "fierce"),
        ({"en": ["spot", "Dot"]}, "dot"),
        ({"en": ["spot", "spot"]}, "spot"),
        ({"zh": []}, "zh"),
    ],
)
def test_a_mistake_in_the_findings_is_named(changes, named):
    with pytest.raises(ConfigError) as caught:
        kinds(**changes)
    assert named in str(caught.value)
    assert "findings.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"parent": "moon"}, "moon"),
        ({"parent": "chest", "level": "floor"}, "floor"),
        ({"parent": "chest", "side": "up"}, "up"),
        ({"parent": "chest", "en": ["Chest"]}, "chest"),
    ],
)
def test_a_mistake_in_the_regions_is_named(entry, named):
    part = {"en": ["part"], "zh": ["部"]} | entry
    with pytest.raises(ConfigError) as caught:
        ontology.build_regions({"chest": REGION, "part": part})
    assert named in str(caught.value)
    assert "regions.yaml" in str(caught.value)


def test_rules_say_what_a_scene_may_not_show():
    rules = ontology.rules()
    assert {(r.finding, r.region) for r in rules.values() if r.form == "outside"} == {("lung_nodule", "mediastinum")}
    assert {r.relation for r in rules.values() if r.form in ("connected", "tree")} == {"vessel", "airway"}
    assert not any(ontology.allowed(r.finding, r.region) for r in rules.values() if r.form == "outside")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"outside": {"finding": "dragon", "region": "heart"}}, "a finding and a region"),
        ({"connected": "rope"}, "a relation"),
        ({"tree": "airway", "connected": "airway"}, "one of outside"),
        ({}, "one of outside"),
    ],
)
def test_a_mistake_in_the_rules_is_named(changes, named):
    entry = {"en": ["wrong"], "zh": ["错误"], **changes}
    with pytest.raises(ConfigError, match="constraints") as refusal:
        ontology.build_rules({"r": entry}, ontology.findings(), ontology.regions(), {"airway", "vessel"})
    assert named in str(refusal.value)
