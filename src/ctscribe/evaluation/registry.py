"""Every metric, in the order of the scorecard. A new one is a file of its own and a line here."""

from __future__ import annotations

from collections.abc import Callable

from ctscribe.evaluation.bleu import Bleu
from ctscribe.evaluation.cider import Cider
from ctscribe.evaluation.contradiction import Consistency
from ctscribe.evaluation.crg import Crg
from ctscribe.evaluation.entities import Entities
from ctscribe.evaluation.faithfulness import Faithfulness
from ctscribe.evaluation.funnel import Funnel
from ctscribe.evaluation.labels import Labels
from ctscribe.evaluation.meteor import Meteor
from ctscribe.evaluation.relations import Relations
from ctscribe.evaluation.rouge import RougeL
from ctscribe.evaluation.scorer import Scorer

SCORERS: tuple[Callable[[], Scorer], ...] = (
    Crg,
    lambda: Labels("ct_rate"),
    lambda: Labels("ontology"),
    Faithfulness,
    Funnel,
    Entities,
    Relations,
    Consistency,
    Bleu,
    RougeL,
    Meteor,
    Cider,
)


def default_scorers() -> tuple[Scorer, ...]:
    """One fresh scorer of each kind."""
    return tuple(build() for build in SCORERS)
