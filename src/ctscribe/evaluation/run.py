"""Predictions and references in, scorecard out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ctscribe.errors import InputRefused
from ctscribe.evaluation.baselines import BASELINES
from ctscribe.evaluation.diversity import Diversity, diversity, mean_distance
from ctscribe.evaluation.intervals import estimates
from ctscribe.evaluation.labels import Labels
from ctscribe.evaluation.reading import FindingsFrom, ReportSet, listed, read_reports
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.registry import default_scorers
from ctscribe.evaluation.scorecard import Result, Scorecard
from ctscribe.evaluation.scorer import PairScore, Scorer, defined, score_pairs
from ctscribe.evaluation.shuffle import shuffled_control
from ctscribe.evaluation.tokens import CONVENTIONS
from ctscribe.ontology import Language

LEVEL = 0.95


def evaluate(
    predictions: Path | str | Sequence[Record],
    references: Path | str | Sequence[Record],
    *,
    system: str = "system",
    scorers: Sequence[Scorer] | None = None,
    pool: Path | str | Sequence[Record] | None = None,
    language: Language | None = None,
    findings_from: FindingsFrom = "given",
    partial: bool = False,
    baselines: bool = True,
    resamples: int = 1000,
    permutations: int = 20,
    seed: int = 0,
) -> Scorecard:
    """Score predicted reports against references.

    Args:
        predictions: JSONL file (see `reading`) or records.
        references: the same.
        system: name printed on the scorecard.
        scorers: which metrics; None for all of `registry`.
        pool: reports the baselines are drawn from, such as the training set; None for the references.
        language: score only reports in this language.
        findings_from: ``"given"`` prefers structured findings in the files, ``"text"`` parses every text.
        partial: allow references without a prediction (they are left out, and the scorecard says how many).
        baselines: score the baselines and the shuffled control too.
        resamples: bootstrap samples; 0 for no intervals.
        permutations: shuffles of the control.
        seed: of everything random.

    Raises:
        UnreadableInput: a file cannot be read as reports.
        InputRefused: ids that do not match, empty texts, mixed languages and the like.
    """
    ours = _loaded(predictions, language, findings_from)
    theirs = _loaded(references, language, findings_from)
    pairs, notes = pair_up(ours.records, theirs.records, partial=partial)
    truth = [pair.reference for pair in pairs]
    drawn_from = truth if pool is None else _loaded(pool, language, findings_from).records
    rivals = _rivals(pairs, drawn_from, seed) if baselines else {}

    results: list[Result] = []
    tables: dict[str, list[dict]] = {}
    per_report: dict[str, list[PairScore]] = {}
    for plain in default_scorers() if scorers is None else scorers:
        scorer = plain.fitted(truth)
        tally = scorer.tally(pairs)
        results += _results(scorer, pairs, tally, rivals, baselines, resamples, permutations, seed)
        per_report[scorer.name] = score_pairs(scorer, pairs, tally)
        if rows := scorer.table(tally.sum(axis=0)):
            tables[scorer.name] = rows
        if isinstance(scorer, Labels):
            notes += _support_notes(scorer.name, rows)
    patients = _patients(truth)
    if patients is None:
        notes.append("Patients are not stated for every reference: intervals take each report as independent.")
    return Scorecard(
        system=system,
        language=truth[0].language,
        reports=len(pairs),
        patients=patients,
        tokens=CONVENTIONS[truth[0].language],
        results=tuple(results),
        tables=tables,
        diversity=_diversities(pairs, rivals, seed),
        per_report=per_report,
        notes=tuple(dict.fromkeys((*ours.notes, *theirs.notes, *notes))),
        settings={"seed": seed, "resamples": resamples, "permutations": permutations, "level": LEVEL},
        software=_version(),
    )


def run_evaluate(
    predictions: Path,
    references: Path,
    out: Path | None = None,
    *,
    system: str | None = None,
    pool: Path | None = None,
    language: Language | None = None,
    findings_from: FindingsFrom = "given",
    partial: bool = False,
    resamples: int = 1000,
    permutations: int = 20,
    seed: int = 0,
) -> Scorecard:
    """`evaluate` two files and write the scorecard into a folder: what the command line calls.

    Args:
        out: folder for scorecard.json, scorecard.html, the CSV tables and reports.jsonl; made when missing.
            None writes nothing.
        system: name on the scorecard; None for the name of the predictions file.

    Raises:
        UnreadableInput, InputRefused: see `evaluate`.
    """
    from ctscribe.evaluation.writer import write_scorecard

    card = evaluate(
        predictions,
        references,
        system=system or predictions.stem,
        pool=pool,
        language=language,
        findings_from=findings_from,
        partial=partial,
        resamples=resamples,
        permutations=permutations,
        seed=seed,
    )
    if out is not None:
        write_scorecard(card, out)
    return card


def pair_up(
    predictions: Sequence[Record], references: Sequence[Record], *, partial: bool = False
) -> tuple[list[Pair], list[str]]:
    """Match reports by id, in the order of the references.

    Returns:
        pairs, and notes on what was left out.

    Raises:
        InputRefused: a prediction without reference, a reference without prediction (unless `partial`), nothing to
            score, or more than one language.
    """
    known = {record.id: record for record in references}
    offered = {record.id: record for record in predictions}
    if strangers := [name for name in offered if name not in known]:
        raise InputRefused(
            "predictions without a reference",
            code="missing_ids",
            expected="the id of every prediction among the references",
            got=listed(strangers),
            hint="check that both files name studies alike and hold the same split",
        )
    absent = [name for name in known if name not in offered]
    if absent and not partial:
        raise InputRefused(
            "references without a prediction",
            code="missing_ids",
            expected="one prediction for each reference",
            got=listed(absent),
            hint="predict them, or allow it (partial) to score the others and say so",
        )
    pairs = [Pair(offered[name], record) for name, record in known.items() if name in offered]
    if not pairs:
        raise InputRefused("nothing to score", code="no_reports", expected="at least one pair", got="none")
    _refuse_mixed(pairs)
    left_out = [f"{len(absent)} of {len(known)} references have no prediction and were left out."] if absent else []
    return pairs, left_out


def _refuse_mixed(pairs: Sequence[Pair]) -> None:
    crossed = [pair.candidate.id for pair in pairs if pair.candidate.language != pair.reference.language]
    spoken = sorted({record.language for pair in pairs for record in (pair.candidate, pair.reference)})
    if crossed or len(spoken) > 1:
        raise InputRefused(
            "mixed languages",
            code="mixed_languages",
            expected="predictions and references in one language",
            got=f"languages differ within {listed(crossed)}" if crossed else " and ".join(spoken),
            hint="choose one with language en or zh, and score them one after the other",
        )


def _loaded(source: Path | str | Sequence[Record], language: Language | None, findings_from: FindingsFrom) -> ReportSet:
    if isinstance(source, (str, Path)):
        return read_reports(Path(source), language=language, findings_from=findings_from)
    return ReportSet(tuple(r for r in source if language in (None, r.language)))


def _rivals(pairs: Sequence[Pair], pool: Sequence[Record], seed: int) -> dict[str, list[Pair]]:
    """Baseline name -> its reports paired with the references."""
    truth = [pair.reference for pair in pairs]
    source = truth if len(pool) == len(truth) and all(a is b for a, b in zip(pool, truth, strict=True)) else pool
    found = {name: build(truth, source, seed) for name, build in BASELINES.items()}
    return {
        name: [Pair(record, reference) for record, reference in zip(records, truth, strict=True)]
        for name, records in found.items()
        if records is not None
    }


def _results(
    scorer: Scorer,
    pairs: Sequence[Pair],
    tally: np.ndarray,
    rivals: Mapping[str, Sequence[Pair]],
    control: bool,
    resamples: int,
    permutations: int,
    seed: int,
) -> list[Result]:
    clusters = [pair.reference.cluster for pair in pairs]
    found = estimates(scorer, tally, clusters, resamples=resamples, level=LEVEL, seed=seed)
    others = {name: scorer.values(scorer.tally(rival).sum(axis=0)) for name, rival in rivals.items()}
    controls = shuffled_control(scorer, pairs, permutations=permutations, seed=seed) if control else {}
    return [
        Result(
            scorer=scorer.name,
            measure=measure.name,
            says=measure.says,
            smaller_is_better=measure.smaller_is_better,
            estimate=found[measure.name],
            baselines={name: defined(float(values[measure.name])) for name, values in others.items()},
            control=controls.get(measure.name),
            worst=measure.low,
            best=measure.high,
        )
        for measure in scorer.measures
    ]


def _support_notes(name: str, rows: Sequence[Mapping]) -> list[str]:
    without = [row for row in rows if not row["in_macro"]]
    if not without:
        return []
    wrong = sum(row["predicted"] for row in without)
    labels = ", ".join(row["label"] for row in without)
    return [
        f"{name}: {len(without)} of {len(rows)} labels have no positive reference and are left out of macro averages "
        f"({labels}); the system calls them positive {wrong} times, which the micro averages count."
    ]


def _patients(records: Sequence[Record]) -> int | None:
    known = [record.patient for record in records if record.patient is not None]
    return len(set(known)) if len(known) == len(records) else None


def _diversities(pairs: Sequence[Pair], rivals: Mapping[str, Sequence[Pair]], seed: int) -> dict[str, Diversity]:
    truth = [pair.reference for pair in pairs]
    usual = mean_distance(truth, seed)
    sets = {"system": pairs, **rivals}
    found = {name: diversity([pair.candidate for pair in some], usual, seed) for name, some in sets.items()}
    return {**found, "references": diversity(truth, usual, seed)}


def _version() -> str:
    from ctscribe import __version__

    return __version__
