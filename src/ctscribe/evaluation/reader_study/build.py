"""From files of reports to a blinded reading set: pages and forms for the readers, and a key that stays behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ctscribe import __version__
from ctscribe.errors import InputRefused, UsageError
from ctscribe.evaluation.reader_study.design import Design, assign, shuffled
from ctscribe.evaluation.reader_study.forms import answer_columns, finding_columns, form
from ctscribe.evaluation.reader_study.images import key_images
from ctscribe.evaluation.reader_study.key import WARNING, Item, Key, Scan
from ctscribe.evaluation.reader_study.masking import codes, refuse_names, telltale_lines
from ctscribe.evaluation.reader_study.page import render
from ctscribe.evaluation.reader_study.questions import checklist, words
from ctscribe.evaluation.reader_study.sources import Reports, Source, opened
from ctscribe.evaluation.reading import listed
from ctscribe.evaluation.record import Record, closure
from ctscribe.ontology import Language

REFERENCE = "reference"

_README = """Reading set {study}: {readers} readers, {cases} cases, {items} readings.

readers/   one folder for each reader: send each reader his or her own, and no other.
           reading.html   open it in a browser; nothing is sent anywhere; save the answers and send the file back
           answers.csv    the same questions as a form, for those who prefer a spreadsheet
key/       {warning}

