"""Clinical metrics: hand-worked examples, scikit-learn, and laws."""

from __future__ import annotations

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.evaluation.contradiction import Consistency, contradictions
from ctscribe.evaluation.crg import Crg, crg_score
from ctscribe.evaluation.entities import Entities, attributes, locations, negations
from ctscribe.evaluation.faithfulness import Faithfulness, contradicted, hallucinated, omitted
from ctscribe.evaluation.funnel import Funnel, matched, stages_passed
from ctscribe.evaluation.labels import Labels, present_matrix, vocabulary
from ctscribe.evaluation.matching import lobes, sides, size_agrees
from ctscribe.evaluation.record import Pair, Record, closure, status_by_kind
from ctscribe.evaluation.relations import Relations, items, triples
from ctscribe.evaluation.scorer import Scorer, score_pair
from ctscribe.report import Finding
from ctscribe.report.parse import ct_rate_labels_of
from ctscribe.report.render import render_text
from ctscribe.report.sampler import sample_findings

CLINICAL = (
    Labels("ct_rate"),
    Labels("ontology"),
    Crg(),
    Faithfulness(),
    Funnel(),
    Entities(),
    Relations(),
    Consistency(),
)


def record(*findings: Finding, study: str = "s") -> Record:
    return Record(id=study, text="words", findings=findings)


def from_labels(matrix: np.ndarray) -> list[Record]:
    """Reports whose 18 labels are exactly the matrix (kinds that imply others carry them)."""
    kinds = list(ontology.ct_rate_labels().values())
    rows = (tuple(Finding(kinds[c]) for c in np.flatnonzero(row)) for row in matrix)
    return [record(*findings, study=f"s{i}") for i, findings in enumerate(rows)]


def random_records(rng: np.random.Generator, n: int, rate: float) -> list[Record]:
    return from_labels(rng.random((n, 18)) < rate)


def pairs_of(candidates: list[Record], references: list[Record]) -> list[Pair]:
    return [Pair(c, r) for c, r in zip(candidates, references, strict=True)]


def total(scorer: Scorer, pairs: list[Pair]) -> dict[str, float]:
    return {name: float(value) for name, value in scorer.values(scorer.tally(pairs).sum(axis=0)).items()}


# ---------------------------------------------------------------------------- labels


def test_a_kind_said_twice_takes_its_strongest_status():
    said = [Finding("pleural_effusion", "absent"), Finding("pleural_effusion"), Finding("mass", "uncertain")]
    assert status_by_kind(said) == {"pleural_effusion": "present", "mass": "uncertain"}


def test_a_consolidation_is_a_lung_opacity_and_an_absent_one_is_not():
    assert closure(["consolidation"]) == {"consolidation", "lung_opacity"}
    names = vocabulary("ontology")
    matrix = present_matrix(
        [
            record(Finding("consolidation")),
            record(Finding("consolidation", "absent"), Finding("mass", "absent")),
        ],
        names,
    )
    assert [kind for kind, on in zip(names, matrix[0], strict=True) if on] == ["lung_opacity", "consolidation"]
    assert not matrix[1].any()


def test_for_the_annotators_of_ct_rate_a_consolidation_alone_is_no_lung_opacity():
    names = vocabulary("ct_rate")
    (given,) = present_matrix([record(Finding("consolidation"))], names)
    assert [label for label, on in zip(names, given, strict=True) if on] == ["Consolidation"]


@pytest.mark.parametrize("seed", range(30))
def test_labels_are_those_the_parser_gives(seed):
    findings = sample_findings(np.random.default_rng(seed))
    (row,) = present_matrix([record(*findings)], vocabulary("ct_rate"))
    assert dict(zip(vocabulary("ct_rate"), row.tolist(), strict=True)) == ct_rate_labels_of(findings)


def test_vocabularies_are_the_18_labels_and_every_kind_of_the_ontology():
    assert len(vocabulary("ct_rate")) == 18
    assert list(vocabulary("ontology")) == list(ontology.findings())


