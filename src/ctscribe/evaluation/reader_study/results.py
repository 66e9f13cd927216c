"""Answers and key in, results out: every table of a reader study.

Intervals are percentile bootstraps over patients (cases, where patients are not known); p-values of all differences
between systems are adjusted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ctscribe import __version__
from ctscribe.evaluation.intervals import Estimate
from ctscribe.evaluation.reader_study import checklist_agreement
from ctscribe.evaluation.reader_study.agreement import (
    Coefficient,
    Cohen,
    Fleiss,
    Gwet,
    Icc,
    Krippendorff,
    MeanCohen,
    Within,
)
from ctscribe.evaluation.reader_study.answers import Answers
from ctscribe.evaluation.reader_study.compare import adjusted, mean_estimate, mrmc, permutation_p
from ctscribe.evaluation.reader_study.key import Key
from ctscribe.evaluation.reader_study.questions import SCORES, WEIGHTS, error_kinds, scales
from ctscribe.evaluation.reader_study.ratings import ANY_ERROR, Ratings, by_case, centred, outcomes, row_means
from ctscribe.evaluation.reader_study.summary import Summary

LEVEL = 0.95


@dataclass(frozen=True)
class Settings:
    """How the numbers are computed.

    Attributes:
        resamples: bootstrap samples; 0 leaves intervals out.
        permutations: of the test of differences.
        seed: of both.
        masked: systems keep their codes, so that whoever analyses stays blinded as well.
    """

    resamples: int = 1000
    permutations: int = 10_000
    seed: int = 0
    masked: bool = False


def score(answers: Answers, key: Key, settings: Settings | None = None) -> Summary:
    """Everything that a study shows."""
    chosen = settings or Settings()
    ratings = Ratings.of(answers, key)
    names = {code: key.name(code, masked=chosen.masked) for code in ratings.systems}
    work = _Work(ratings, names, chosen)
    return Summary(
        study=key.study,
        design=key.design,
        language=key.language,
        readers=ratings.readers,
        systems=tuple(names.values()),
        reference=names.get(key.reference) if key.reference else None,
        cases=len({case for case, _ in ratings.texts}),
        patients=len(set(ratings.clusters)),
        readings=len(ratings.readings),
        means=tuple(work.means()),
        distributions=tuple(work.distributions()),
        differences=tuple(work.differences()),
        errors=tuple(work.errors()),
        agreement=tuple(work.agreement()),
        pairs=tuple(work.pairs()),
        steadiness=tuple(work.steadiness()),
        reader_rows=tuple(work.readers()),
        findings=tuple(checklist_agreement.rows(answers.scans, key, names, chosen.resamples, LEVEL, chosen.seed)),
        notes=(*answers.notes, *work.notes()),
        settings={**asdict(chosen), "level": LEVEL},
        software=__version__,
    )


def categories(name: str) -> tuple[float, ...]:
    """The values that a judgement can have."""
    return (0.0, 1.0) if name == ANY_ERROR else tuple(float(score) for score in SCORES)


def judgements() -> tuple[str, ...]:
    """What readers can agree on: the four scales, and whether a report holds a significant error."""
    return (*scales(), ANY_ERROR)


def group_coefficients(name: str) -> dict[str, Coefficient]:
    """Coefficients of any number of readers, by name."""
    values = categories(name)
    shared: dict[str, Coefficient] = {
        "exact agreement": Within(0),
        "Cohen kappa, mean of pairs": MeanCohen(values),
        "Fleiss kappa": Fleiss(values),
        "Gwet AC1": Gwet(values),
        "Krippendorff alpha, nominal": Krippendorff(values, "nominal"),
    }
    if name == ANY_ERROR:
        return shared
    return {
        **shared,
        "within one point": Within(1),
        "Cohen kappa, quadratic, mean of pairs": MeanCohen(values, "quadratic"),
        "Gwet AC2, quadratic": Gwet(values, "quadratic"),
        "Krippendorff alpha, ordinal": Krippendorff(values, "ordinal"),
        "Krippendorff alpha, interval": Krippendorff(values, "interval"),
        "ICC(2,1)": Icc(),
    }


def pair_coefficients(name: str) -> dict[str, Coefficient]:
    """Coefficients of two readers, by name."""
    values = categories(name)
    plain: dict[str, Coefficient] = {"Cohen kappa": Cohen(values)}
    if name == ANY_ERROR:
        return plain
    return {
        **plain,
        "Cohen kappa, linear": Cohen(values, "linear"),
        "Cohen kappa, quadratic": Cohen(values, "quadratic"),
    }


@dataclass(frozen=True)
class _Work:
    ratings: Ratings
    names: dict[str, str]
    settings: Settings

    def _interval(self, coefficient: Coefficient, matrix: np.ndarray, clusters: Sequence[int]) -> Estimate:
        return coefficient.estimate(
            matrix, clusters, resamples=self.settings.resamples, level=LEVEL, seed=self.settings.seed
        )

    def _mean(self, values: np.ndarray, clusters: Sequence[int]) -> Estimate:
        return mean_estimate(values, clusters, resamples=self.settings.resamples, level=LEVEL, seed=self.settings.seed)

    def _of(self, system: str) -> tuple[np.ndarray, list[int]]:
        rows = self.ratings.rows_of(system)
        return rows, [cluster for cluster, own in zip(self.ratings.clusters, rows, strict=True) if own]

    # ------------------------------------------------------------------------------------ systems
    def means(self) -> list[dict[str, Any]]:
        found = []
        for outcome in outcomes():
            matrix = self.ratings.matrix(outcome)
            for system, name in self.names.items():
                rows, clusters = self._of(system)
                own = matrix[rows]
                known = int((~np.isnan(own)).sum())
                found.append(
                    {"outcome": outcome, "system": name, "ratings": known, **asdict(self._mean(own, clusters))}
                )
        return found

    def distributions(self) -> list[dict[str, Any]]:
        found = []
        for scale in scales():
            matrix = self.ratings.matrix(scale)
            for system, name in self.names.items():
                own = matrix[self.ratings.rows_of(system)]
                counts = {f"score_{score}": int((own == score).sum()) for score in SCORES}
                unjudged = sum(
                    scale not in reading.scores for reading in self.ratings.first if reading.item.system == system
                )
                found.append({"outcome": scale, "system": name, **counts, "not_judged": unjudged})
        return found

    def differences(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for outcome in outcomes():
            matrix = self.ratings.matrix(outcome)
            text = dict(zip(self.ratings.texts, row_means(centred(matrix)).tolist(), strict=True))
            cube = by_case(self.ratings, matrix)
            for (i, first), (j, second) in combinations(enumerate(self.ratings.systems), 2):
                found.append(self._difference(outcome, first, second, text, cube[:, :, i] - cube[:, :, j]))
        corrected = adjusted([row["p"] for row in found])
        return [{**row, "p_holm": p} for row, p in zip(found, corrected, strict=True)]

    def _difference(
        self, outcome: str, first: str, second: str, text: dict[tuple[str, str], float], by_reader: np.ndarray
    ) -> dict[str, Any]:
        key = self.ratings.key
        both = [
            (key.clusters[case], text[case, first] - text[case, second])
            for case in key.clusters
            if not np.isnan(text.get((case, first), np.nan) - text.get((case, second), np.nan))
        ]
        clusters, apart = [cluster for cluster, _ in both], np.array([d for _, d in both])
        estimate = self._mean(apart, clusters) if both else Estimate(None)
        p = permutation_p(apart, clusters, permutations=self.settings.permutations, seed=self.settings.seed)
        complete = by_reader[~np.isnan(by_reader).any(axis=1)].T
        wider = mrmc(complete, level=LEVEL) if complete.size else None
        return {
            "outcome": outcome,
            "first": self.names[first],
            "second": self.names[second],
            "cases": len(both),
            **asdict(estimate),
            "p": p,
            "other_readers_cases": complete.shape[1] if wider else 0,
            "other_readers_low": wider.low if wider else None,
            "other_readers_high": wider.high if wider else None,
            "other_readers_p": wider.p if wider else None,
        }

    def errors(self) -> list[dict[str, Any]]:
        """Errors per 100 reports of each category and weight, and the share of reports with a significant one."""
        found = []
        columns = {f"{kind}_{weight}": (kind, weight) for kind in error_kinds() for weight in WEIGHTS}
        totals = {f"{weight}_errors": ("all", weight) for weight in WEIGHTS}
        for column, (kind, weight) in {**columns, **totals, ANY_ERROR: ("reports with any", "significant")}.items():
            matrix = 100 * self.ratings.matrix(column)
            for system, name in self.names.items():
                rows, clusters = self._of(system)
                rate = self._mean(matrix[rows], clusters)
                found.append({"error": kind, "weight": weight, "system": name, **asdict(rate)})
        return found

    # ------------------------------------------------------------------------------------ readers
    def agreement(self) -> list[dict[str, Any]]:
        found = []
        for name in judgements():
            matrix = self.ratings.matrix(name)
            shared = int(((~np.isnan(matrix)).sum(axis=1) > 1).sum())
            if not shared:
                continue
            for label, coefficient in group_coefficients(name).items():
                estimate = self._interval(coefficient, matrix, self.ratings.clusters)
                found.append({"outcome": name, "coefficient": label, "texts": shared, **asdict(estimate)})
        return found

    def pairs(self) -> list[dict[str, Any]]:
        found = []
        for name in judgements():
            matrix = self.ratings.matrix(name)
            for (i, first), (j, second) in combinations(enumerate(self.ratings.readers), 2):
                two = matrix[:, [i, j]]
                shared = int((~np.isnan(two)).all(axis=1).sum())
                if not shared:
                    continue
                for label, coefficient in pair_coefficients(name).items():
                    estimate = self._interval(coefficient, two, self.ratings.clusters)
                    found.append(
                        {
                            "outcome": name,
                            "first": first,
                            "second": second,
                            "coefficient": label,
                            "texts": shared,
                            **asdict(estimate),
                        }
                    )
        return found

    def steadiness(self) -> list[dict[str, Any]]:
        """Agreement of readers with themselves, on texts that came twice."""
        found = []
        for name in judgements():
            for reader in (None, *self.ratings.readers):
                table, clusters = self.ratings.twice(name, reader)
                known = ~np.isnan(table).any(axis=1)
                if not known.any():
                    continue
                wanted: dict[str, Coefficient] = {"exact agreement": Within(0)}
                wanted |= pair_coefficients(name) if reader is None else {}
                for label, coefficient in wanted.items():
                    estimate = self._interval(coefficient, table, clusters)
                    found.append(
                        {
                            "outcome": name,
                            "reader": reader or "all",
                            "coefficient": label,
                            "texts": int(known.sum()),
                            **asdict(estimate),
                        }
                    )
        return found

    def readers(self) -> list[dict[str, Any]]:
        found = []
        for reader in self.ratings.readers:
            own = [reading for reading in self.ratings.readings if reading.item.reader == reader]
            times = [reading.seconds for reading in own if reading.seconds]
            scores = {
                scale: [reading.scores[scale] for reading in own if scale in reading.scores] for scale in scales()
            }
            found.append(
                {
                    "reader": reader,
                    "readings": len(own),
                    "median_seconds": float(np.median(times)) if times else None,
                    **{scale: float(np.mean(given)) if given else None for scale, given in scores.items()},
                }
            )
        return found

    def notes(self) -> list[str]:
        found = []
        clusters = len(set(self.ratings.clusters))
        if clusters < 20:
            found.append(
                f"Intervals rest on {clusters} patients or cases: fewer than 20 give intervals that are too narrow."
            )
        if len(self.ratings.readers) == 1:
            found.append("One reader: no agreement between readers.")
        if self.ratings.key.design == "once":
            found.append("Each reader read each case once: differences are between scores centred by reader.")
        return found
