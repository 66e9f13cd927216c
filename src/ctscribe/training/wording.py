"""Language pretraining: the writer learns to say facts, before it ever sees a scan.

Random plausible findings are rendered to text in either language; their facts are the memory, the text is the target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ctscribe import ontology
from ctscribe.data.batch import Sample, pad_examples
from ctscribe.facts import FindingFacts, canonical, facts_of
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.report import Finding, report_order
from ctscribe.report.render import render_findings
from ctscribe.report.sampler import PERTINENT_NEGATIVES, sample_findings

BETWEEN = {"en": " ", "zh": ""}


WordingSample = tuple[tuple[Finding, ...], str, ontology.Language]


@dataclass(frozen=True)
class TextBatch:
    """Facts and the reports that say them; no scan."""

    facts: FindingFacts
    input_ids: Int[Tensor, "b l"]
    labels: Int[Tensor, "b l"]
    attention: Int[Tensor, "b l"]
    volume: None = None
    regions: None = None
    targets: None = None

    def to(self, device: torch.device | str) -> TextBatch:
        return replace(
            self,
            facts=self.facts.to(device),
            input_ids=self.input_ids.to(device),
            labels=self.labels.to(device),
            attention=self.attention.to(device),
        )


def report_text(findings: Sequence[Finding], language: ontology.Language, seed: int | None) -> str:
    """The findings section as one string; seed None is the canonical wording."""
    sentences = render_findings(canonical(findings), language, seed)
    return BETWEEN[language].join(s.text for s in sentences)


def with_every_negative(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """What is present or uncertain, and every pertinent negative that nothing said or implied contradicts."""
    said = [f for f in canonical(findings) if f.status != "absent"]
    mentioned = {kind for f in said for kind in ontology.implied(f.kind)}
    negatives = [k for kinds in PERTINENT_NEGATIVES.values() for k in kinds if k not in mentioned]
    return report_order([*said, *(Finding(kind, "absent") for kind in negatives)])


def taught_text(
    findings: Sequence[Finding], language: ontology.Language, rng: np.random.Generator, variety: float
) -> str:
    """The report a writer is taught to write.

    Args:
        variety: share of reports in free wording with whatever negatives ``findings`` hold. All others are the
            canonical wording with every pertinent negative: a function of the facts alone, so that every word the
            writer gets wrong is a fact it got wrong.
    """
    if rng.random() < variety:
        return report_text(findings, language, int(rng.integers(2**31)))
    return report_text(with_every_negative(findings), language, None)


@dataclass(frozen=True)
class Spoken:
    """A transform: gives a study with structured findings a report in one of the languages, see `taught_text`."""

    variety: float = 0.0
    languages: tuple[ontology.Language, ...] = ontology.LANGUAGES

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        language = self.languages[int(rng.integers(len(self.languages)))]
        text = taught_text(sample.findings or (), language, rng, self.variety)
        return replace(sample, text=text, language=language)


class WordingSamples:
    """An endless-looking dataset of (findings, text, language); item i is a pure function of (seed, i)."""

    def __init__(
        self,
        seed: int,
        length: int = 1_000_000,
        variety: float = 0.0,
        languages: tuple[ontology.Language, ...] = ontology.LANGUAGES,
    ) -> None:
        self.seed, self.length, self.variety, self.languages = seed, length, variety, languages

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> WordingSample:
        rng = np.random.default_rng([self.seed, index])
        language = self.languages[index % len(self.languages)]
        busy = float(rng.choice([0.0, 2.0, 4.0, 7.0], p=[0.1, 0.25, 0.4, 0.25]))
        findings = canonical(sample_findings(rng, mean_present=busy, uncertain=0.05, fine_regions=0.0))
        return findings, taught_text(findings, language, rng, self.variety), language

    def length_of(self, index: int) -> float:
        """Characters of the text; a Chinese one has about a third as many for as many tokens."""
        _, text, language = self[index]
        return len(text) * (3 if language == "zh" else 1)


def collate_wording(tokenizer: ReportTokenizer, longest: int) -> Callable[[list[WordingSample]], TextBatch]:
    """Samples -> `TextBatch`."""

    def collate(samples: list[WordingSample]) -> TextBatch:
        examples = [tokenizer.example(text, language, longest) for _, text, language in samples]
        return TextBatch(facts_of([findings for findings, _, _ in samples]), *pad_examples(examples, tokenizer.pad))

    return collate


def train_tokenizer(vocab: int, seed: int, reports: int = 12_000) -> ReportTokenizer:
    """A bilingual tokenizer from rendered reports."""
    samples = WordingSamples(seed, reports, variety=0.5)
    return ReportTokenizer.train((samples[i][1] for i in range(reports)), vocab)
