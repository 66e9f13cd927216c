"""Every finding that imaging can show -> who draws it, and in which order."""

from __future__ import annotations

import numpy as np

from ctscribe.phantom.anatomy import LOBES, BodyPlan
from ctscribe.phantom.canvas import Array
from ctscribe.phantom.scene import Mark, Painter, Scene, pick
from ctscribe.phantom.skeleton import VERTEBRA_Z

from . import airway_lesions, bone_lesions, devices, heart_lesions, lung_diffuse, lung_focal, lung_nets, pleura_lesions

# Later ones are painted over earlier ones: fluid, air and airless lung first, so that the rest finds aerated lung.
PAINTERS: dict[str, Painter] = {
    "pneumothorax": pleura_lesions.pneumothorax,
    "pleural_effusion": pleura_lesions.pleural_effusion,
    "atelectasis": lung_diffuse.atelectasis,
    "consolidation": lung_diffuse.consolidation,
    "mosaic_attenuation_pattern": lung_diffuse.mosaic_attenuation_pattern,
    "emphysema": lung_diffuse.emphysema,
    "ground_glass_opacity": lung_diffuse.ground_glass_opacity,
    "reticulation": lung_nets.reticulation,
    "interlobular_septal_thickening": lung_nets.interlobular_septal_thickening,
    "honeycombing": lung_nets.honeycombing,
    "pulmonary_fibrotic_sequela": lung_diffuse.pulmonary_fibrotic_sequela,
    "bronchiectasis": airway_lesions.bronchiectasis,
    "peribronchial_thickening": airway_lesions.peribronchial_thickening,
    "tree_in_bud": lung_diffuse.tree_in_bud,
    "pleural_thickening": pleura_lesions.pleural_thickening,
    "mass": lung_focal.mass,
    "cavity": lung_focal.cavity,
    "calcified_granuloma": lung_focal.calcified_granuloma,
    "lung_nodule": lung_focal.lung_nodule,
    "airway_stenosis": airway_lesions.airway_stenosis,
    "cardiomegaly": heart_lesions.cardiomegaly,
    "pericardial_effusion": heart_lesions.pericardial_effusion,
    "aortic_aneurysm": heart_lesions.aortic_aneurysm,
    "enlarged_pulmonary_artery": heart_lesions.enlarged_pulmonary_artery,
    "hiatal_hernia": heart_lesions.hiatal_hernia,
    "lymphadenopathy": heart_lesions.lymphadenopathy,
    "arterial_wall_calcification": heart_lesions.arterial_wall_calcification,
    "coronary_artery_wall_calcification": heart_lesions.coronary_artery_wall_calcification,
    "vertebral_fracture": bone_lesions.vertebral_fracture,
    "rib_fracture": bone_lesions.rib_fracture,
    "bone_lesion": bone_lesions.bone_lesion,
    "thyroid_nodule": bone_lesions.thyroid_nodule,
    "hepatic_cyst": bone_lesions.hepatic_cyst,
    "adrenal_nodule": bone_lesions.adrenal_nodule,
    "medical_material": devices.medical_material,
}

# Kinds that a lung mask alone is enough for: what can be put into a real CT.
INSERTABLE: tuple[str, ...] = (
    "pneumothorax", "pleural_effusion", "mosaic_attenuation_pattern", "emphysema", "ground_glass_opacity",
    "reticulation", "interlobular_septal_thickening", "honeycombing", "atelectasis", "consolidation",
    "pulmonary_fibrotic_sequela", "bronchiectasis", "peribronchial_thickening", "tree_in_bud", "pleural_thickening",
    "mass", "cavity", "calcified_granuloma", "lung_nodule",
)  # fmt: skip

