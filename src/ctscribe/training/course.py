"""The course from studies to a model folder: draw or open them, train all stages, choose thresholds, write it.

```
phantoms ─► store ─► stages (text, detect, write) ─► thresholds on validation phantoms ─► model folder
```

Seeds never overlap: training uses ``first_seed ..``, validation `VALIDATION_SEED`.., held-out tests `HELDOUT_SEED`...
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.console import Console
from torch import nn

from ctscribe import checkpoint, ontology
from ctscribe import config as cfg
from ctscribe.checkpoint import ModelInfo
from ctscribe.data.augment import Augment
from ctscribe.data.batch import Collate
from ctscribe.data.store import StudyStore
from ctscribe.data.withhold import Withhold
from ctscribe.engines.world import here
from ctscribe.errors import ConfigError, UsageError
from ctscribe.language.hosts import host_tokenizer
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, ModelConfig
from ctscribe.phantom import GridSpec, LesionPrior
from ctscribe.training import prepared
from ctscribe.training.loop import train
from ctscribe.training.losses import standard_losses
from ctscribe.training.order import BatchSource, Transform, ordered_batches
from ctscribe.training.phantoms import PhantomPlan, fill_store
from ctscribe.training.pretraining.model import CONTRASTS, MASKED, PRETRAINING, PretrainConfig, with_heads
from ctscribe.training.pretraining.transfer import StartConfig, start_from
from ctscribe.training.routed import as_table, learned_map, with_balance
from ctscribe.training.stages import Stage, TrainConfig, check_train, trainable_names
from ctscribe.training.thresholds import LEAST_CHANCE, tune
from ctscribe.training.wording import Spoken, WordingSamples, collate_wording, train_tokenizer

VALIDATION_SEED = 700_000
HELDOUT_SEED = 800_000
WATERMARK = {
    "en": "Draft by a model trained on synthetic phantoms only. For research and demonstration, not for clinical use.",
    "zh": "本草稿由仅用合成体模训练的模型生成，仅供研究与演示，不得用于临床。",
}


@dataclass(frozen=True)
class PhantomData:
    """Which phantoms are drawn, and where they are kept.

    Attributes:
        studies: number of phantoms to learn from.
        first_seed: seed of the first; the others follow it.
        validation: number of phantoms held out, from seeds of their own.
        store: folder they are kept in; empty means inside the run folder.
        processes: processes that draw them.
        longest_report: tokens after which a text to learn from is cut.
        variety: share of reports in free wording, see `wording.taught_text`.
        languages: languages of the reports to learn from, and of the finished model.
        crowding: how many times as common every finding is in the phantoms to learn from; validation stays as it is.
        prepared: store that ``ctscribe prepare`` filled, to learn from instead of phantoms (see `training.prepared`);
            what decides the phantoms then counts for nothing.
    """

    studies: int = 3000
    first_seed: int = 0
    validation: int = 300
    store: str = ""
    processes: int = 2
    longest_report: int = 400
    variety: float = 0.0
    languages: tuple[ontology.Language, ...] = ontology.LANGUAGES
    crowding: float = 1.0
    prepared: str = ""

    def __post_init__(self) -> None:
        most = math.inf
        cfg.check_numbers(self, "data.", studies=(1, most), first_seed=(0, most), validation=(1, most))
        cfg.check_numbers(self, "data.", processes=(1, most), longest_report=(2, most), variety=(0, 1))
        cfg.check_numbers(self, "data.", crowding=(1e-6, most))
        if not self.languages:
            raise ConfigError("data.languages", expected="en, zh or both", got="none")
        if not self.prepared and (last := self.first_seed + self.studies) > VALIDATION_SEED:
            raise ConfigError(
                "data.studies and data.first_seed reach into the seeds that are kept for validation",
                expected=f"seeds below {VALIDATION_SEED}",
                got=f"seeds up to {last - 1}",
            )


@dataclass(frozen=True)
class CourseConfig:
    """Everything that decides a checkpoint trained from phantoms.

    Attributes:
        recipe: the recipe it came from.
        name: name of the model, written into its card and reports.
        model: the network.
        train: stages and optimisation.
        data: the phantoms.
        pretrain: heads of the losses ``masked``, ``clip`` and ``siglip``; built only where a stage names one.
        start: weights to begin with.
    """

    recipe: str
    name: str
    model: ModelConfig
    train: TrainConfig
    data: PhantomData = field(default_factory=PhantomData)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    start: StartConfig = field(default_factory=StartConfig)


OF_PHANTOMS = ("studies", "first_seed", "validation", "store", "processes", "crowding")


def unread(config: CourseConfig) -> dict[str, str]:
    """Keys (with all below them) that count for nothing in this course -> why."""
    asked = {name for stage in config.train.stages for name in stage.losses}
    keys: dict[str, str] = {}
    if config.data.prepared:
        keys |= {f"data.{name}": "data.prepared: no phantom is drawn" for name in OF_PHANTOMS}
    if MASKED not in asked:
        keys["pretrain.masked"] = "no stage has the loss masked"
    if not CONTRASTS & asked:
        keys["pretrain.contrast"] = "no stage has the loss clip or siglip"
    return keys


def run(config: CourseConfig, run_dir: Path | str) -> Path:
    """The whole course; may be stopped and started again at any time. Returns the model folder.

    An encoder with ``mapping="routed"`` gets the loss ``routing`` in every stage that trains it and names none.
    """
    folder, world = Path(run_dir), here()
    check_train(config.train, standard_losses())
    if config.start.weights and not Path(config.start.weights).is_file():
        raise UsageError(f"start.weights={config.start.weights}", expected="a file of weights", got="no such file")
    if config.model.encoder.mapping == "routed":
        config = replace(config, train=replace(config.train, stages=with_balance(config.train.stages)))
    with world.main_first():
        if world.main:
            folder.mkdir(parents=True, exist_ok=True)
            cfg.save_resolved(config, folder / "recipe.yaml")
        tokenizer = tokenizer_of(config, folder)
    torch.manual_seed(config.train.seed)
    model = CTReportModel(config.model, tokenizer)
    learner = with_heads(model, config.pretrain, (name for stage in config.train.stages for name in stage.losses))
    for stage in config.train.stages:
        trainable_names(learner, stage)  # a plan that does not fit the network is refused before hours of drawing
    with world.main_first():
        studies, validation = open_data(config, folder)
    for line in prepared.account(config.model.inputs, studies) if world.main else ():
        Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)
    if config.start.weights:
        begin(learner, config.start, folder, quiet=not world.main)
    source = Sources(config, model.language.tokenizer, studies)
    result = train(
        learner,
        config.train,
        source,
        standard_losses(),
        folder,
        validate=lambda trained, stage: validation_scores(trained, stage, validation),
    )
    if not world.main:
        return folder / "checkpoint"
    if world.size > 1:
        model = CTReportModel(config.model, tokenizer)  # the trained one may lie in pieces in several processes
    if result.averaged is not None or world.size > 1:
        load_weights(model, result.averaged or result.weights)
    return finish(model, config, validation, folder / "checkpoint", studies)


def begin(learner: nn.Module, start: StartConfig, folder: Path, *, quiet: bool = False) -> None:
    """Load the weights to begin with; what was and was not taken is printed and kept in ``transfer.json``."""
    report = start_from(learner, start)
    if not quiet:
        report.save(folder / "transfer.json")
        text = f"{start.weights}: {report.summary()}"
        Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


def open_data(config: CourseConfig, folder: Path) -> tuple[StudyStore, StudyStore]:
    """Studies to learn from, and to validate on: prepared ones, or phantoms that are drawn where they are missing."""
    if config.data.prepared:
        return prepared.open_prepared(config.data.prepared, config.model)
    store = Path(config.data.store) if config.data.store else folder / "phantoms"
    studies = open_studies(config, store, config.data.first_seed, config.data.studies, config.data.crowding)
    return studies, open_studies(config, store, VALIDATION_SEED, config.data.validation)


def open_studies(config: CourseConfig, store: Path, first_seed: int, count: int, crowding: float = 1.0) -> StudyStore:
    """The phantoms of a seed range, drawn if they are not there yet."""
    grid = config.model.grid
    cells = config.model.encoder.tubelets.cells(grid.shape, grid.spacing)
    plan = PhantomPlan(
        count,
        first_seed,
        GridSpec(grid.shape, grid.spacing),
        region_grid=cells,
        token_grid=cells,
        lesions=LesionPrior.crowded(crowding),
    )
    return fill_store(plan, store, processes=config.data.processes)


def tokenizer_of(config: CourseConfig, folder: Path) -> ReportTokenizer:
    """The run's tokenizer: the pretrained decoder's, or trained once; then read back."""
    if not (folder / "tokenizer.json").is_file():
        language = config.model.language
        if language.pretrained:
            made = host_tokenizer(language)
        else:
            made = train_tokenizer(language.vocab, config.train.seed)
        made.save(folder)
    return ReportTokenizer.load(folder)


@dataclass(frozen=True)
class Sources:
    """What the word in ``Stage.data`` stands for: ``text`` (facts and wording) or ``studies`` (scans).

    Phantoms are given a report; prepared studies keep their own.
    """

    config: CourseConfig
    tokenizer: ReportTokenizer
    studies: StudyStore

    def __call__(self, stage: Stage) -> BatchSource:
        data, seed = self.config.data, (self.config.train.seed, stage.name)
        longest = data.longest_report
        if stage.data == "text":
            wording = WordingSamples(self.config.train.seed + 1, variety=data.variety, languages=data.languages)
            collate = collate_wording(self.tokenizer, longest)
            return ordered_batches(wording, collate, batch_size=stage.batch_size, seed=seed, bucket=stage.bucket)
        if stage.data != "studies":
            raise ConfigError(f"stage {stage.name!r}: unknown data {stage.data!r}", expected="text or studies")
        writes = bool((CONTRASTS | {"report"}) & set(stage.losses))
        return ordered_batches(
            self.studies,
            Collate(self.tokenizer if writes else None, longest),
            batch_size=stage.batch_size,
            seed=seed,
            transforms=self._transforms(writes),
            bucket=stage.bucket,
        )

    def _transforms(self, writes: bool) -> tuple[Transform, ...]:
        data, inputs = self.config.data, self.config.model.inputs
        spoken = (Spoken(data.variety, data.languages),) if writes and not data.prepared else ()
        withheld = (Withhold.of(inputs),) if inputs.names else ()
        return (Augment(), *spoken, *withheld)


@torch.no_grad()
def probabilities(
    model: nn.Module, studies: StudyStore, *, batch_size: int = 8
) -> tuple[Float[np.ndarray, "n f"], Bool[np.ndarray, "n f"]]:
    """Presence probabilities and truth of every study and finding kind."""
    collate, rows, truth = Collate(None), [], []
    model.eval()
    for first in range(0, len(studies), batch_size):
        batch = collate([studies[i] for i in range(first, min(first + batch_size, len(studies)))])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(batch, wants=frozenset())
        rows.append(outputs.findings.presence.float().sigmoid().numpy())
        if batch.targets is None:
            raise ConfigError("validation studies need structured findings")
        truth.append(batch.targets.presence.numpy() > 0.5)
    return np.concatenate(rows), np.concatenate(truth)


def validation_scores(model: nn.Module, stage: Stage, studies: StudyStore) -> dict[str, float]:
    """Macro F1 and mean area under the ROC curve of the detector (nothing in stages that do not teach it)."""
    if stage.data == "text" or set(stage.losses) <= PRETRAINING:
        return {}
    probability, truth = probabilities(model, studies)
    _, f1 = tune(probability, truth)
    areas = [auroc(probability[:, i], truth[:, i]) for i in range(truth.shape[1])]
    scores = {"macro_f1": _mean(list(f1.values())), "auroc": _mean(areas)}
    return {name: value for name, value in scores.items() if value is not None}


def _mean(values: list[float]) -> float | None:
    """Mean of what could be measured; None where a small validation set allowed no measurement at all."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def auroc(score: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve (the Mann-Whitney statistic); not a number when one class is missing."""
    positive, negative = score[truth], score[~truth]
    if not len(positive) or not len(negative):
        return float("nan")
    wins = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
    return float(wins / (len(positive) * len(negative)))


