"""Metrics that need more than this package: weights, a program, word lists. Each is asked for by name.

    ctscribe evaluate PRED --ref REF --metric chexbert=/models/chexbert --metric bertscore=/models/roberta,layer=17

What calls this holds to three functions:

- `available()`: name -> `Adapter`, the table of what there is, what each needs and what it was trained on;
- `build(name, path, **options)`: a ready `Scorer` (see `ctscribe.evaluation.scorer`), to be handed to `evaluate` as
  ``extra``. Everything missing is said here, before any report is scored: an unknown name or option (`UsageError`), a
  package (`DependencyMissing`), a file (`CheckpointError`);
- `from_text("name=path,option=value")`: the same from the command line's words.

The scorers keep paths, not weights, so they travel to worker processes; each process loads for itself on first use.
Those with ``uses_model = True`` take milliseconds to seconds a report: a caller may leave out their shuffled control.
Nothing is downloaded, and nothing is sent anywhere: adapters that would are refused.

Most of these models read chest X-ray reports. On CT they see heart, effusion and consolidation, and are blind to most
of what a CT report is about; `Adapter.trained_on` says so for each, and so does the scorecard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ctscribe.errors import UsageError
from ctscribe.evaluation.scorer import Scorer


@dataclass(frozen=True)
class Adapter:
    """One metric that is not built in.

    Attributes:
        name: what it is called by.
        says: what it measures, one sentence.
        path: what the path must be; "" when it takes none.
        needs: the package it imports, "" for none beyond this one.
        trained_on: the texts its model learned from; "no training" when nothing was learned.
        xray_only: True when those were chest X-ray reports alone: on CT an indication at best.
        languages: languages it can read; () for those of the model given.
        options: option -> (type, what it does).
    """

    name: str
    says: str
    path: str
    needs: str
    trained_on: str
    xray_only: bool
    languages: tuple[str, ...]
    make: tuple[str, str]
    options: Mapping[str, tuple[Callable[[str], Any], str]] = field(default_factory=dict)


def _flag(word: str) -> bool:
    if word.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(word)
    return word.lower() in ("true", "1", "yes")


_DEVICE = {"device": (str, "where torch computes: cpu (default) or cuda")}

_ADAPTERS = (
    Adapter(
        "meteor_wordnet",
        "METEOR of 2007 with its synonym stage.",
        "a folder of WordNet 3.0 (Debian's wordnet-base: /usr/share/wordnet)",
        needs="",
        trained_on="no training",
        xray_only=False,
        languages=("en", "zh"),
        make=("ctscribe.evaluation.meteor", "Meteor"),
    ),
    Adapter(
        "meteor_jar",
        "METEOR 1.5 as the COCO caption evaluation runs it.",
        "meteor-1.5.jar, with data/paraphrase-en.gz beside it (both are inside pycocoevalcap)",
        needs="a Java runtime",
        trained_on="no training",
        xray_only=False,
        languages=("en",),
        make=("ctscribe.evaluation.meteor_jar", "MeteorJar"),
    ),
    Adapter(
        "words",
        "BLEU, ROUGE-L, METEOR and CIDEr of Chinese cut into words.",
        "",
        needs="jieba",
        trained_on="no training",
        xray_only=False,
        languages=("zh",),
        make=("ctscribe.evaluation.words", "ByWords"),
    ),
    Adapter(
        "bertscore",
        "Similarity of word pieces in a language model's eyes; blind to negation.",
        "a folder with a model and tokenizer in Hugging Face's format (safetensors)",
        needs="",
        trained_on="whatever the model given was trained on",
        xray_only=False,
        languages=(),
        make=("ctscribe.evaluation.bertscore", "BertScore"),
        options={
            "layer": (int, "hidden layer, counted from 1; default the last"),
            "idf": (_flag, "weigh word pieces by rarity among the references"),
            "baseline": (Path, "CSV with columns LAYER,P,R,F to rescale by"),
            **_DEVICE,
        },
    ),
    Adapter(
        "radgraph",
        "F1 of the entities and relations a network extracts.",
        "a folder with radgraph-xl/, modern-radgraph-xl/ or radgraph/ in it (config.json, weights.th, vocabulary/)",
        needs="radgraph",
        trained_on="radgraph: chest X-ray reports; the xl models also reports of chest CT, abdominal CT, brain MR",
        xray_only=False,
        languages=("en",),
        make=("ctscribe.evaluation.adapters.radgraph", "RadGraph"),
        options={"model": (str, "radgraph-xl, modern-radgraph-xl or radgraph; default the first that is there")},
    ),
    Adapter(
        "chexbert",
        "F1 of the 14 CheXpert labels a network reads.",
        "a folder with config.json, tokenizer files and chexbert.safetensors",
        needs="",
        trained_on="chest X-ray reports (CheXpert, MIMIC-CXR)",
        xray_only=True,
        languages=("en",),
        make=("ctscribe.evaluation.adapters.chexbert", "CheXbert"),
        options=_DEVICE,
    ),
    Adapter(
        "ratescore",
        "Similarity of the medical entities a network extracts, aware of negation.",
        "a folder with RaTE-NER-Deberta/ and BioLORD-2023-C/ in it",
        needs="RaTEScore",
        trained_on="reports of X-ray, CT, MR and ultrasound (RaTE-NER)",
        xray_only=False,
        languages=("en",),
        make=("ctscribe.evaluation.adapters.ratescore", "RateScore"),
    ),
    Adapter(
        "green",
        "Share of matched findings among matched findings and significant errors, as a language model counts them.",
        "a folder with the model GREEN-radllama2-7b",
        needs="green_score, or RadEval",
        trained_on="pairs of chest X-ray reports",
        xray_only=True,
        languages=("en",),
        make=("ctscribe.evaluation.adapters.green", "Green"),
        options={"cpu": (_flag, "compute on the CPU even where there is a GPU")},
    ),
    Adapter(
        "radeval",
        "Any metrics of the RadEval package, by its own configuration file.",
        "RadEval's configuration (YAML or JSON) that names the metrics",
        needs="RadEval",
        trained_on="depends on the metric: f1radbert_ct on chest CT reports, most others on chest X-ray reports",
        xray_only=False,
        languages=("en",),
        make=("ctscribe.evaluation.adapters.radeval", "RadEval"),
    ),
)


def available() -> Mapping[str, Adapter]:
    """Name -> adapter, in the order of the documentation."""
    return MappingProxyType({adapter.name: adapter for adapter in _ADAPTERS})


def build(name: str, path: Path | None = None, **options: Any) -> Scorer:
    """A ready scorer.

    Args:
        name: one of `available()`.
        path: what the adapter's `path` says; None for one that takes none.
        options: see the adapter's `options`; text is converted.

    Raises:
        UsageError: no such metric or option, or a path that is missing or not wanted.
        DependencyMissing: a package or program is not installed.
        CheckpointError: weights are missing or do not fit.
    """
    adapter = available().get(name)
    if adapter is None:
        raise UsageError(f"metric {name!r}", expected=" | ".join(available()), got=name or "no name")
    if (path is None) == bool(adapter.path):
        raise UsageError(
            f"metric {name}", expected=adapter.path or "no path", got="no path" if path is None else str(path)
        )
    module, factory = adapter.make
    arguments = [] if path is None else [path]
    scorer: Scorer = getattr(import_module(module), factory)(*arguments, **_converted(adapter, options))
    return scorer


def _converted(adapter: Adapter, options: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in options.items():
        if key not in adapter.options:
            raise UsageError(
                f"option {key!r} of metric {adapter.name}", expected=", ".join(adapter.options) or "no options", got=key
            )
        convert, says = adapter.options[key]
        try:
            found[key] = convert(value) if isinstance(value, str) else value
        except ValueError as error:
            raise UsageError(f"option {key} of metric {adapter.name}", expected=says, got=repr(value)) from error
    return found


def from_text(words: str) -> Scorer:
    """The scorer called by ``name``, ``name=path`` or ``name=path,option=value,...``.

    Raises:
        UsageError, DependencyMissing, CheckpointError: see `build`.
    """
    name, _, rest = words.partition("=")
    where, *settings = rest.split(",")
    options: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--metric {words}", expected="NAME=PATH,OPTION=VALUE,...", got=repr(setting))
        options[key.strip()] = value
    return build(name, Path(where) if where else None, **options)