# Decided before drawing: their painters only find them again.
_DRAWN_WITH_ANATOMY = frozenset(
    {"cardiomegaly", "pericardial_effusion", "aortic_aneurysm", "enlarged_pulmonary_artery", "vertebral_fracture",
     "airway_stenosis"}
)  # fmt: skip
_VISIBLE = 10.0  # HU, about the noise of a thick slice
_STEPS = ("mild", "moderate", "severe")


def plan_disease(kinds: tuple[str, ...], plan: BodyPlan, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """Set what changes the anatomy itself; returns the attributes that were decided."""
    chosen: dict[str, dict[str, str]] = {}
    if "cardiomegaly" in kinds:
        severity = pick(rng, "cardiomegaly", "severity")
        plan.heart_scale = float((1.17, 1.29, 1.42)[_STEPS.index(severity)] + rng.uniform(-0.025, 0.025))
        chosen["cardiomegaly"] = {"severity": severity}
    if "pericardial_effusion" in kinds:
        severity = pick(rng, "pericardial_effusion", "severity")
        low, high = {"small": (6, 9), "moderate": (12, 17), "large": (21, 28)}[severity]
        plan.pericardial_fluid = float(rng.uniform(low, high))
        chosen["pericardial_effusion"] = {"severity": severity}
    if "aortic_aneurysm" in kinds:
        where = "ascending" if rng.random() < 0.6 else "descending"
        diameter = int(np.clip(round(np.exp(rng.normal(3.98, 0.13))), 44, 75))
        plan.aneurysm = (where, float(diameter))
    if "enlarged_pulmonary_artery" in kinds:
        plan.trunk = float(int(rng.integers(33, 46)))
    if "atelectasis" in kinds and rng.random() < 0.3:
        plan.collapsed = str(rng.choice(LOBES, p=[0.2, 0.15, 0.25, 0.15, 0.25]))
        chosen["atelectasis"] = {"shape": "lobar"}
    if "airway_stenosis" in kinds:
        severity = pick(rng, "airway_stenosis", "severity")
        left = (0.66, 0.48, 0.3)[_STEPS.index(severity)]
        where = str(rng.choice(["trachea", "right_main_bronchus", "left_main_bronchus"], p=[0.5, 0.2, 0.3]))
        plan.stenosis = {where: left}
        chosen["airway_stenosis"] = {"severity": severity}
    if "vertebral_fracture" in kinds:
        severity = pick(rng, "vertebral_fracture", "severity")
        # Genant 1993: mild 20-25 %, moderate 25-40 %, severe > 40 % loss of height
        loss = {"mild": (0.22, 0.25), "moderate": (0.3, 0.39), "severe": (0.46, 0.6)}[severity]
        usable = [k for k, z in enumerate(VERTEBRA_Z) if -175 < z < 90]
        for k in rng.choice(usable, size=1 + int(rng.random() < 0.3), replace=False):
            plan.wedges[int(k)] = float(rng.uniform(*loss))
        chosen["vertebral_fracture"] = {"severity": severity}
    return chosen


def paint(kinds: tuple[str, ...], scene: Scene, rngs: dict[str, np.random.Generator]) -> list[Mark]:
    """Draw all kinds; what finds no place in this picture, or cannot be seen there, is left out of the truth too."""
    marks: list[Mark] = []
    for kind, painter in PAINTERS.items():
        if kind not in kinds:
            continue
        before = scene.canvas.hu.copy()
        made = painter(scene, rngs[kind])
        if kind not in _DRAWN_WITH_ANATOMY and not (kind == "atelectasis" and kind in scene.chosen):
            made = [m for m in made if _changed(before, scene.canvas.hu, m) > _VISIBLE]
        for m in made:
            if "number" in m.attributes:
                m.attributes["number"] = "single" if len(made) == 1 else "multiple"
        marks += made
    return marks


def _changed(before: Array, after: Array, mark: Mark) -> float:
    """Mean change in HU over a lesion's own voxels."""
    return float(np.abs(after[mark.box][mark.mask] - before[mark.box][mark.mask]).mean())
