"""A tiny model and tiny scans for the laws of the tensor stations."""

from __future__ import annotations

from functools import cache

import torch

from ctscribe import ontology
from ctscribe.facts import FindingFacts, facts_of
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel
from ctscribe.report import Finding
from ctscribe.tensors import RegionMasks, VolumeBatch
from recipes import tiny

TEXTS = (
    "A 12 mm nodule is seen in the right upper lobe. No pleural effusion.",
    "右肺上叶见结节,大小约12 mm。未见胸腔积液。",
)
NODULE = Finding("lung_nodule", "present", ("right_upper_lobe",), (12.0,))
EFFUSION = Finding("pleural_effusion", "present", ("left_pleura",))


@cache
def tokenizer() -> ReportTokenizer:
    return ReportTokenizer.train(TEXTS * 5, 400)


def build(seed: int = 0) -> CTReportModel:
    torch.manual_seed(seed)
    return CTReportModel(tiny.model(), tokenizer()).eval()


def scans(count: int = 2, seed: int = 0) -> tuple[VolumeBatch, RegionMasks]:
    """Random volumes with random soft region masks, one region absent."""
    shape, spacing = tiny.model().grid.shape, tiny.model().grid.spacing
    generator = torch.Generator().manual_seed(seed)
    hu = torch.rand(count, *shape, generator=generator) * 2000 - 1000
    names = ontology.model_regions()
    present = torch.ones(count, len(names), dtype=torch.bool)
    present[:, 3] = False
    occupancy = torch.rand(count, len(names), 16, 8, 8, generator=generator)
    return VolumeBatch(hu, torch.tensor([spacing] * count)), RegionMasks(occupancy, present, names)


def facts() -> FindingFacts:
    return facts_of([(NODULE,), (EFFUSION,)])