def test_labels_worked_by_hand():
    # nodule: 1 hit, 1 miss; effusion: 1 invented (no support); emphysema: 1 hit, 1 invented.
    references = [record(Finding("lung_nodule")), record(Finding("lung_nodule"), Finding("emphysema"))]
    candidates = [
        record(Finding("lung_nodule"), Finding("emphysema")),
        record(Finding("emphysema"), Finding("pleural_effusion")),
    ]
    value = total(Labels("ct_rate"), pairs_of(candidates, references))
    assert value["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)  # the effusion is not in the mean
    assert value["macro_precision"] == pytest.approx((1 + 1 / 2) / 2)
    assert value["macro_recall"] == pytest.approx((1 / 2 + 1) / 2)
    assert value["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))  # ... but it costs here
    rows = {
        row["label"]: row
        for row in Labels("ct_rate").table(Labels("ct_rate").tally(pairs_of(candidates, references)).sum(0))
    }
    assert rows["Pleural effusion"] == {
        "label": "Pleural effusion", "support": 0, "predicted": 1,
        "precision": None, "recall": None, "f1": None, "in_macro": False,
    }  # fmt: skip
    assert (rows["Lung nodule"]["support"], rows["Lung nodule"]["f1"]) == (2, pytest.approx(2 / 3))


@pytest.mark.parametrize("seed", range(5))
def test_labels_equal_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(seed)
    candidates, references = random_records(rng, 40, 0.15), random_records(rng, 40, 0.1)
    names = vocabulary("ct_rate")
    truth, predicted = present_matrix(references, names), present_matrix(candidates, names)
    value = total(Labels("ct_rate"), pairs_of(candidates, references))
    supported = np.flatnonzero(truth.any(axis=0))
    for average, labels in (("macro", supported), ("micro", None)):
        p, r, f, _ = metrics.precision_recall_fscore_support(
            truth, predicted, average=average, labels=labels, zero_division=0
        )
        ours = [value[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
        np.testing.assert_allclose(ours, [p, r, f], atol=1e-12)


def test_without_any_positive_there_is_no_macro_f1():
    value = total(Labels("ct_rate"), [Pair(record(Finding("mass")), record())])
    assert np.isnan(value["macro_f1"])
    assert score_pair(Labels("ct_rate"), Pair(record(), record())).values["micro_f1"] is None


# ---------------------------------------------------------------------------- CRG


def test_crg_worked_by_hand():
    # 2 exams x 18 labels: X = 36, A = 2, r = 8.5, U = 17. One hit, one miss, one invented:
    # s = 8.5 - 8.5 - 1 = -1, CRG = 17 / 35.
    references = [record(Finding("emphysema")), record(Finding("lung_nodule"))]
    candidates = [record(Finding("emphysema"), Finding("atelectasis")), record()]
    assert total(Crg(), pairs_of(candidates, references))["crg"] == pytest.approx(17 / 35)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.6])
def test_crg_of_perfect_silent_and_shouting_systems(rate):
    truth = np.random.default_rng(1).random((30, 18)) < rate
    assert crg_score(truth, truth) == pytest.approx(1.0)
    assert crg_score(truth, np.zeros_like(truth)) == pytest.approx(1 / 3)
    assert crg_score(truth, np.ones_like(truth)) == pytest.approx(1 / 3)
    assert crg_score(truth, ~truth) == pytest.approx(0.2)


def test_crg_is_undefined_without_positives_and_without_negatives():
    nothing = np.zeros((4, 18), dtype=bool)
    assert crg_score(nothing, nothing) is None
    assert crg_score(~nothing, ~nothing) is None
    assert score_pair(Crg(), Pair(record(), record())).values["crg"] is None


def test_crg_of_records_equals_crg_of_their_matrices():
    rng = np.random.default_rng(3)
    candidates, references = random_records(rng, 25, 0.2), random_records(rng, 25, 0.2)
    names = vocabulary("ct_rate")
    expected = crg_score(present_matrix(references, names), present_matrix(candidates, names))
    assert total(Crg(), pairs_of(candidates, references))["crg"] == pytest.approx(expected)


# ---------------------------------------------------------------------------- faithfulness


def test_hallucination_omission_and_contradiction_worked_by_hand():
    reference = record(
        Finding("lung_nodule"),
        Finding("consolidation"),
        Finding("pleural_effusion", "absent"),
        Finding("mass", "uncertain"),
    )
    candidate = record(Finding("lung_opacity"), Finding("pleural_effusion"), Finding("mass"), Finding("cardiomegaly"))
    pair = Pair(candidate, reference)
    assert hallucinated(pair) == (
        "cardiomegaly",
        "pleural_effusion",
    )  # opacity is implied, the mass was left open
    assert contradicted(pair) == ("pleural_effusion",)
    assert omitted(pair) == ("consolidation", "lung_nodule")  # an opacity is not yet a consolidation
    score = score_pair(Faithfulness(), pair)
    assert score.values == {"hallucination": 2 / 4, "contradiction": 1 / 4, "omission": 2 / 2}
    assert score.explanation["hedged"] == ["mass"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_mistakes_are_shown_with_the_sentences_that_make_them(language):
    def written(*findings: Finding) -> Record:
        return Record("s", render_text(findings, language), language, findings)

    candidate = written(Finding("emphysema"), Finding("pneumothorax"))
    reference = written(Finding("emphysema"), Finding("cardiomegaly"), Finding("pneumothorax", "absent"))
    why = score_pair(Faithfulness(), Pair(candidate, reference)).explanation
    assert list(why["invented_sentences"]) == ["pneumothorax"]
    assert list(why["missing_sentences"]) == ["cardiomegaly"]
    assert list(why["denying_sentences"]) == ["pneumothorax"]
    assert ("pneumothorax" if language == "en" else "气胸") in why["invented_sentences"]["pneumothorax"]


def test_a_hedge_is_neither_invented_nor_left_out():
    sure, unsure = record(Finding("mass")), record(Finding("mass", "uncertain"))
    assert hallucinated(Pair(sure, unsure)) == hallucinated(Pair(unsure, sure)) == ()
    assert omitted(Pair(sure, unsure)) == omitted(Pair(unsure, sure)) == ()


def test_the_silent_report_invents_nothing_and_omits_everything():
    score = score_pair(Faithfulness(), Pair(record(), record(Finding("mass"))))
    assert (score.values["hallucination"], score.values["omission"]) == (None, 1.0)


# ---------------------------------------------------------------------------- funnel

NODULE = Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(10.0, 8.0))


@pytest.mark.parametrize(
    ("candidate", "fell_at"),
    [
        (NODULE, None),
        (Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(12.0,)), None),
        (Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(12.1,)), "size"),
        (Finding("lung_nodule", regions=("right_upper_lobe",)), "size"),
        (Finding("lung_nodule", regions=("right_lower_lobe",), size_mm=(10.0,)), "lobe"),
        (Finding("lung_nodule", regions=("left_upper_lobe",), size_mm=(10.0,)), "laterality"),
        (Finding("lung_nodule", size_mm=(10.0,)), "laterality"),
        (Finding("lung_nodule", "uncertain", regions=("right_upper_lobe",), size_mm=(10.0,)), None),
        (Finding("lung_nodule", "absent", regions=("right_upper_lobe",)), "presence"),
        (Finding("mass", regions=("right_upper_lobe",), size_mm=(10.0,)), "presence"),
    ],
)
def test_where_a_nodule_falls_out_of_the_funnel(candidate, fell_at):
    explanation = score_pair(Funnel(), Pair(record(candidate), record(NODULE))).explanation
    assert explanation["findings"] == [{"kind": "lung_nodule", "fell_at": fell_at}]


