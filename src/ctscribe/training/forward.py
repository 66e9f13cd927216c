"""How the loop calls the report model: a batch in, the outputs the losses want out."""

from __future__ import annotations

from typing import Any

from ctscribe.model import ModelOutputs


def report_forward(model: Any, batch: Any, wants: frozenset[str]) -> ModelOutputs:
    """Run as much of a `CTReportModel` as the losses need.

    A batch without a volume (text only) runs the writer alone, on its facts; a `StudyBatch` runs the whole
    figure, and the writer only when the report loss is wanted.
    """
    if getattr(batch, "volume", None) is None:
        return ModelOutputs(text_logits=model.language(batch.facts, batch.input_ids, batch.attention))
    if "report" in wants:
        return model(batch.volume, batch.regions, batch.facts, batch.input_ids, batch.attention)
    return model(batch.volume, batch.regions)
