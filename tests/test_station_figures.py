"""Each station's page shows its figure, and the figure is a picture that can be read."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[1] / "docs"
STATIONS = ("vision", "scene", "language", "model", "training")


@pytest.mark.parametrize("station", STATIONS)
def test_a_station_has_its_figure(station: str) -> None:
    page = (DOCS / "explanation" / f"{station}.md").read_text(encoding="utf-8")
    assert f"](../assets/stations/{station}.svg)" in page
    figure = ElementTree.parse(DOCS / "assets" / "stations" / f"{station}.svg").getroot()
    width, height = (float(figure.attrib[key]) for key in ("width", "height"))
    words = [node for node in figure.iter() if node.tag.endswith("}text")]
    assert words
    assert all(0 <= float(w.attrib["x"]) <= width and 0 <= float(w.attrib["y"]) <= height for w in words)
