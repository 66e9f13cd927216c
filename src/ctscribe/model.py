"""The figure, in code: vision -> scene -> language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.beside import CHANGES, InputsConfig, StudyBeside
from ctscribe.data.outlines import Outlines
from ctscribe.errors import UsageError
from ctscribe.facts import LARGEST_MM, FindingFacts, attribute_table, findings_of, places_of
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.language.station import LanguageConfig, Writer
from ctscribe.report import Finding
from ctscribe.scene.masks import FAINT, THERE
from ctscribe.scene.objects import SlotObject, slot_objects
from ctscribe.scene.priors import Violation, violations
from ctscribe.scene.station import Scene, SceneConfig
from ctscribe.tensors import FindingLogits, RegionMasks, SceneTokens, VisualTokens, Volume, VolumeBatch
from ctscribe.vision.build import build_encoder
from ctscribe.vision.vit import EncoderConfig


@dataclass(frozen=True)
class GridContract:
    """The grid a scan is put on before the network sees it.

    Attributes:
        shape: voxels (z, y, x).
        spacing: voxel size (z, y, x) in mm.
    """

    shape: tuple[int, int, int] = (64, 128, 128)
    spacing: tuple[float, float, float] = (5.0, 2.75, 2.75)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the network, and the contract with its input.

    Attributes:
        grid: the voxels the network sees.
        windows: (centre, width) in HU, one input channel each: lung, mediastinum, bone.
        encoder: the vision station.
        scene: regions, slots, graph and finding heads.
        language: the decoder that writes.
        inputs: what is read beside the scan.
    """

    grid: GridContract = GridContract()
    windows: tuple[tuple[float, float], ...] = ((-600.0, 1500.0), (40.0, 400.0), (500.0, 2000.0))
    encoder: EncoderConfig = EncoderConfig()
    scene: SceneConfig = SceneConfig()
    language: LanguageConfig = LanguageConfig()
    inputs: InputsConfig = InputsConfig()


@dataclass(frozen=True)
class ModelOutputs:
    """What one forward pass declares; a field is None when it was not wanted."""

    visual: VisualTokens | None = None
    scene: SceneTokens | None = None
    findings: FindingLogits | None = None
    text_logits: Float[Tensor, "b l v"] | None = None
    scale_embeddings: Float[Tensor, "b 3 e"] | None = None


@dataclass(frozen=True)
class Thresholds:
    """From logits to decisions, per finding kind: probabilities above ``present`` are stated, those between
    ``uncertain`` and ``present`` are hedged; a place is named above ``where``.

    Logits of a kind are divided by its ``temperature`` first, so that probabilities can be taken at their word
    (``calibration_error``: expected calibration error on the validation studies before and after; empty where nobody
    calibrated). On kinds of which the model is less sure than ``abstain``, either way, it does not commit itself.
    """

    present: dict[str, float] = field(default_factory=dict)
    uncertain: dict[str, float] = field(default_factory=dict)
    where: float = 0.5
    temperature: dict[str, float] = field(default_factory=dict)
    calibration_error: tuple[float, ...] = ()
    abstain: float = 0.0

    def probabilities(self, logits: FindingLogits) -> Float[Tensor, "b f"]:
        """Calibrated probability of presence."""
        presence = logits.presence.float()
        if not self.temperature:
            return presence.sigmoid()
        by = [self.temperature.get(kind, 1.0) for kind in ontology.findings()]
        return (presence / torch.tensor(by, device=presence.device)).sigmoid()


@dataclass(frozen=True)
class Detection:
    """One finding as the detector sees it, before words.

    ``heat`` (t, h, w): probability per fine token, on the model grid divided evenly into cells.
    ``abstained``: the model is not sure enough, either way, to commit itself.
    """

    kind: str
    probability: float
    threshold: float
    regions: tuple[str, ...]
    region_probabilities: dict[str, float]
    size_mm: tuple[float, ...]
    attributes: tuple[tuple[str, str], ...]
    heat: Float[np.ndarray, "t h w"]
    abstained: bool = False


