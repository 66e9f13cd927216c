"""Predictions and references in, scorecard out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.errors import UsageError
from ctscribe.evaluation import downstream
from ctscribe.evaluation.diversity import Diversity, collapse_of, diversity, mean_distance
from ctscribe.evaluation.facts import Facts
from ctscribe.evaluation.importers import Form
from ctscribe.evaluation.intervals import Estimate, all_estimates
from ctscribe.evaluation.labels import Labels
from ctscribe.evaluation.pairing import matched, one_language, pair_up
from ctscribe.evaluation.reading import FindingsFrom, parsing_note, read_rows, record_of
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.registry import default_scorers
from ctscribe.evaluation.scorecard import Result, Scorecard
from ctscribe.evaluation.scorer import Scorer, defined
from ctscribe.evaluation.strata import fields_of, strata_rows
from ctscribe.evaluation.stream import Crew, Shards, from_records, prepared, scored, workroom
from ctscribe.evaluation.tokens import CONVENTIONS
from ctscribe.evaluation.yardsticks import Beside, Yardsticks, rivals_of
from ctscribe.ontology import Language

LEVEL = 0.95

# Pairs that baselines, shuffled control and diversity are computed on at most: enough to place a system, and their
# cost does not grow with the set.
SAMPLE = 5000

# Reports of a pool that baselines are drawn from at most.
POOL = 20_000

# Pairs whose single scores are kept in memory at most; those of more go to the file only.
DETAILED = 5000

__all__ = ["Evaluation", "Settings", "evaluate", "evaluated", "pair_up", "run_evaluate"]


@dataclass(frozen=True)
class Settings:
    """How to evaluate; `evaluate` says what each means.

    Attributes:
        by: fields of the references to stratify by, () for the usual ones that are there.
        form: form of the predictions file.
        ref_form: form of the references file.
        extra: scorers added to those of the registry.
    """

    scorers: Sequence[Scorer] | None = None
    extra: Sequence[Scorer] = ()
    pool: Path | str | Sequence[Record] | None = None
    language: Language | None = None
    findings_from: FindingsFrom = "given"
    partial: bool = False
    baselines: bool = True
    resamples: int = 1000
    permutations: int = 20
    seed: int = 0
    by: Sequence[str] = ()
    form: Form = "auto"
    ref_form: Form = "auto"
    processes: int = 1


@dataclass(frozen=True)
class Evaluation:
    """A scorecard and what it was made from, for a comparison with another.

    Attributes:
        card: the scorecard.
        scorers: fitted, in the order of the card.
        tallies: scorer name -> float64 (pairs, counts).
        facts: of the pairs, in the order of the references.
    """

    card: Scorecard
    scorers: tuple[Scorer, ...]
    tallies: Mapping[str, np.ndarray]
    facts: Facts


def evaluate(
    predictions: Path | str | Sequence[Record],
    references: Path | str | Sequence[Record],
    *,
    system: str = "system",
    scorers: Sequence[Scorer] | None = None,
    extra: Sequence[Scorer] = (),
    pool: Path | str | Sequence[Record] | None = None,
    language: Language | None = None,
    findings_from: FindingsFrom = "given",
    partial: bool = False,
    baselines: bool = True,
    resamples: int = 1000,
    permutations: int = 20,
    seed: int = 0,
    by: Sequence[str] = (),
    form: Form = "auto",
    ref_form: Form = "auto",
    processes: int = 1,
) -> Scorecard:
    """Score predicted reports against references.

    Args:
        predictions: a file (JSONL, or a form of `importers`) or records.
        references: the same.
        system: name printed on the scorecard.
        scorers: which metrics; None for all of `registry` and the downstream ones.
        extra: further metrics beside those.
        pool: reports the baselines are drawn from, such as the training set; None for the references.
        language: score only reports in this language.
        findings_from: ``"given"`` prefers structured findings in the files, ``"text"`` parses every text.
        partial: allow references without a prediction (they are left out, and the scorecard says how many).
        baselines: score the baselines and the shuffled control too.
        resamples: bootstrap samples; 0 for no intervals.
        permutations: shuffles of the control.
        seed: of everything random.
        by: fields of the references to stratify by; () for scanner, thickness, sex and age where they are stated.
        form: form of the predictions file; ``"auto"`` tells it from the content.
        ref_form: form of the references file.
        processes: worker processes; a script that asks for several must be guarded by ``if __name__ == "__main__":``.

    Raises:
        UnreadableInput: a file cannot be read as reports.
        InputRefused: ids that do not match, empty texts, mixed languages and the like.
    """
    settings = Settings(
        scorers=scorers,
        extra=extra,
        pool=pool,
        language=language,
        findings_from=findings_from,
        partial=partial,
        baselines=baselines,
        resamples=resamples,
        permutations=permutations,
        seed=seed,
        by=by,
        form=form,
        ref_form=ref_form,
        processes=processes,
    )
    return evaluated(predictions, references, system, settings).card


def run_evaluate(
    predictions: Path, references: Path, out: Path | None = None, *, system: str | None = None, **settings: Any
) -> Scorecard:
    """`evaluate` two files and write the scorecard into a folder: what the command line calls.

    Args:
        out: folder for the files of `writer`; made when missing. None writes nothing.
        system: name on the scorecard; None for the name of the predictions file.
        settings: see `evaluate`.

    Raises:
        UnreadableInput, InputRefused: see `evaluate`.
    """
    chosen = Settings(**settings)
    name = system or predictions.stem
    if out is None:
        return evaluated(predictions, references, name, chosen).card
    return evaluated_into(predictions, references, out, name, chosen).card


def evaluated_into(predictions: Path, references: Path, out: Path, system: str, settings: Settings) -> Evaluation:
    """Evaluate two files and write the scorecard into a folder.

    Raises:
        UsageError: the folder cannot be made or written to.
        UnreadableInput, InputRefused: see `evaluate`.
    """
    from ctscribe.evaluation.writer import REPORTS, made, write_scorecard

    with workroom() as folder:
        lines = folder / REPORTS
        found = evaluated(predictions, references, system, settings, lines)
        write_scorecard(found.card, made(out), reports=lines)
    return found


def evaluated(
    predictions: Path | str | Sequence[Record],
    references: Path | str | Sequence[Record],
    system: str,
    settings: Settings,
    lines: Path | None = None,
) -> Evaluation:
    """Do all of it.

    Args:
        lines: file for one line of details a report; None keeps them on the scorecard, if they are not too many.

    Raises:
        UnreadableInput, InputRefused: see `evaluate`.
    """
    s = settings
    with ExitStack() as stack:
        folder, crew = stack.enter_context(workroom()), stack.enter_context(Crew(s.processes))
        shards, facts, notes = _read(predictions, references, s, crew, folder)
        fields, pool, chosen = fields_of(facts, s.by), _pool(s), _wanted(s, facts)  # whatever is wrong is said first
        fitted = [scorer.fitted(shards.references) for scorer in chosen]
        details = lines is not None or len(shards) <= DETAILED
        scores = scored(fitted, shards, crew, folder, details=details, lines=lines)
        sample = _sample(shards, s.seed)
        rivals = rivals_of(sample, pool, s.seed) if s.baselines else {}
        yardsticks = Yardsticks(sample, rivals, s.permutations if s.baselines else None, s.seed)
        beside = yardsticks.all_beside(fitted, crew, folder)
    results, tables, said = _measured(fitted, scores.tallies, facts, beside, s)
    if len(sample) < len(facts.ids) and s.baselines:
        here = f"{len(sample)} of {len(facts.ids)} pairs"
        said.append(f"Baselines, the shuffled control and distances are computed on {here}.")
    strata = strata_rows(fitted, scores.tallies, facts, fields, resamples=s.resamples, level=LEVEL, seed=s.seed)
    language = sample[0].reference.language
    card = Scorecard(
        system=system,
        language=language,
        reports=len(facts.ids),
        patients=len(set(facts.clusters)) if all(facts.known_patients) else None,
        tokens=CONVENTIONS[language],
        results=tuple(results),
        tables=tables,
        diversity=_diversities(sample, rivals, facts, s.seed),
        per_report=scores.per_report,
        notes=tuple(dict.fromkeys((*notes, *said))),
        settings={"seed": s.seed, "resamples": s.resamples, "permutations": s.permutations, "level": LEVEL},
        software=_version(),
        strata=tuple(strata),
        worst=scores.worst,
        curves={"froc": downstream.froc_points(facts)} if "froc" in tables else {},
    )
    return Evaluation(card, tuple(fitted), scores.tallies, facts)


# ------------------------------------------------------------------------------------------ reading


def _read(
    predictions: Path | str | Sequence[Record],
    references: Path | str | Sequence[Record],
    s: Settings,
    crew: Crew,
    folder: Path,
) -> tuple[Shards, Facts, list[str]]:
    """Shards of pairs in the order of the references, facts, notes."""
    if isinstance(predictions, (str, Path)) and isinstance(references, (str, Path)):
        paths = (Path(predictions), Path(references))
        ours = read_rows(paths[0], language=s.language, role="predictions", form=s.form)
        theirs = read_rows(paths[1], language=s.language, role="references", form=s.ref_form)
        where = str(paths[0])
        places, left_out = matched(ours.rows, theirs.rows, partial=s.partial, where=where)
        rows = [(ours.rows[i], theirs.rows[j]) for i, j in places]
        one_language(rows, where=where)
        shards, facts = prepared(rows, paths, s.findings_from, crew, folder)
        notes = [*ours.notes, *theirs.notes, *left_out]
    else:
        records = [_records(predictions, s, "predictions"), _records(references, s, "references")]
        where = str(predictions) if isinstance(predictions, (str, Path)) else ""
        pairs, notes = pair_up(*records, partial=s.partial, where=where)
        shards, facts = from_records(pairs, crew, folder)
    sources = [Path(x).name if isinstance(x, (str, Path)) else None for x in (predictions, references)]
    for name, parsed in zip(sources, facts.parsed.sum(axis=0).tolist(), strict=True):
        if name is not None:
            notes.append(parsing_note(name, parsed, len(facts.ids)))
    return shards, facts, notes


def _records(source: Path | str | Sequence[Record], s: Settings, role: Any) -> list[Record]:
    if not isinstance(source, (str, Path)):
        return [record for record in source if s.language in (None, record.language)]
    form = s.form if role == "predictions" else s.ref_form
    found = read_rows(Path(source), language=s.language, role=role, form=form)
    return [record_of(found.path, row, s.findings_from, role) for row in found.rows]


def _pool(s: Settings) -> list[Record] | None:
    """The reports baselines are drawn from, a sample of many; None for the references."""
    if s.pool is None:
        return None
    if not isinstance(s.pool, (str, Path)):
        return list(s.pool)
    found = read_rows(Path(s.pool), language=s.language, form="auto")
    rows = found.rows
    if len(rows) > POOL:
        chosen = np.sort(np.random.default_rng(s.seed).choice(len(rows), POOL, replace=False))
        rows = tuple(rows[i] for i in chosen.tolist())
    return [record_of(found.path, row, s.findings_from) for row in rows]


def _sample(shards: Shards, seed: int) -> list[Pair]:
    """All pairs of a small set, a random part of a large one, in their order."""
    n = len(shards)
    chosen = range(n) if n <= SAMPLE else np.sort(np.random.default_rng(seed).choice(n, SAMPLE, replace=False)).tolist()
    return shards.pairs(chosen)


# ------------------------------------------------------------------------------------------ scoring


def _wanted(s: Settings, facts: Facts) -> tuple[Scorer, ...]:
    """The scorers to run, each name once.

    Raises:
        UsageError: two have the same name.
    """
    own = (*default_scorers(), *downstream.text_scorers(), *downstream.given_scorers(facts))
    chosen = (*(own if s.scorers is None else s.scorers), *s.extra)
    names = [scorer.name for scorer in chosen]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"metric {repeated[0]!r}", expected="every metric once", got="the name twice")
    return chosen


def _measured(
    fitted: Sequence[Scorer],
    tallies: Mapping[str, np.ndarray],
    facts: Facts,
    beside: Sequence[Beside],
    s: Settings,
) -> tuple[list[Result], dict[str, list[dict[str, Any]]], list[str]]:
    """Every measure beside its baselines, the tables behind them, and notes."""
    found = all_estimates(fitted, tallies, facts.clusters, resamples=s.resamples, level=LEVEL, seed=s.seed)
    results: list[Result] = []
    tables: dict[str, list[dict[str, Any]]] = {}
    notes: list[str] = []
    for scorer, other in zip(fitted, beside, strict=True):
        results += _results(scorer, found[scorer.name], other)
        if rows := scorer.table(tallies[scorer.name].sum(axis=0)):
            tables[scorer.name] = rows
        if isinstance(scorer, Labels):
            notes += _support_notes(scorer.name, rows)
    if s.scorers is None:
        ranked, own = downstream.ranking(facts, resamples=s.resamples, level=LEVEL, seed=s.seed)
        boxed, rates, said = downstream.boxes(facts, resamples=s.resamples, level=LEVEL, seed=s.seed)
        results, tables, notes = [*results, *ranked, *boxed], {**tables, **own, **rates}, [*notes, *said]
    if not all(facts.known_patients):
        notes.append("Patients are not stated for every reference: intervals take each report as independent.")
    return results, tables, notes


def _results(scorer: Scorer, found: Mapping[str, Estimate], beside: Beside) -> list[Result]:
    return [
        Result(
            scorer=scorer.name,
            measure=measure.name,
            says=measure.says,
            smaller_is_better=measure.smaller_is_better,
            estimate=found[measure.name],
            baselines={name: defined(values[measure.name]) for name, values in beside.baselines.items()},
            control=beside.control.get(measure.name),
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


def _diversities(
    sample: Sequence[Pair], rivals: Mapping[str, Sequence[Pair]], facts: Facts, seed: int
) -> dict[str, Diversity]:
    """Distinct shares of the system and of the references are of the whole set, distances of the sample."""
    sides = {"system": [p.candidate for p in sample], "references": [p.reference for p in sample]}
    usual = mean_distance(sides["references"], seed)
    found = {name: diversity([pair.candidate for pair in some], usual, seed) for name, some in rivals.items()}
    for column, (name, records) in enumerate(sides.items()):
        counts = np.unique(facts.texts[:, column], return_counts=True)[1]
        distance = mean_distance(records, seed)
        found[name] = Diversity(
            distinct=len(counts) / len(facts.texts),
            most_common=float(counts.max() / len(facts.texts)),
            distance=distance,
            collapse=collapse_of(distance, usual),
        )
    return {name: found[name] for name in ("system", *rivals, "references")}


def _version() -> str:
    from ctscribe import __version__

    return __version__
