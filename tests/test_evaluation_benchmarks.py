"""The scoring half of benchmarks/heldout.py: its verdict on systems whose quality is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from ctscribe.evaluation import Record, evaluate
from ctscribe.report.render import render_text
from ctscribe.report.sampler import sample_findings

HELDOUT = Path(__file__).parents[1] / "benchmarks" / "heldout.py"


@pytest.fixture(scope="module")
def heldout():
    spec = importlib.util.spec_from_file_location("heldout_benchmark", HELDOUT)
    module = importlib.util.module_from_spec(spec)

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def studies(n: int, seed: int) -> list[Record]:
    rng = np.random.default_rng(seed)
    drawn = [sample_findings(rng, mean_present=3.0) for _ in range(n)]
    return [Record(f"s{i}", render_text(f, "en", seed=i), "en", f) for i, f in enumerate(drawn)]


def verdict(heldout, predictions, references, shuffled=None):
    def score(records):
        return evaluate(records, references, resamples=20, permutations=40)

    found = heldout.claims(score(predictions), score(shuffled) if shuffled else None)
    return {claim.says.split(" (")[0]: claim.met for claim in found}


def renamed(records, references):
    return [Record(r.id, s.text, s.language, s.findings) for r, s in zip(references, records, strict=True)]


def test_a_perfect_system_meets_every_claim_and_its_shuffle_is_at_chance(heldout):
    references = studies(40, seed=0)
    other = renamed(references[7:] + references[:7], references)
    assert set(verdict(heldout, references, references, shuffled=other).values()) == {True}


def test_a_system_that_always_writes_the_same_meets_none(heldout):
    references = studies(40, seed=0)
    same = renamed([references[0]] * 40, references)
    assert set(verdict(heldout, same, references).values()) == {False}


def test_a_shuffled_run_that_still_knows_the_study_is_not_at_chance(heldout):
    references = studies(40, seed=0)
    leaking = verdict(heldout, references, references, shuffled=references)
    assert leaking["reports from other studies' scans are at chance"] is False