@dataclass(frozen=True)
class Description:
    """What the model has to say about one scan: a text per language, and what was detected.

    ``changes``: what became of each kind of finding since the earlier scan and how sure that is, for kinds that were
    found in one of the two. ``violations``: rules of anatomy that what was marked breaks. ``slots``: lesions that slots
    hold, most probable first; none without the head that names them (``scene.slot_objects``). ``earlier``: what was
    found in the earlier scan.
    """

    texts: dict[str, str]
    detections: tuple[Detection, ...]
    findings: tuple[Finding, ...]
    changes: dict[str, tuple[str, float]] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    slots: tuple[SlotObject, ...] = ()
    earlier: tuple[Finding, ...] = ()


@runtime_checkable
class ReportBatch(Protocol):
    """What one training batch must offer; it may also have ``beside``, a `StudyBeside`."""

    volume: VolumeBatch | None
    regions: RegionMasks | None
    facts: FindingFacts | None
    input_ids: Tensor | None
    attention: Tensor | None


class CTReportModel(nn.Module):
    """Three stations in a row. ``forward`` is the figure; `describe` is the figure for one scan, with words.

    Args:
        config: all sizes.
        tokenizer: the writer's words.
        host: the writer's decoder, see `Writer`.
    """

    def __init__(self, config: ModelConfig, tokenizer: ReportTokenizer, host: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        widths = config.encoder.tubelets.widths
        self.vision = build_encoder(config.encoder, config.windows)
        self.scene = Scene(config.scene, widths, config.inputs)
        self.language = Writer(config.language, tokenizer, widths, config.scene.dim, host)

    def fixed_params(self) -> list[str]:
        """Names of the parameters that no training stage may move."""
        return [f"language.{name}" for name in self.language.fixed_params()]

    def see(
        self, volume: VolumeBatch, regions: RegionMasks, beside: StudyBeside | None = None
    ) -> tuple[VisualTokens, SceneTokens]:
        """Everything before words. An earlier scan goes through the same two stations first."""
        before = None
        if self.config.inputs.prior and beside is not None and beside.prior is not None and beside.prior_regions:
            before = self.scene(self.vision(beside.prior), beside.prior_regions)
        visual = self.vision(volume)
        return visual, self.scene(visual, regions, beside, before)

    def check_inputs(self, given: Sequence[str]) -> None:
        """Refuse what the model was not trained to read, instead of leaving it out silently."""
        read = self.config.inputs.names
        if strange := [name for name in ("prior", "history", "labs") if name in given and name not in read]:
            raise UsageError(
                f"this model was not trained to read {' and '.join(strange)}",
                expected=", ".join(("a scan", *read)),
                hint="leave it out, or train a model with " + " ".join(f"model.inputs.{name}=true" for name in strange),
            )

    def forward(self, batch: ReportBatch, *, wants: frozenset[str] = frozenset({"report"})) -> ModelOutputs:
        """One batch, for training: computes what the losses named in ``wants`` need.

        A batch without a volume is language pretraining: the writer then sees only facts.
        """
        visual = scene = text = embeddings = None
        if batch.volume is not None and batch.regions is not None:
            visual, scene = self.see(batch.volume, batch.regions, getattr(batch, "beside", None))
            if "consistency" in wants:
                embeddings = self.vision.embed_scales(visual)
        if "report" in wants and batch.facts is not None and batch.input_ids is not None:
            text = self.language(batch.facts, batch.input_ids, batch.attention, visual, scene)
        return ModelOutputs(visual, scene, None if scene is None else scene.findings, text, embeddings)

    @torch.no_grad()
    def describe(
        self,
        volume: Volume,
        occupancy: Float[np.ndarray, "r t h w"],
        present: Bool[np.ndarray, " r"],
        languages: Sequence[str],
        thresholds: Thresholds | None = None,
        beside: StudyBeside | None = None,
        lesions: Outlines | None = None,
    ) -> Description:
        """Detect, decide, write. ``volume`` must lie on the model's grid; ``occupancy`` follows `model_regions()`.

        ``lesions`` that somebody outlined become nodes of the scene.

        Raises:
            UsageError: ``beside`` holds something that the model does not read, or it has no nodes for lesions.
        """
        self.check_grid(volume)
        self.check_inputs(() if beside is None else beside.given)
        device = next(self.parameters()).device
        batch, masks = on_grid(volume, occupancy, present, device)
        if lesions is not None:
            self.check_lesions()
            masks = _with_lesions(masks, lesions)
        visual, scene = self.see(batch, masks, None if beside is None else beside.to(device))
        limits = thresholds or Thresholds()
        facts = decide(scene.findings, limits)
        texts = {code: self.language.write(facts, [code], visual, scene)[0] for code in languages}
        grid = visual.fine.grid
        seen = detections(scene.findings, limits, grid)
        broken, found = violations(scene, grid)[0], slot_objects(scene)
        before = () if scene.before is None else findings_of(decide(scene.before, limits), 0)
        return Description(texts, seen, findings_of(facts, 0), changes(scene, seen), broken, found, before)

    @torch.no_grad()
    def outline(self, volume: Volume) -> tuple[Float[np.ndarray, "r t h w"], Bool[np.ndarray, " r"]]:
        """The model's own masks of one scan on its grid: soft occupancy of the fine cells, and which regions are there.

        Raises:
            UsageError: the model has no segmentation head.
        """
        self.check_grid(volume)
        device = next(self.parameters()).device
        regions = len(ontology.model_regions())
        batch, _ = on_grid(volume, np.zeros((regions, 1, 1, 1)), np.zeros(regions, bool), device)
        visual = self.vision(batch)
        found = self.scene.outline(visual)
        if found is None:
            raise self._no_head()
        soft = found[0].float().unflatten(-1, visual.fine.grid).cpu().numpy()
        there = soft.max(axis=(1, 2, 3)) > THERE
        return np.where((soft > FAINT) & there[:, None, None, None], soft, 0.0).astype(np.float32), there

    def check_lesions(self) -> None:
        """Refuse outlined lesions where the scene has no node for them."""
        if not self.config.scene.lesions:
            raise UsageError(
                "this model has no nodes for outlined lesions",
                expected="a model trained with scene.lesions above 0",
                hint="leave --lesions out, or train one: `ctscribe train demo model.scene.lesions=8`",
            )

    def require_outlines(self) -> None:
        """Refuse to be asked for masks without a head that makes them."""
        if self.scene.own_masks is None:
            raise self._no_head()

    @staticmethod
    def _no_head() -> UsageError:
        return UsageError(
            "this model has no segmentation head: it was trained to read masks from outside",
            expected="a model with scene.masks=own or given_or_own, trained with the loss 'masks'",
            hint="use --segmenter classical, or train one: `ctscribe train demo model.scene.masks=given_or_own`",
        )

    def check_grid(self, volume: Volume) -> None:
        """Refuse a volume that is not on the contract's grid."""
        grid = self.config.grid
        if tuple(volume.shape) != tuple(grid.shape) or not np.allclose(volume.spacing, grid.spacing, rtol=1e-3):
            raise ValueError(
                f"the model reads {grid.shape} voxels at {grid.spacing} mm, got {volume.shape} at {volume.spacing} mm"
            )


def on_grid(
    volume: Volume,
    occupancy: Float[np.ndarray, "r t h w"],
    present: Bool[np.ndarray, " r"],
    device: torch.device | str = "cpu",
) -> tuple[VolumeBatch, RegionMasks]:
    """One scan and its regions as a batch of one."""
    batch = VolumeBatch(
        hu=torch.from_numpy(volume.hu.astype(np.float32))[None].to(device),
        spacing=torch.tensor([volume.spacing], dtype=torch.float32, device=device),
    )
    masks = RegionMasks(
        occupancy=torch.from_numpy(occupancy.astype(np.float32))[None].to(device),
        present=torch.from_numpy(present)[None].to(device),
        names=ontology.model_regions(),
    )
    return batch, masks


def _with_lesions(masks: RegionMasks, lesions: Outlines) -> RegionMasks:
    """The masks of one scan with its outlined lesions."""
    grid: tuple[int, int, int] = tuple(masks.occupancy.shape[2:])  # type: ignore[assignment]
    shares = torch.from_numpy(lesions.shares(grid)).float() / 255
    kinds = torch.from_numpy(lesions.kinds())
    device = masks.occupancy.device
    return replace(masks, lesions=shares[None].to(device), lesion_kinds=kinds[None].to(device))


@torch.no_grad()
def decide(logits: FindingLogits, limits: Thresholds) -> FindingFacts:
    """Logits -> facts, by the checkpoint's thresholds; forbidden places cannot be chosen."""
    facts = best_guess(logits, limits)
    chances = limits.probabilities(logits)
    sure = torch.maximum(chances, 1 - chances) >= limits.abstain
    facts = replace(facts, state=facts.state * sure)
    said = facts.state > 0
    return FindingFacts(
        state=facts.state,
        where=facts.where * said.unsqueeze(-1),
        size_mm=facts.size_mm * said,
        attributes={n: torch.where(said, v, torch.full_like(v, -1)) for n, v in facts.attributes.items()},
    )


def best_guess(logits: FindingLogits, limits: Thresholds) -> FindingFacts:
    """States by the thresholds; places, sizes and attributes for every kind, as if it were present."""
    kinds, names = list(ontology.findings()), list(ontology.model_regions())
    probability = limits.probabilities(logits).cpu()
    where = logits.where.float().sigmoid().cpu()
    high = torch.tensor([limits.present.get(k, 0.5) for k in kinds])
    low = torch.tensor([limits.uncertain.get(k, limits.present.get(k, 0.5)) for k in kinds])
    state = (probability >= low).long() + (probability >= high).long()
    state = torch.where(probability >= high, torch.full_like(state, 2), state.clamp(max=1))
    places = torch.zeros_like(where)
    size = torch.zeros_like(state)
    attributes = {name: torch.full_like(state, -1) for name in attribute_table()}
    for column, kind in enumerate(kinds):
        entry, options = ontology.findings()[kind], [names.index(p) for p in places_of(kind)]
        chances = where[:, column, options]
        chosen = chances >= limits.where
        chosen = chosen | (torch.nn.functional.one_hot(chances.argmax(-1), len(options)).bool() & ~chosen.any(-1, True))
        places[:, column, options] = chosen.float()
        if entry.size_mm is not None:
            mm = logits.size[:, column].float().cpu().expm1().round().clamp(1, LARGEST_MM)
            size[:, column] = mm.clamp(*entry.size_mm).long()
        for name, values in entry.attributes.items():
            columns = [attribute_table()[name].index(v) for v in values]
            best = logits.attributes[name][:, column, columns].argmax(-1).cpu()
            attributes[name][:, column] = torch.tensor(columns)[best]
    return FindingFacts(state, places, size, attributes).to(logits.presence.device)


@torch.no_grad()
def detections(logits: FindingLogits, limits: Thresholds, grid: tuple[int, int, int]) -> tuple[Detection, ...]:
    """Every finding kind of the first study as a `Detection`, most probable first."""
    names = ontology.model_regions()
    listed = []
    probabilities = limits.probabilities(logits)[0]
    facts = best_guess(logits, limits)
    guessed = {f.kind: f for f in findings_of(replace(facts, state=torch.full_like(facts.state, 2)), 0)}
    for column, kind in enumerate(ontology.findings()):
        where = logits.where[0, column].float().sigmoid().tolist()
        chances = {n: where[names.index(n)] for n in places_of(kind)}
        dense = logits.dense
        heat = torch.zeros(grid) if dense is None else dense[0, column].float().sigmoid().reshape(grid)
        listed.append(
            Detection(
                kind=kind,
                probability=float(probabilities[column]),
                threshold=limits.present.get(kind, 0.5),
                regions=guessed[kind].regions,
                region_probabilities=chances,
                size_mm=guessed[kind].size_mm,
                attributes=guessed[kind].attributes,
                heat=heat.cpu().numpy(),
                abstained=max(float(probabilities[column]), 1 - float(probabilities[column])) < limits.abstain,
            )
        )
    return tuple(sorted(listed, key=lambda d: -d.probability))


def changes(scene: SceneTokens, seen: Sequence[Detection]) -> dict[str, tuple[str, float]]:
    """What became of each kind of finding in the first study, and how probable that is.

    Only of kinds that are found now, or whose end the model is surer of than not: else there is nothing to say.
    """
    if scene.change is None or scene.change_given is None or not bool(scene.change_given[0]):
        return {}
    found = {d.kind for d in seen if d.probability >= d.threshold}
    told: dict[str, tuple[str, float]] = {}
    for column, kind in enumerate(ontology.findings()):
        chances = scene.change[0, column].float().softmax(-1)
        gone = CHANGES.index("resolved")
        if kind in found:
            best = int(chances[:gone].argmax())
            told[kind] = (CHANGES[best], float(chances[best] / chances[:gone].sum()))
        elif float(chances[gone]) > 0.5:
            told[kind] = (CHANGES[gone], float(chances[gone]))
    return told
