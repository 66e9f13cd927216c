"""How often each finding is drawn, and which like to come together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ctscribe import ontology
from ctscribe.errors import UsageError

# Common ones follow the hand labels of CT-RATE in order, lowered so that about four kinds meet in a study;
# rare ones are lifted to 6 % so that a few thousand studies teach them. `lung_opacity` is only ever implied.
PREVALENCE: Mapping[str, float] = {
    "medical_material": 0.12,
    "arterial_wall_calcification": 0.18,
    "coronary_artery_wall_calcification": 0.17,
    "cardiomegaly": 0.12,
    "pericardial_effusion": 0.09,
    "aortic_aneurysm": 0.08,
    "enlarged_pulmonary_artery": 0.08,
    "hiatal_hernia": 0.11,
    "lymphadenopathy": 0.15,
    "lung_nodule": 0.22,
    "mass": 0.10,
    "calcified_granuloma": 0.10,
    "cavity": 0.08,
    "lung_opacity": 0.0,
    "ground_glass_opacity": 0.16,
    "consolidation": 0.14,
    "atelectasis": 0.16,
    "emphysema": 0.15,
    "pulmonary_fibrotic_sequela": 0.15,
    "reticulation": 0.08,
    "honeycombing": 0.06,
    "interlobular_septal_thickening": 0.09,
    "mosaic_attenuation_pattern": 0.09,
    "tree_in_bud": 0.08,
    "bronchiectasis": 0.10,
    "peribronchial_thickening": 0.10,
    "airway_stenosis": 0.06,
    "pleural_effusion": 0.15,
    "pleural_thickening": 0.08,
    "pneumothorax": 0.07,
    "rib_fracture": 0.07,
    "vertebral_fracture": 0.08,
    "bone_lesion": 0.07,
    "thyroid_nodule": 0.07,
    "hepatic_cyst": 0.09,
    "adrenal_nodule": 0.07,
}

# (given, also, probability): what clinical experience expects together.
COMPANIONS: tuple[tuple[str, str, float], ...] = (
    ("honeycombing", "reticulation", 0.6),
    ("honeycombing", "bronchiectasis", 0.3),
    ("pleural_effusion", "atelectasis", 0.35),
    ("cardiomegaly", "pleural_effusion", 0.25),
    ("arterial_wall_calcification", "coronary_artery_wall_calcification", 0.4),
    ("mass", "lymphadenopathy", 0.35),
    ("bronchiectasis", "peribronchial_thickening", 0.3),
)

# Never both: one would hide or imitate the other.
EXCLUSIVE: tuple[tuple[str, str], ...] = (
    ("emphysema", "mosaic_attenuation_pattern"),
    ("honeycombing", "emphysema"),
    ("reticulation", "interlobular_septal_thickening"),
)

NEGATIVES: tuple[str, ...] = (
    "pleural_effusion", "pneumothorax", "pericardial_effusion", "lymphadenopathy", "consolidation", "lung_nodule",
    "mass", "cardiomegaly", "aortic_aneurysm", "emphysema", "bronchiectasis", "rib_fracture", "vertebral_fracture",
    "bone_lesion", "ground_glass_opacity", "atelectasis", "arterial_wall_calcification", "hiatal_hernia",
)  # fmt: skip


@dataclass(frozen=True)
class LesionPrior:
    """What is drawn.

    Attributes:
        prevalence: kind -> probability; kinds left out are never drawn by chance.
        normal_rate: share of studies with nothing at all.
        max_kinds: most kinds in one study.
        force: draw exactly these kinds and no others (for pictures and tests); None draws by chance.
    """

    prevalence: Mapping[str, float] = field(default_factory=lambda: dict(PREVALENCE))
    normal_rate: float = 0.08
    max_kinds: int = 7
    force: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        known = ontology.findings()
        wrong = sorted((set(self.prevalence) | set(self.force or ())) - set(known))
        if wrong:
            raise UsageError(
                f"unknown finding kinds in the lesion prior: {', '.join(wrong)}",
                expected="ids of ctscribe.ontology.findings()",
                hint="`ctscribe.ontology.findings().keys()` lists them",
            )

    @classmethod
    def crowded(cls, factor: float) -> LesionPrior:
        """The default prior with every finding ``factor`` times as common: each scan then teaches more.

        What a detector learns from such scans is where lesions are; how common they are is set by its thresholds.
        """
        plain = cls()
        return cls(
            prevalence={kind: min(0.5, p * factor) for kind, p in PREVALENCE.items()},
            normal_rate=plain.normal_rate / factor,
            max_kinds=round(plain.max_kinds * factor),
        )

    def sample(self, rng: np.random.Generator) -> tuple[str, ...]:
        """Kinds of one study, in ontology order."""
        if self.force is not None:
            return tuple(k for k in ontology.findings() if k in self.force)
        if rng.random() < self.normal_rate:
            return ()
        kinds = {k for k, p in self.prevalence.items() if rng.random() < p}
        for given, also, p in COMPANIONS:
            if given in kinds and self.prevalence.get(also, 0.0) > 0 and rng.random() < p:
                kinds.add(also)
        for pair in EXCLUSIVE:
            if kinds.issuperset(pair):
                kinds.discard(pair[int(rng.integers(0, 2))])
        ordered = [k for k in ontology.findings() if k in kinds]
        if len(ordered) > self.max_kinds:
            keep = set(rng.choice(ordered, size=self.max_kinds, replace=False).tolist())
            ordered = [k for k in ordered if k in keep]
        return tuple(ordered)


def sample_negatives(rng: np.random.Generator, present: set[str]) -> tuple[str, ...]:
    """Kinds worth denying: three to six that are neither present nor implied."""
    table = ontology.findings()
    true = present | {i for k in present for i in table[k].implies}
    open_ = [k for k in NEGATIVES if k not in true]
    count = min(len(open_), int(rng.integers(3, 7)))
    chosen = set(rng.choice(open_, size=count, replace=False).tolist())
    return tuple(k for k in table if k in chosen)
