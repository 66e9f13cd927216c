"""METEOR 1.5, the one captioning papers print, computed by its own Java program.

Denkowski and Lavie, WMT 2014. The archive (``meteor-1.5.jar`` with ``data/paraphrase-en.gz`` beside it, as inside the
PyPI package pycocoevalcap) is not part of this project; its path is given. It is run as the COCO caption evaluation
runs it (``-l en -norm``) on the same tokens as every other metric here.

The program counts; the score is a function of summed counts, so intervals and baselines need no second run. Over
the stages exact, stem, synonym and paraphrase with weights 1, 0.6, 0.8 and 0.6, content words weighing 0.75 and
function words 0.25,

    F = P R / (0.85 P + 0.15 R)        score = F (1 - 0.6 (chunks / matches)^0.2)
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctscribe.errors import CheckpointError, DependencyMissing, UsageError
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Counts, Measure, Scorer, ratio

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])

# Counts the program prints for a pair: lengths and function words of both sides, then for each stage matched content
# and function words of both sides, then chunks and matched words of both sides.
COUNTS = 23


class MeteorJar(Scorer):
    """METEOR 1.5 for English.

    Args:
        jar: ``meteor-1.5.jar``.
        java: the Java program.

    Raises:
        CheckpointError: there is no such archive.
        DependencyMissing: Java is not installed.
    """

    name = "meteor_jar"
    measures = (Measure("meteor_1_5", "METEOR 1.5 of the set, as the COCO caption evaluation computes it."),)

    def __init__(self, jar: Path, java: str = "java") -> None:
        if not jar.is_file():
            raise CheckpointError(
                f"{jar}: METEOR", expected="meteor-1.5.jar", got="no such file", hint="it is inside pycocoevalcap"
            )
        found = shutil.which(java)
        if found is None:
            raise DependencyMissing("METEOR 1.5", expected=f"a Java runtime ({java})", got="none on the path")
        self.jar, self.java = jar, found

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: the program's counts.

        Raises:
            UsageError: a report that is not in English.
            DependencyMissing: the program does not run.
        """
        if any(pair.reference.language != "en" for pair in pairs):
            raise UsageError("METEOR 1.5", expected="English reports", got="Chinese", hint="use meteor without a path")
        if not pairs:
            return np.zeros((0, COUNTS))
        asked = "".join(
            f"SCORE ||| {' '.join(pair.reference.tokens)} ||| {' '.join(pair.candidate.tokens)}\n" for pair in pairs
        )
        command = [self.java, "-Xmx2G", "-jar", str(self.jar.resolve()), "-", "-", "-stdio", "-l", "en", "-norm"]
        run = subprocess.run(
            command, cwd=self.jar.resolve().parent, input=asked, capture_output=True, encoding="utf-8", check=False
        )
        rows = [line.split() for line in run.stdout.splitlines()]
        if run.returncode or len(rows) != len(pairs) or any(len(row) != COUNTS for row in rows):
            raise DependencyMissing(
                f"{self.jar}: METEOR",
                expected=f"{len(pairs)} lines of {COUNTS} counts",
                got=(run.stderr.strip().splitlines() or [f"{len(rows)} lines"])[-1],
                hint="check it: java -jar meteor-1.5.jar",
            )
        counts = np.array(rows, dtype=np.float64)
        whole = (counts[:, 21] == counts[:, 0]) & (counts[:, 22] == counts[:, 1]) & (counts[:, 20] == 1)
        counts[whole, 20] = 0.0  # a report matched from end to end is not fragmented
        return counts

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """The score; 0 when nothing matches."""
        matched = totals[..., 4:20].reshape(*totals.shape[:-1], 4, 4)
        ours = _weighted(matched[..., 0], matched[..., 2])
        theirs = _weighted(matched[..., 1], matched[..., 3])
        precision = ratio(ours, _length(totals[..., 0], totals[..., 2]))
        recall = ratio(theirs, _length(totals[..., 1], totals[..., 3]))
        mean = np.nan_to_num(ratio(precision * recall, ALPHA * precision + (1 - ALPHA) * recall))
        fragmentation = np.nan_to_num(ratio(totals[..., 20], (totals[..., 21] + totals[..., 22]) / 2))
        return {"meteor_1_5": np.asarray(mean * (1 - GAMMA * fragmentation**BETA))}


def _weighted(content: np.ndarray, function: np.ndarray) -> np.ndarray:
    return np.asarray(((DELTA * content + (1 - DELTA) * function) * STAGE_WEIGHTS).sum(axis=-1))


def _length(words: Counts, function: Counts) -> np.ndarray:
    return np.asarray(DELTA * (words - function) + (1 - DELTA) * function)
