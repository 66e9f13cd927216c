"""Does the report say what the scan shows? (reference, candidate) reports -> scorecard.

Scores anybody's reports: imports no model and no torch. `scorer` holds the protocol every metric follows, `registry`
the list of metrics, `run` the way from two files to a scorecard.
"""

from __future__ import annotations

from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.run import evaluate, run_evaluate
from ctscribe.evaluation.scorecard import Scorecard
from ctscribe.evaluation.scorer import Measure, PairScore, Scorer, score_pair, score_pairs

__all__ = [
    "Measure",
    "Pair",
    "PairScore",
    "Record",
    "Scorecard",
    "Scorer",
    "evaluate",
    "run_evaluate",
    "score_pair",
    "score_pairs",
]
