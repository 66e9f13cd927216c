"""Studies of a data set on their way into a store: names become pseudonyms, identifiers leave the texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ctscribe.config import json_hash
from ctscribe.data.deidentify.text import scrub
from ctscribe.data.interval import Interval, interval, scan_dates
from ctscribe.data.manifest import Split, draw_split
from ctscribe.data.pseudonym import Pseudonyms
from ctscribe.data.sources import Source, SourceStudy
from ctscribe.data.store import written_rows
from ctscribe.data.study import Study
from ctscribe.errors import InputRefused, UsageError
from ctscribe.training.prepare import Preparation

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@dataclass(frozen=True)
class Job:
    """One study on its way into a process: all it needs, and nothing it must not write.

    Attributes:
        prior: its earlier scan, if that is among the studies.
    """

    id: str
    study: SourceStudy
    prepare: Preparation
    scrub: bool
    volumes: Path | None
    extra: dict[str, Any]
    prior: SourceStudy | None = None

    @property
    def volume(self) -> Path:
        """Where the scan at full resolution is kept."""
        return (self.volumes or Path()) / f"{self.id}.b2nd"


def splits_of(studies: list[SourceStudy]) -> dict[str, Split]:
    """Patient -> split. What the source has fixed holds for all studies of a patient; the rest is drawn among the
    splits that the source does not fill itself."""
    fixed = {study.patient: study.split for study in studies if study.split}
    open_ = {name: share for name, share in SHARES.items() if name == "train" or name not in fixed.values()}
    shares = {name: share / sum(open_.values()) for name, share in open_.items()}
    return {s.patient: fixed.get(s.patient) or draw_split(s.patient, shares) for s in studies}


@dataclass(frozen=True)
class Jobs:
    """Makes jobs of studies: names become pseudonyms here, and identifiers leave the texts."""

    source: Source
    names: Pseudonyms
    prepare: Preparation
    splits: dict[str, Split]
    scrub_texts: bool
    volumes: Path | None
    studies: Mapping[str, SourceStudy]

    def job(self, study: SourceStudy) -> Job:
        found = 0
        if self.scrub_texts:
            study, found = scrubbed(study, (study.study, study.patient))
        for path, option in ((study.regions, "regions_scheme"), (study.lesions, "lesions_scheme")):
            if path is not None and not getattr(self.prepare, option):
                raise UsageError(
                    f"{study.where} names a label map of {option.partition('_')[0]}",
                    expected="the scheme of its labels",
                    hint=f"give --{option.replace('_', '-')}, or leave the column empty",
                )
        extra: dict[str, Any] = {
            "source": self.source.name,
            "prepared": self.how,
            "patient": self._name("patient", study.patient),
            "split": self.splits[study.patient],
            "scrubbed": found,
        }
        if study.prior is not None:
            extra["prior"] = self.id(study.prior)
        if study.synthetic:
            extra["synthetic_text"] = True
        if study.image is not None:
            study = replace(study, regions=self.prepare.label_map(study))
        prior = self.studies.get(study.prior or "")
        return Job(self.id(study.study), study, self.prepare, self.scrub_texts, self.volumes, extra, prior)

    @cached_property
    def how(self) -> str:
        """Short hash of everything that decides what is kept of a study, but this program's version."""
        chosen = {key: value for key, value in self.prepare.recipe().items() if key != "version"}
        return json_hash({**chosen, "scrub": self.scrub_texts})

    def id(self, study: str) -> str:
        return f"{self.source.name}-{self._name('study', study)}"

    def _name(self, what: str, identifier: str) -> str:
        return self.names.name(what, f"{self.source.name}/{identifier}")


def scrubbed(study: SourceStudy, identifiers: tuple[str, ...]) -> tuple[SourceStudy, int]:
    """The study with scrubbed texts, and how many passages were taken out."""
    names = ("findings", "impression", "history")
    clean = {name: scrub(getattr(study, name), identifiers) for name in names}
    sentences = tuple((region, scrub(text, identifiers).text) for region, text in study.sentences)
    texts: dict[str, Any] = {name: text.text for name, text in clean.items()}
    return replace(study, sentences=sentences, **texts), sum(text.removed for text in clean.values())


def days_since_prior(job: Job, scan: Study) -> Interval | None:
    """Days since the earlier scan of a study that was just read, as its source says or by both headers; None without.

    Raises:
        InputRefused: ``prior_later``.
    """
    if job.study.prior is None:
        return None
    given, prior = job.study.prior_days, job.prior
    if given is not None:
        return Interval(given, "given")
    if prior is None or prior.image is None or not job.study.dated:
        return Interval(None, "unknown", "no_dates")
    found = interval(scan.dates, scan_dates(prior.image, prior.series, job.prepare.policy))
    if found.days is not None and found.days < 0:
        raise InputRefused(
            f"its earlier scan ({prior.where}) was made later, by the {found.origin} dates in both headers",
            code="prior_later",
            expected="an earlier scan",
            got=f"one made {-found.days:g} days later",
            hint="name the right one, or say how many days lie between them",
        )
    return found


def check_same_way(jobs: list[Job], out: Path) -> None:
    """What is there already must be what these options would make; studies from before this was noted are taken.

    Raises:
        UsageError: some of them were prepared otherwise, or their volumes were not kept.
    """
    wanted = {job.id: job for job in jobs}
    there = {row["id"]: row.get("extra", {}).get("prepared") for row in written_rows(out) if row["id"] in wanted}
    other = [study for study, how in there.items() if how not in (None, wanted[study].extra["prepared"])]
    if other:
        raise UsageError(
            f"{out} holds {len(other)} of these studies, and they were prepared otherwise",
            expected="the segmenter, schemes, grid and treatment of texts of the run before",
            hint="use another --out, or the options of the run before",
        )
    apart = next((job for job in jobs if job.volumes is not None and job.id in there and not job.volume.exists()), None)
    if apart is not None:
        raise UsageError(
            f"{out} holds studies whose scans at full resolution were not kept in {apart.volumes}",
            expected="--volumes from the first run on",
            hint="use another --out, or leave --volumes out",
        )