Put the files that come back into one folder, then: ctscribe reader-study score FOLDER --key key/key.json --out RESULTS
"""


@dataclass(frozen=True)
class ReadingSet:
    """What `build` makes.

    Attributes:
        key: who reads what, and who wrote it.
        texts: (case, system code) -> report, as it is shown.
        references: case -> reference report, where readers see it; else empty.
        images: case -> key images as data URIs; else empty.
        notes: what the organiser should know.
    """

    key: Key
    texts: Mapping[tuple[str, str], str] = field(repr=False)
    references: Mapping[str, str] = field(repr=False)
    images: Mapping[str, list[str]] = field(repr=False)
    notes: tuple[str, ...] = ()

    def files(self) -> dict[str, bytes]:
        """Relative path -> content of every file of the set."""
        key = self.key
        readme = _README.format(
            study=key.study,
            readers=len(key.readers),
            cases=len(key.clusters),
            items=len(key.items) + len(key.scans),
            warning=WARNING,
        )
        found = {"README.txt": readme.encode(), "key/key.json": key.to_json().encode()}
        for reader in key.readers:
            found[f"readers/{reader}/reading.html"] = render(self, reader).encode()
            found[f"readers/{reader}/answers.csv"] = self._answers_form(reader)
            if key.scans:
                found[f"readers/{reader}/findings.csv"] = self._findings_form(reader)
        return found

    def _answers_form(self, reader: str) -> bytes:
        columns = (*answer_columns(), "report", *(("reference",) if self.references else ()))
        rows = []
        for item in self.key.items:
            if item.reader == reader:
                texts = {"report": self.texts[item.case, item.system]}
                if self.references:
                    texts["reference"] = self.references[item.case]
                rows.append({**self._where(item), **texts})
        return form(columns, rows)

    def _findings_form(self, reader: str) -> bytes:
        return form(finding_columns(), (self._where(scan) for scan in self.key.scans if scan.reader == reader))

    def _where(self, item: Item | Scan) -> dict[str, str | int]:
        return {
            "study": self.key.study,
            "reader": item.reader,
            "number": item.position,
            "item": item.code,
            "case": item.case,
        }


def build(
    predictions: Mapping[str, Source],
    references: Source,
    *,
    readers: int,
    cases: int | None = None,
    design: Design | None = None,
    overlap: int | None = None,
    repeats: int | None = None,
    include_reference: bool = False,
    show_reference: bool = False,
    findings: bool = False,
    images: Path | None = None,
    language: Language | None = None,
    seed: int = 0,
) -> ReadingSet:
    """Build a blinded, randomised reading set.

    Args:
        predictions: system name -> JSONL file (see `reading`) or records.
        references: reference reports; a case must be in all files.
        readers: how many readers.
        cases: how many cases to draw; None for all.
        design: see `design`; None is crossed, or split where `overlap` is given.
        overlap: cases that every reader reads, in the designs split and once.
        repeats: texts that each reader reads twice; None for a tenth.
        include_reference: the reference reports are read too, masked like a system.
        show_reference: readers see the reference beside each report.
        findings: readers first read each scan and tick which of CT-RATE's 18 findings are there.
        images: folder of key images, see `images`.
        language: read only reports in this language.
        seed: of every draw.

    Raises:
        UsageError: numbers or options that do not fit together.
        InputRefused: files that do not fit together, or a text that names its system.
        UnreadableInput: a file that cannot be read.
    """
    design = design or ("crossed" if overlap is None else "split")
    _check_options(predictions, readers, cases, design, overlap, repeats, include_reference, show_reference)
    opened_truth = opened(references, language, "references")
    systems = {name: opened(source, language, "predictions") for name, source in predictions.items()}
    if include_reference:
        systems[REFERENCE] = opened_truth
    shared, left_out = _shared(systems, opened_truth)
    rng = np.random.default_rng(seed)
    chosen = _chosen(shared, cases, rng)
    notes = [*left_out, *dict.fromkeys(note for one in (opened_truth, *systems.values()) for note in one.notes)]
    truth = {case: opened_truth.record(case) for case in chosen}
    written = {name: {case: one.record(case) for case in chosen} for name, one in systems.items()}
    shown = {name: {case: _tidy(records[case].text) for case in chosen} for name, records in written.items()}
    refuse_names({name: texts for name, texts in shown.items() if name != REFERENCE})
    notes += telltale_lines(shown)
    names = shuffled(list(shown), rng)
    slots = assign(len(chosen), len(names), readers, design=design, overlap=overlap or 0, repeats=repeats, rng=rng)
    masks = dict(zip(names, codes(len(names), rng), strict=True))
    people = tuple(f"reader-{number + 1}" for number in range(readers))
    items, scans = _items(slots, chosen, [masks[name] for name in names], people, findings, rng)
    key = Key(
        study=_study_code(seed, shown, items),
        instrument=words()["instrument"],
        design=design,
        seed=seed,
        language=truth[chosen[0]].language,
        software=__version__,
        systems={mask: name for name, mask in masks.items()},
        reference=masks.get(REFERENCE),
        clusters=_clusters([truth[case] for case in chosen]),
        readers=people,
        items=items,
        scans=scans,
        labels=_labels(written, masks, chosen) if findings else {},
    )
    return ReadingSet(
        key=key,
        texts={(case, masks[name]): text for name, texts in shown.items() for case, text in texts.items()},
        references={case: _tidy(truth[case].text) for case in chosen} if show_reference else {},
        images=key_images(images, chosen) if images is not None else {},
        notes=(*notes, *_notes(key, show_reference, images)),
    )


# ------------------------------------------------------------------------------------------ what is read
def _check_options(
    predictions: Mapping[str, Source],
    readers: int,
    cases: int | None,
    design: Design,
    overlap: int | None,
    repeats: int | None,
    include_reference: bool,
    show_reference: bool,
) -> None:
    numbers = (("readers", readers, 1), ("cases", cases, 1), ("overlap", overlap, 0), ("repeats", repeats, 0))
    for option, value, least in numbers:
        if value is not None and value < least:
            raise UsageError(f"--{option}", expected=f"{least} or more", got=str(value))
    if not predictions:
        raise UsageError("no predictions", expected="at least one file of predicted reports")
    if REFERENCE in predictions and include_reference:
        raise UsageError(f"a system called {REFERENCE!r}", expected="another name", hint="NAME=FILE")
    if include_reference and show_reference:
        raise UsageError(
            "--include-reference with --show-reference",
            expected="one of them: a reader who sees the reference recognises it among the reports",
        )
    if design == "crossed" and overlap is not None:
        raise UsageError(
            "--overlap in a crossed design",
            expected="no overlap: every reader reads everything",
            got=str(overlap),
            hint="--design split or --design once",
        )


def _shared(systems: Mapping[str, Reports], truth: Reports) -> tuple[list[str], list[str]]:
    """Cases that every file has, in the order of the references, and a note on those left out."""
    spoken = {name: one.languages() for name, one in systems.items()}
    reference = truth.languages()
    cases = [case for case in reference if all(case in own for own in spoken.values())]
    if not cases:
        raise InputRefused(
            "no case is in all files",
            code="missing_ids",
            expected="the same ids in the predictions and the references",
            got="; ".join(f"{name}: {listed(list(own)[:3])}" for name, own in spoken.items()),
        )
    languages = sorted({own[case] for own in (reference, *spoken.values()) for case in cases})
    if len(languages) > 1:
        raise InputRefused(
            "mixed languages",
            code="mixed_languages",
            expected="all reports in one language",
            got=" and ".join(languages),
            hint="choose one with --lang en or --lang zh",
        )
    known = set(reference).union(*spoken.values())
    left = len(known) - len(cases)
    return cases, [f"{left} of {len(known)} cases are not in all files and were left out."] if left else []


def _chosen(shared: Sequence[str], cases: int | None, rng: np.random.Generator) -> list[str]:
    if cases is None:
        return list(shared)
    if cases > len(shared):
        raise InputRefused(
            "too few cases",
            code="too_few_cases",
            expected=f"{cases} cases that are in all files (--cases)",
            got=str(len(shared)),
        )
    return [shared[i] for i in sorted(rng.choice(len(shared), cases, replace=False))]


def _tidy(text: str) -> str:
    """Line ends, trailing blanks and runs of empty lines alike for all systems: layout must not tell them apart."""
    lines = [" ".join(line.split()) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    kept = [line for i, line in enumerate(lines) if line or (i and lines[i - 1])]
    return "\n".join(kept).strip()


# ------------------------------------------------------------------------------------------ who reads it
def _items(
    slots: Sequence[Sequence],
    cases: Sequence[str],
    masks: Sequence[str],
    people: Sequence[str],
    findings: bool,
    rng: np.random.Generator,
) -> tuple[tuple[Item, ...], tuple[Scan, ...]]:
    scans_of = [sorted({slot.case for slot in work}) if findings else [] for work in slots]
    fresh = iter(codes(sum(map(len, slots)) + sum(map(len, scans_of)), rng))
    items, scans = [], []
    for person, work, mine in zip(people, slots, scans_of, strict=True):
        scans += [Scan(next(fresh), person, n, cases[case]) for n, case in enumerate(shuffled(mine, rng), 1)]
        first: dict[tuple[int, int], str] = {}
        for position, slot in enumerate(work, len(mine) + 1):
            code, text = next(fresh), (slot.case, slot.system)
            earlier = first.get(text) if slot.repeat else None
            first.setdefault(text, code)
            items.append(Item(code, person, position, cases[slot.case], masks[slot.system], earlier))
    return tuple(items), tuple(scans)


def _study_code(seed: int, shown: Mapping[str, Mapping[str, str]], items: Sequence[Item]) -> str:
    """The same for the same texts and seed, whatever the systems are called."""
    texts = [list(by_case.items()) for by_case in shown.values()]
    content = json.dumps([seed, texts, [item.code for item in items]], ensure_ascii=False)
    digest = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")
    return codes(1, np.random.default_rng(digest))[0]


def _clusters(records: Sequence[Record]) -> dict[str, int]:
    number: dict[tuple[str, str], int] = {}
    return {record.id: number.setdefault(record.cluster, len(number)) for record in records}


def _labels(
    written: Mapping[str, Mapping[str, Record]], masks: Mapping[str, str], cases: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """What each system says of the checklist, counted as everywhere: present or possible, and what that implies."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, records in written.items():
        said = {case: closure(records[case].possible) for case in cases}
        found[masks[name]] = {case: [kind for kind in checklist() if kind in kinds] for case, kinds in said.items()}
    return found


def _notes(key: Key, show_reference: bool, images: Path | None) -> list[str]:
    notes = []
    if len(key.readers) == 1:
        notes.append("One reader: there will be no agreement between readers.")
    if not show_reference and images is None:
        notes.append("Neither images nor references are shown: readers need the scans in a viewer of their own.")
    if len(set(key.clusters.values())) < len(key.clusters):
        notes.append("Some patients have several cases: intervals will resample patients.")
    return notes