def test_stages_are_asked_only_when_the_reference_states_the_detail():
    heart = Finding("cardiomegaly", regions=("heart",))
    assert stages_passed(heart, Finding("cardiomegaly")) == (("presence", True),)
    assert [stage for stage, _ in stages_passed(NODULE, NODULE)] == ["presence", "laterality", "lobe", "size"]


def test_sides_and_lobes_of_a_finding():
    lingular = Finding("lung_nodule", regions=("lul_superior_lingular_segment",))
    assert (sides(lingular), lobes(lingular)) == ({"left"}, {"left_upper_lobe"})
    assert sides(Finding("emphysema", regions=("lungs",))) == {"left", "right"}
    assert sides(Finding("cardiomegaly", regions=("heart",))) == set()
    assert lobes(Finding("emphysema", regions=("right_lung",))) == set()


def test_size_tolerance_is_a_millimetre_or_a_fifth():
    assert size_agrees(4.0, 5.0)
    assert not size_agrees(4.0, 5.1)
    assert size_agrees(20.0, 24.0)
    assert not size_agrees(20.0, 24.1)


def test_two_nodules_are_matched_one_to_one_for_the_best_agreement():
    small = Finding("lung_nodule", regions=("left_lower_lobe",), size_mm=(4.0,))
    reference = record(NODULE, small)
    assert [c for _, c in matched(Pair(record(small, NODULE), reference))] == [NODULE, small]
    assert [c for _, c in matched(Pair(record(small), reference))] == [None, small]


