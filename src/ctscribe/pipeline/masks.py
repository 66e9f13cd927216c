"""Who outlines the regions of a scan: the rules, a file, a program, the model itself, or nobody.

```
word                     regions that the model pools             middle of the chest, and "is it a chest?"
classical                the rules                                the same
labelmap:FILE, programs  what they outlined                       the same
own                      soft masks of the model's own head       the rules
none                     nothing: every region is "not seen"      the rules
```
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ctscribe import ontology
from ctscribe.errors import UsageError
from ctscribe.pipeline.evidence import Placed
from ctscribe.pipeline.placing import centre_of_chest, labels_on_grid, place

if TYPE_CHECKING:
    from ctscribe.checkpoint import LoadedModel
    from ctscribe.data import Study
    from ctscribe.data.anatomy import Segmentation

UNTRAINED_DICE = 0.5
"""Own lungs that agree less than this with those of the rules are doubted in the report."""


@dataclass(frozen=True)
class Outlined:
    """Regions of one scan.

    Attributes:
        segmentation: regions on the scan's grid: shown, and told who made them.
        chest: regions that place the scan and tell whether it is a chest.
        placed: the scan and soft masks on the model's grid, where a model made them.
    """

    segmentation: Segmentation
    chest: Segmentation
    placed: Placed | None = None


@dataclass(frozen=True)
class Outliner:
    """``outliner(study) -> Outlined``.

    Attributes:
        word: see `ctscribe.data.anatomy.WORDS`.
        scheme: what the values of a label map mean.
        model: gives the model whose own masks are wanted; called only for ``own``.
    """

    word: str = "classical"
    scheme: str = ""
    model: Callable[[], LoadedModel] | None = None

    def check(self) -> None:
        """Refuse a word that cannot work before any scan is read.

        Raises:
            UsageError: an unknown word, a missing file or scheme, a model without a segmentation head.
            DependencyMissing: the program is not installed.
        """
        from ctscribe.data.anatomy.tools import segmenter

        if self.scheme and self.word.partition(":")[0] != "labelmap":
            raise UsageError(
                f"--regions-scheme {self.scheme}", expected="--segmenter labelmap:FILE", got=f"--segmenter {self.word}"
            )
        if self.word == "own":
            self._head()
        else:
            segmenter(self.word, self.scheme)

    def __call__(self, study: Study) -> Outlined:
        """Outline one scan.

        Raises:
            InputRefused: the rules found no chest, a program failed, or a label map does not fit.
        """
        from ctscribe.data.anatomy.tools import segmenter

        if self.word == "own":
            return self._own(study, segmenter("classical")(study.volume))
        found = segmenter(self.word, self.scheme)(study.volume)
        return Outlined(found, segmenter("classical")(study.volume) if self.word == "none" else found)

    def _head(self) -> LoadedModel:
        if self.model is None:
            raise UsageError("the segmenter 'own' is a model's own head", expected="a model folder (--model)")
        model = self.model()
        model.require_outlines()
        return model

    def _own(self, study: Study, rules: Segmentation) -> Outlined:
        from ctscribe.data.geometry import to_grid

        model = self._head()
        grid = to_grid(study.volume, model.grid.shape, model.grid.spacing, centre_of_chest(study.volume, rules))
        soft, there = model.outline(grid)
        placed = Placed(grid, soft, there, tuple(model.regions), study.volume, study.source)
        source = f"own: {model.info.name} {model.info.checkpoint_hash}"
        return Outlined(hard(placed, source, lungs_dice(placed, rules)), rules, placed)


def place_outlined(
    study: Study,
    outlined: Outlined,
    *,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    regions: tuple[str, ...],
    cells: tuple[int, int, int],
) -> Placed:
    """The scan and its regions on the model's grid, see `placing.place`; soft masks stay as the model made them."""
    if outlined.placed is None:
        centre = centre_of_chest(study.volume, outlined.chest)
        return place(
            study, outlined.segmentation, shape=shape, spacing=spacing, regions=regions, cells=cells, centre=centre
        )
    placed = outlined.placed
    same = placed.volume.shape == tuple(shape) and np.allclose(placed.volume.spacing, spacing, rtol=1e-3)
    if not same:
        raise UsageError(
            "the model whose own masks are wanted reads another grid",
            expected=f"{tuple(shape)} voxels at {tuple(spacing)} mm",
            got=f"{placed.volume.shape} voxels at {placed.volume.spacing} mm",
        )
    return placed if placed.occupancy.shape[1:] == tuple(cells) else replace(placed, occupancy=_pooled(placed, cells))


def hard(placed: Placed, source: str, dice: float) -> Segmentation:
    """Soft masks as disjoint labels of the finest regions on the scan's grid, to be shown.

    A voxel belongs to the region that is most probable there, if that is more probable than not.
    """
    from ctscribe.data.anatomy import Segmentation
    from ctscribe.data.anatomy.labelmaps import resample

    leaves = [n for n in placed.regions if not any(o in placed.regions for o in ontology.descendants(n) if o != n)]
    best, labels = np.full(placed.volume.shape, 0.5, np.float32), np.zeros(placed.volume.shape, np.uint8)
    for value, name in enumerate(leaves, start=1):
        soft = _stretched(placed.occupancy[placed.regions.index(name)], placed.volume.shape)
        labels[soft > best] = value
        best = np.maximum(best, soft)
    names = {value: name for value, name in enumerate(leaves, start=1) if (labels == value).any()}
    notes = ["regions are the model's own masks, as coarse as its tokens"]
    if dice < UNTRAINED_DICE:
        notes.append("the model's own lungs agree little with those of the rules")
    on_scan = resample(labels, placed.volume.affine, placed.original)
    return Segmentation(on_scan, names, source, {"lungs_dice_with_rules": round(dice, 4)}, tuple(notes))


def lungs_dice(placed: Placed, rules: Segmentation) -> float:
    """Soft Dice of the model's lungs and those of the rules, in the model's cells."""
    grid = placed.volume
    own = placed.occupancy[placed.regions.index("right_lung")] + placed.occupancy[placed.regions.index("left_lung")]
    cells: tuple[int, int, int] = placed.occupancy.shape[1:]
    there, _ = labels_on_grid(rules, placed.original, grid).occupancy(("right_lung", "left_lung"), cells)
    truth = there.sum(0)
    both = float((own * truth).sum())
    return 2 * both / max(float((own**2).sum() + (truth**2).sum()), 1e-6)


def _pooled(placed: Placed, cells: tuple[int, int, int]) -> Float[np.ndarray, "r t h w"]:
    """Soft masks on another grid of cells: the mean of what a cell holds."""
    import torch
    from torch.nn.functional import adaptive_avg_pool3d

    return adaptive_avg_pool3d(torch.from_numpy(placed.occupancy), cells).numpy()


def _stretched(soft: Float[np.ndarray, "t h w"], shape: tuple[int, int, int]) -> Float[np.ndarray, "z y x"]:
    """Linear interpolation from cells to voxels of the same field of view."""
    import torch
    from torch.nn.functional import interpolate

    return interpolate(torch.from_numpy(soft)[None, None], size=shape, mode="trilinear", align_corners=False)[
        0, 0
    ].numpy()
