"""Draws the pictures of docs/how-to/evaluate.md: scorecards of two invented systems on synthetic reports.

    python benchmarks/evaluation_pictures.py [--out docs/assets/evaluation]

Reports are rendered from random findings; the first system writes another study's report in one of six, the second in
one of two. The probabilities are drawn, too sure of themselves. Needs Chromium to turn the pages into pictures.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from ctscribe import ontology
from ctscribe.evaluation.compare import run_compare
from ctscribe.report.render import render_text
from ctscribe.report.sampler import sample_findings

STUDIES = 240


def write_studies(folder: Path) -> tuple[Path, Path, Path]:
    """References, and predictions of a better and of a worse system."""
    rng = np.random.default_rng(0)
    found = [sample_findings(np.random.default_rng(i), mean_present=3.5) for i in range(2 * STUDIES)]
    paths = (folder / "references.jsonl", folder / "system-a.jsonl", folder / "system-b.jsonl")
    lines: list[list[str]] = [[], [], []]
    for i in range(STUDIES):
        row = {"id": f"study-{i:03d}", "language": "en"}
        known = {"scanner": "ABC"[i % 3], "sex": "FM"[i // 2 % 2], "age": int(rng.integers(30, 90))}
        known["thickness_mm"] = (1.0, 1.5, 5.0)[i % 3]
        text = render_text(found[i], "en", seed=i)
        lines[0].append(json.dumps({**row, "patient": f"p{i // 2}", "metadata": known, "text": text}))
        for file, wrong in ((1, 1 / 6), (2, 1 / 2)):
            said = found[i if rng.random() > wrong else i + STUDIES]
            present = {finding.kind for finding in said if finding.status == "present"}
            odds = {kind: 2.2 * (kind in present) - 1.1 + rng.normal(0, 0.9) for kind in ontology.findings()}
            given = {kind: round(float(1 / (1 + np.exp(-2.2 * value))), 4) for kind, value in odds.items()}
            text = render_text(said, "en", seed=i + 7919 * file)
            lines[file].append(json.dumps({**row, "probabilities": given, "text": text}))
    for path, content in zip(paths, lines, strict=True):
        path.write_text("\n".join(content) + "\n", encoding="utf-8")
    return paths


def pictured(page: Path, picture: Path, height: int) -> None:
    """A page as PNG, in 128 colours."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is not installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size=1240,{height}"]
    subprocess.run(
        [browser, *flags, f"--screenshot={picture}", page.resolve().as_uri()], check=True, capture_output=True
    )
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").quantize(128).save(picture, optimize=True)
    print(picture, picture.stat().st_size // 1024, "KiB")


def excerpt(page: Path, headings: list[str]) -> Path:
    """The page with only these sections, told by the beginnings of their headings."""
    text = page.read_text(encoding="utf-8")
    head, *sections = re.split(r"(?=<h2>)", text)
    kept = [s for s in sections if any(s.startswith(f"<h2>{heading}") for heading in headings)]
    shorter = page.with_name("excerpt.html")
    shorter.write_text(head + "".join(kept), encoding="utf-8")
    return shorter


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description="Pictures of the evaluation guide.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "assets" / "evaluation")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ref, a, b = write_studies(folder)
        run_compare(a, b, ref, folder / "out", resamples=500)
        card, comparison = folder / "out" / "a" / "scorecard.html", folder / "out" / "compare.html"
        pictured(card, out / "scorecard.png", 1180)
        pictured(excerpt(card, ["Funnel", "Reliability", "Per label: labels18"]), out / "plots.png", 1400)
        pictured(excerpt(card, ["Reports with most"]), out / "worst.png", 640)
        pictured(excerpt(comparison, ["Differences"]), out / "compare.png", 1500)


if __name__ == "__main__":
    main()