def test_funnel_totals_worked_by_hand():
    pairs = [
        Pair(record(NODULE), record(NODULE)),
        Pair(record(Finding("lung_nodule", regions=("right_lower_lobe",))), record(NODULE)),
        Pair(record(), record(NODULE, Finding("cardiomegaly", regions=("heart",)))),
        Pair(record(Finding("cardiomegaly")), record(Finding("cardiomegaly", regions=("heart",)))),
    ]
    assert total(Funnel(), pairs) == {
        "presence": 3 / 5,
        "laterality": 1.0,
        "lobe": 1 / 2,
        "size": 1.0,
        "complete": 2 / 5,
    }
    stages = {row["stage"]: (row["asked"], row["passed"]) for row in Funnel().table(Funnel().tally(pairs).sum(0))}
    assert stages == {"presence": (5, 3), "laterality": (2, 2), "lobe": (2, 1), "size": (1, 1)}


# ---------------------------------------------------------------------------- entities

GROUND_GLASS = (("density", "ground_glass"),)


def test_entities_worked_by_hand():
    reference = record(
        Finding("lung_nodule", regions=("right_upper_lobe",), attributes=GROUND_GLASS),
        Finding("pleural_effusion", "uncertain", regions=("left_pleura",)),
        Finding("pneumothorax", "absent", regions=("left_pleura",)),
        Finding("cardiomegaly", "absent"),
    )
    candidate = record(
        Finding("lung_nodule", regions=("right_upper_lobe", "left_lower_lobe"), attributes=(("margin", "smooth"),)),
        Finding("cardiomegaly"),
        Finding("pneumothorax", "absent"),
    )
    assert locations(reference) == {"right_upper_lobe", "left_pleura"}
    assert locations(candidate) == {"right_upper_lobe", "left_lower_lobe"}  # nobody wrote "heart"
    assert attributes(candidate) == {("margin", "smooth")}
    assert negations(reference) == {"pneumothorax", "cardiomegaly"}
    value = total(Entities(), [Pair(candidate, reference)])
    rates = {"finding": (1, 2, 2), "location": (1, 2, 2), "attribute": (0, 1, 1), "negation": (1, 1, 2)}
    for entity, (shared, offered, wanted) in rates.items():
        assert value[f"{entity}_precision"] == shared / offered
        assert value[f"{entity}_recall"] == shared / wanted
        assert value[f"{entity}_f1"] == pytest.approx(2 * shared / (offered + wanted))
    why = score_pair(Entities(), Pair(candidate, reference)).explanation
    assert why["attribute"] == {"invented": ["margin=smooth"], "missed": ["density=ground_glass"]}


def test_a_kind_denied_here_and_reported_there_is_no_negation():
    said = record(
        Finding("pleural_effusion", "absent", regions=("left_pleura",)),
        Finding("pleural_effusion", regions=("right_pleura",)),
    )
    assert negations(said) == set()