def load_weights(model: nn.Module, path: Path) -> None:
    """Put saved weights into the model (tied weights are stored once)."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(path), strict=False)


def finish(
    model: CTReportModel, config: CourseConfig, validation: StudyStore, folder: Path, studies: StudyStore | None = None
) -> Path:
    """Choose thresholds on validation studies and write the model folder.

    Args:
        studies: what it learned from, for the card of a model that learned from prepared ones.
    """
    probability, truth = probabilities(model, validation)
    thresholds, f1 = tune(probability, truth)
    synthetic, mean = not config.data.prepared or studies is None, _mean(list(f1.values()))
    results: dict[str, Any] = {
        "validation_phantoms" if synthetic else "validation_studies": len(validation),
        "validation_macro_f1": None if mean is None else round(mean, 4),
    }
    if config.model.encoder.mapping == "routed":
        results["layers_listen_to"] = learned_map(model, validation)
    if studies is None or synthetic:
        card = model_card(config, results)
    else:
        card = prepared.card(config.name, config.train.stages, studies, results)
    info = ModelInfo(
        name=config.name,
        languages=config.data.languages,
        synthetic=synthetic,
        watermark=WATERMARK if synthetic else prepared.WATERMARK,
        results=results,
        card=card,
    )
    return checkpoint.save(folder, model, info, thresholds)


def model_card(config: CourseConfig, results: Mapping[str, Any]) -> str:
    """The model card, for people."""
    stages = "\n".join(
        f"- `{s.name}`: {s.steps} steps of {s.batch_size}, losses {', '.join(s.losses)}" for s in config.train.stages
    )
    routed = results.get("layers_listen_to")
    learned = f"\nWhat each layer of the encoder learned to listen to:\n\n{as_table(routed)}\n" if routed else ""
    spoken = " and ".join({"en": "English", "zh": "Chinese"}[code] for code in config.data.languages)
    return f"""# {config.name}

A chest-CT report model trained **on synthetic phantoms only**. It has never seen a scan of a patient. It exists so
that the whole road from a scan to a report can be walked, tested and changed. **Not for clinical use.** Every report
it writes carries the watermark:

> {WATERMARK["en"]}

- input: {config.model.grid.shape} voxels (z, y, x) at {config.model.grid.spacing} mm, Hounsfield units
- output: findings in {spoken}, structured findings, evidence boxes
- training: {config.data.studies} phantoms (seeds from {config.data.first_seed}), classical masks, no real data
{stages}
- thresholds: best expected F1 per finding, never below a chance of {LEAST_CHANCE:.0%}, chosen on
  {results["validation_phantoms"]} validation phantoms (synthetic); macro F1 there
  {results["validation_macro_f1"]}. Held-out numbers come from `benchmarks/heldout.py`.
{learned}
Known limits: phantoms lack the variety of real anatomy, disease and scanners; on real scans its statements are
unreliable.
Licence: Apache-2.0, as the code.
"""
