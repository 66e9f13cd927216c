"""How the loop calls the report model: a batch in, the outputs the losses want out."""

from __future__ import annotations

from typing import Any

from ctscribe.data.batch import StudyBatch, TextBatch
from ctscribe.model import ModelOutputs


def report_forward(model: Any, batch: Any, wants: frozenset[str]) -> ModelOutputs:
    """Run as much of a `CTReportModel` as the losses need.

    A `TextBatch` runs the writer alone, on facts; a `StudyBatch` runs the whole figure, and the writer
    only when the report loss is wanted.
    """
    if isinstance(batch, TextBatch):
        return ModelOutputs(text_logits=model.language(batch.facts, batch.input_ids, batch.attention))
    study: StudyBatch = batch
    if "report" in wants:
        return model(study.volume, study.regions, study.facts, study.input_ids, study.attention)
    return model(study.volume, study.regions)