# ---------------------------------------------------------------------------- relations


def test_the_graph_of_a_report():
    report = record(
        Finding("lung_nodule", regions=("right_upper_lobe",), attributes=GROUND_GLASS),
        Finding("pleural_effusion", "absent"),
    )
    partial, complete, relations = items(report)
    assert relations == {
        ("lung_nodule", "present", "located_at", "right_upper_lobe"),
        ("lung_nodule", "present", "modified_by", "density=ground_glass"),
    }
    targets = {("located_at", "right_upper_lobe"), ("modified_by", "density=ground_glass")}
    assert partial == targets | {("lung_nodule", "present", "points"), ("pleural_effusion", "absent", "")}
    assert complete == targets | relations | {("pleural_effusion", "absent")}


def test_relations_worked_by_hand():
    reference = record(Finding("lung_nodule", regions=("right_upper_lobe",), attributes=GROUND_GLASS))
    candidate = record(Finding("lung_nodule", regions=("left_upper_lobe",), attributes=GROUND_GLASS))
    value = total(Relations(), [Pair(candidate, reference)])
    # partial: finding and attribute of {finding, region, attribute}; complete: attribute and its relation of 4 items.
    assert (value["partial_f1"], value["complete_f1"]) == (pytest.approx(4 / 6), pytest.approx(4 / 8))
    assert [value[f"located_at_{rate}"] for rate in ("precision", "recall", "f1")] == [0.0, 0.0, 0.0]
    assert value["modified_by_f1"] == 1.0
    why = score_pair(Relations(), Pair(candidate, reference)).explanation
    assert why["missed"] == ["lung_nodule (present) located_at right_upper_lobe"]


def test_swapped_places_keep_entities_and_lose_relations():
    nodule, opacity = (Finding(kind, regions=("left_upper_lobe",)) for kind in ("lung_nodule", "consolidation"))
    moved = [Finding(f.kind, regions=("right_lower_lobe",)) for f in (nodule, opacity)]
    reference, candidate = record(nodule, moved[1]), record(moved[0], opacity)
    assert total(Entities(), [Pair(candidate, reference)])["location_f1"] == 1.0
    assert total(Relations(), [Pair(candidate, reference)])["located_at_f1"] == 0.0


def test_a_status_is_part_of_its_relation_and_empty_reports_are_left_out():
    said, denied = (record(Finding("pleural_effusion", s, regions=("left_pleura",))) for s in ("present", "absent"))
    assert total(Relations(), [Pair(said, denied)])["located_at_f1"] == 0.0
    assert triples(record(Finding("cardiomegaly"))) == set()  # the heart is understood, not said
    empty = Pair(record(), record())
    assert score_pair(Relations(), empty).values["complete_f1"] is None
    assert total(Relations(), [empty, Pair(said, said)])["complete_f1"] == 1.0
    assert score_pair(Relations(), Pair(record(), said)).values["complete_f1"] == 0.0


