"""The list of options is read from the code: nothing that the code knows may be missing from it."""

from __future__ import annotations

import typing

from ctscribe.cli.models import gather
from ctscribe.language.config import Strategy
from ctscribe.scene.graph import EdgeType
from ctscribe.training.losses import standard_losses
from ctscribe.vision.config import Backbone
from ctscribe.vision.positions import PositionKind


def test_every_option_has_its_words_its_default_and_its_meaning() -> None:
    facts = gather()
    rows = {row["option"]: row for row in facts["options"]}
    expected = {
        "encoder.backbone": Backbone,
        "encoder.positions": PositionKind,
        "scene.edges_off": EdgeType,
        "language.strategy": Strategy,
    }
    for name, words in expected.items():
        assert set(rows[name]["words"]) == set(typing.get_args(words))
    assert rows["encoder.backbone"]["words"][0] == rows["encoder.backbone"]["default"] == "pyramid"
    assert rows["inputs.drop"]["default"] == 0.3
    assert [name for name, row in rows.items() if not row["about"]] == []
    assert [loss["loss"] for loss in facts["losses"]] == list(standard_losses())
    assert all(loss["about"] for loss in facts["losses"])
    assert {"classical", "totalsegmentator", "lungmask"} <= set(facts["segmenters"])
