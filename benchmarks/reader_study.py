"""Do the intervals of a reader study cover, and do its tests keep their level? Simulated studies, known truth.

    python benchmarks/reader_study.py [--studies N]

A study has R readers, C cases and two systems; scores are a normal quality (system, case, case within system, reader,
reader within system, chance) rounded to 1..5. The truth is the mean of very many such scores. Printed for each size:
how often the 95 % intervals of a system's mean, of the difference and of Krippendorff's ordinal alpha hold the truth,
and how often the permutation test and the analysis of variance call equal systems different (5 % is right).
"""

from __future__ import annotations

import argparse

import numpy as np

from ctscribe.evaluation.intervals import Estimate
from ctscribe.evaluation.reader_study.agreement import Krippendorff
from ctscribe.evaluation.reader_study.compare import mean_estimate, mrmc, permutation_p

# Standard deviations in points: case, case within system, reader, reader within system, chance.
CASE, CASE_SYSTEM, READER, READER_SYSTEM, CHANCE = 0.5, 0.5, 0.3, 0.1, 0.6
SIZES = ((3, 20), (3, 40), (5, 40), (3, 100))
ALPHA = Krippendorff((1.0, 2.0, 3.0, 4.0, 5.0), "ordinal")


def scores(
    rng: np.random.Generator, readers: int, cases: int, better: float, fixed: tuple[np.ndarray, np.ndarray] | None
) -> np.ndarray:
    """Scores 1..5 of shape (cases, readers, 2); `fixed` are the readers' habits, drawn anew without."""
    habits = fixed or habits_of(rng, readers)
    quality = np.array([3.4, 3.4 + better]) + habits[0][:, None] + habits[1]
    quality = quality + rng.normal(0, CASE, (cases, 1, 1)) + rng.normal(0, CASE_SYSTEM, (cases, 1, 2))
    return np.clip(np.rint(quality + rng.normal(0, CHANCE, (cases, readers, 2))), 1, 5)


def habits_of(rng: np.random.Generator, readers: int) -> tuple[np.ndarray, np.ndarray]:
    """How strict each reader is, (readers), and how much more with one system, (readers, 2)."""
    return rng.normal(0, READER, readers), rng.normal(0, READER_SYSTEM, (readers, 2))


def study(rng: np.random.Generator, readers: int, cases: int, seed: int) -> dict[str, float]:
    """Hits of one simulated study."""
    habits = habits_of(rng, readers)
    many = scores(rng, readers, 20_000, 0.3, habits)
    data = scores(rng, readers, cases, 0.3, habits)
    mean = mean_estimate(data[:, :, 0], range(cases), resamples=500, level=0.95, seed=seed)
    gap = data.mean(axis=1)
    difference = mean_estimate(gap[:, 1] - gap[:, 0], range(cases), resamples=500, level=0.95, seed=seed)
    alpha = ALPHA.estimate(data[:, :, 0], list(range(cases)), resamples=500, seed=seed)
    true_gap = many.mean(axis=(0, 1))
    # Equal for these readers: their own mean difference is taken out of the habits; equal for all readers: it stays.
    even = (habits[0], habits[1] - habits[1].mean(axis=0))
    null = scores(rng, readers, cases, 0.0, even).mean(axis=1)
    fresh = scores(rng, readers, cases, 0.0, None)
    wide = mrmc((fresh[:, :, 1] - fresh[:, :, 0]).T)
    return {
        "mean": covers(mean, float(true_gap[0])),
        "difference": covers(difference, float(true_gap[1] - true_gap[0])),
        "alpha": covers(alpha, ALPHA.of(many[:, :, 0])),
        "permutation": float((permutation_p(null[:, 1] - null[:, 0], range(cases), permutations=500) or 1) < 0.05),
        "other readers": float(wide is not None and wide.p < 0.05),
    }


def covers(estimate: Estimate, truth: float) -> float:
    """1 where the interval holds the truth."""
    return float(estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    print(f"{studies} simulated studies for each size")
    print("readers  cases  covers: mean  difference  alpha   wrong alarms: permutation  other readers")
    for readers, cases in SIZES:
        rng = np.random.default_rng(0)
        hits = [study(rng, readers, cases, seed) for seed in range(studies)]
        share = {name: float(np.mean([hit[name] for hit in hits])) for name in hits[0]}
        print(
            f"{readers:7d}  {cases:5d}  {share['mean']:12.1%}  {share['difference']:10.1%}  {share['alpha']:5.1%}"
            f"  {share['permutation']:26.1%}  {share['other readers']:13.1%}"
        )


if __name__ == "__main__":
    main()