# ---------------------------------------------------------------------------- contradictions


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("No pleural effusion. There is a small pleural effusion on the left.", [("presence", "pleural_effusion")]),
        (
            "There is a right pleural effusion. No effusion in the right pleural space.",
            [("presence", "pleural_effusion")],
        ),
        ("No pulmonary nodule. A 6 mm nodule in the right upper lobe.", [("presence", "lung_nodule")]),
        ("FINDINGS: The heart is normal in size.\nIMPRESSION: Cardiomegaly.", [("presence", "cardiomegaly")]),
        (
            "FINDINGS: Pleural effusion on the right.\nIMPRESSION: Left pleural effusion.",
            [("side", "pleural_effusion")],
        ),
        (
            "FINDINGS: A 6 mm nodule in the right upper lobe.\nIMPRESSION: 9 mm nodule in the right upper lobe.",
            [("size", "lung_nodule")],
        ),
        # ... and what is none
        ("No pleural effusion on the left. Small pleural effusion on the right.", []),
        ("A 6 mm nodule in the right upper lobe. No other nodule.", []),
        ("A 6 mm nodule in the right upper lobe. No nodule in the left lung.", []),
        ("Possible pneumothorax. No pneumothorax on the left.", []),
        ("The pleural effusion of the previous CT has resolved. No pleural effusion.", []),
        ("Nodule in the right lung, 6 mm. Nodule in the left lung, 9 mm.", []),
        ("FINDINGS: A 6 mm nodule in the right upper lobe.\nIMPRESSION: 7 mm nodule in the right upper lobe.", []),
        ("FINDINGS: Pleural effusion on both sides.\nIMPRESSION: Left pleural effusion.", []),
        ("Both lungs are clear. No pleural effusion. The heart is normal in size.", []),
    ],
)
def test_what_contradicts_itself_and_what_does_not(text, found):
    assert [(c.rule, c.kind) for c in contradictions(text, "en")] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("双侧胸腔未见积液。左侧胸腔少量积液。", [("presence", "pleural_effusion")]),
        ("影像所见:右侧胸腔积液。\n诊断意见:左侧胸腔积液。", [("side", "pleural_effusion")]),
        ("左侧胸腔少量积液。右侧胸腔未见积液。", []),
        ("右肺上叶结节。其余肺野未见结节。", []),
    ],
)
def test_contradictions_in_chinese(text, found):
    assert [(c.rule, c.kind) for c in contradictions(text, "zh")] == found


def test_contradictions_are_shown_with_both_sentences_and_counted_beside_the_references():
    torn = Record("s", "No pleural effusion. There is a small pleural effusion on the left.")
    sound = Record("s", "There is a small pleural effusion on the left.")
    score = score_pair(Consistency(), Pair(torn, sound))
    assert score.values == {"contradicting": 1.0}
    (shown,) = score.explanation["contradictions"]
    assert (shown["first"], shown["second"].split()[-1]) == ("no pleural effusion", "left")
    assert score_pair(Consistency(), Pair(sound, torn)).explanation == {}
    rows = Consistency().table(Consistency().tally([Pair(torn, sound), Pair(sound, torn)]).sum(axis=0))
    assert [(row["reports_of"], row["contradicting"], row["presence"]) for row in rows] == [
        ("candidates", 1, 1),
        ("references", 1, 1),
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("seed", range(15))
def test_written_reports_do_not_contradict_themselves(seed, language):
    findings = sample_findings(np.random.default_rng(seed), mean_present=4.0)
    assert contradictions(render_text(findings, language, seed=seed), language) == ()


# ---------------------------------------------------------------------------- laws


@pytest.mark.parametrize("scorer", CLINICAL, ids=lambda s: s.name)
def test_a_perfect_system_has_the_best_value_of_every_measure(scorer):
    said = record(NODULE, Finding("lung_nodule", attributes=GROUND_GLASS), Finding("pneumothorax", "absent"), study="n")
    references = [*random_records(np.random.default_rng(0), 12, 0.2), said]
    value = total(scorer, pairs_of(references, references))
    for measure in scorer.measures:
        assert value[measure.name] == pytest.approx(measure.high)


@pytest.mark.parametrize("scorer", CLINICAL, ids=lambda s: s.name)
def test_the_order_of_reports_does_not_matter(scorer):
    rng = np.random.default_rng(7)
    pairs = pairs_of(random_records(rng, 20, 0.2), random_records(rng, 20, 0.2))
    mixed = [pairs[i] for i in rng.permutation(20)]
    assert total(scorer, pairs) == pytest.approx(total(scorer, mixed), nan_ok=True)


@pytest.mark.parametrize("scorer", CLINICAL, ids=lambda s: s.name)
def test_shards_add_up_to_the_whole(scorer):
    rng = np.random.default_rng(8)
    pairs = pairs_of(random_records(rng, 20, 0.2), random_records(rng, 20, 0.2))
    np.testing.assert_allclose(
        scorer.tally(pairs[:7]).sum(0) + scorer.tally(pairs[7:]).sum(0), scorer.tally(pairs).sum(0)
    )
    assert scorer.tally([]).shape == (0, scorer.tally(pairs).shape[1])
