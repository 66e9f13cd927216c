"""Shapes: the tensors that travel between stations.

Axis letters, used everywhere in the code base:

```
b  study in the batch          z y x  voxel axes: superior, posterior, left (canonical)
n  token                       t h w  token grid axes, same directions as z y x
c  channel                     r  region        s  slot        f  finding kind
```

Two coordinate conventions, and only two:

* **world** points are DICOM patient coordinates, LPS+, ``(x, y, z)`` in mm; only `Affine` produces them;
* **model** positions are ``(z, y, x)`` in mm from the centre of the model's field of view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """Voxel index ``(x, y, z)`` -> world ``(x, y, z)`` mm (LPS+), as a 4x4 matrix.

    The matrix acts on column vectors in x, y, z order (as DICOM and ITK do); the methods take
    and return voxel indices in array order ``(z, y, x)`` so that nobody has to reverse by hand.
    """

    matrix: Float[np.ndarray, "4 4"]

    @classmethod
    def from_spacing(
        cls,
        spacing: tuple[float, float, float],
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        direction: np.ndarray | None = None,
    ) -> Affine:
        """Build from ``spacing`` (z, y, x) mm, world ``origin`` (x, y, z) mm of voxel 0 and 3x3 ``direction``
        (columns: world direction of the x, y and z axis; identity when not given)."""
        matrix = np.eye(4)
        rotation = np.eye(3) if direction is None else np.asarray(direction, dtype=float)
        matrix[:3, :3] = rotation * np.asarray(spacing[::-1], dtype=float)
        matrix[:3, 3] = origin
        return cls(matrix)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in mm."""
        x, y, z = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def origin(self) -> tuple[float, float, float]:
        """World (x, y, z) of the centre of voxel (0, 0, 0)."""
        x, y, z = self.matrix[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> np.ndarray:
        """3x3, columns are the unit world directions of the x, y and z axis."""
        return self.matrix[:3, :3] / np.linalg.norm(self.matrix[:3, :3], axis=0)

    @property
    def is_canonical(self) -> bool:
        """True when x -> patient left, y -> posterior, z -> superior, without rotation."""
        return bool(np.allclose(self.direction, np.eye(3), atol=1e-3))

    def to_world(self, index_zyx: np.ndarray) -> np.ndarray:
        """Voxel indices (..., 3) in (z, y, x) order -> world mm (..., 3) in (x, y, z) order."""
        index = np.asarray(index_zyx, dtype=float)[..., ::-1]
        return index @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def to_index(self, world_xyz: np.ndarray) -> np.ndarray:
        """World mm (..., 3) in (x, y, z) order -> fractional voxel indices (..., 3) in (z, y, x) order."""
        world = np.asarray(world_xyz, dtype=float) - self.matrix[:3, 3]
        return (world @ np.linalg.inv(self.matrix[:3, :3]).T)[..., ::-1]


@dataclass(frozen=True)
class Volume:
    """One scan: Hounsfield units on a grid that knows where it is."""

    hu: Shaped[np.ndarray, "z y x"]
    affine: Affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in mm."""
        return self.affine.spacing

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.hu.shape
        return z, y, x

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Physical size (z, y, x) in mm, outer edge to outer edge."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return z, y, x


@dataclass(frozen=True)
class VolumeBatch:
    """Volumes on the model's grid: what the vision station reads.

    ``hu`` in Hounsfield units, ``spacing`` (z, y, x) mm for each study, ``valid`` False where the grid was padded.
    """

    hu: Float[Tensor, "b z y x"]
    spacing: Float[Tensor, "b 3"]
    valid: Bool[Tensor, "b z y x"] | None = None


@dataclass(frozen=True)
class RegionMasks:
    """Where the named regions are, on any grid that covers the field of view.

    ``occupancy`` in 0..1 (soft or hard; regions may overlap and nest), ``present`` False where a mask is absent:
    absent masks are a normal case on the same code path, their occupancy is all zero.
    ``lesions`` are masks of single lesions on the same grid, if someone outlined them; an empty one is absent.
    ``lesion_kinds`` indexes ``ontology.findings()``, -1 where the kind is not known.
    """

    occupancy: Float[Tensor, "b r z y x"]
    present: Bool[Tensor, "b r"]
    names: tuple[str, ...]
    lesions: Float[Tensor, "b l z y x"] | None = None
    lesion_kinds: Int[Tensor, "b l"] | None = None


@dataclass(frozen=True)
class ScaleTokens:
    """Tokens of one scale, on a grid, with their places."""

    tokens: Float[Tensor, "b n c"]
    grid: tuple[int, int, int]
    centres: Float[Tensor, "b n 3"]
    valid: Bool[Tensor, "b n"]

    def map(self, tokens: Float[Tensor, "b n d"]) -> ScaleTokens:
        """The same places with new tokens."""
        return ScaleTokens(tokens, self.grid, self.centres, self.valid)


@dataclass(frozen=True)
class Routing:
    """How a learned layer-to-scale mapping spread the scales over the layers.

    ``shares``: (b, l, 3) mean share of each scale (fine, mid, coarse) that the tokens of each layer listened to.
    ``balance``: load-balance loss; 1 when all scales are used alike, up to 3 when one takes everything.
    """

    shares: Float[Tensor, "b l 3"]
    balance: Float[Tensor, ""]


@dataclass(frozen=True)
class VisualTokens:
    """What the encoder saw, at three scales; ``routing`` is None unless the mapping of scales to layers is learned."""

    fine: ScaleTokens
    mid: ScaleTokens
    coarse: ScaleTokens
    routing: Routing | None = None

    @property
    def scales(self) -> tuple[ScaleTokens, ScaleTokens, ScaleTokens]:
        return self.fine, self.mid, self.coarse


@dataclass(frozen=True)
class FindingLogits:
    """What the detector believes, before any word is written.

    Logits (not probabilities). ``where`` is per model region, ``size`` is log(1 + mm), ``attributes`` maps an
    attribute name to logits over its values, in the order the ontology lists them.
    """

    presence: Float[Tensor, "b f"]
    where: Float[Tensor, "b f r"]
    size: Float[Tensor, "b f"]
    attributes: dict[str, Float[Tensor, "b f v"]]
    dense: Float[Tensor, "b f n"] | None = None


LESION = "lesion"
"""What the region axis of a scene calls each of its lesion nodes."""


@dataclass(frozen=True)
class SceneTokens:
    """Structure: regions, slots and the graph over both, plus what was detected.

    ``slot_masks``: (b, s, n) share of each mid token explained by each slot, a declared output.
    ``edges``: (b, k, k) attention of the graph over k = r + s nodes, regions first.
    ``region_names``: what the region axis holds: model regions, finer parts, then ``"lesion"`` for each lesion node.
    ``region_masks``: share of each fine token that each region fills, as it was pooled.

    The rest is None unless the configuration asks for it: ``mask_logits`` of the model's own segmentation of the model
    regions, ``slot_boxes`` (z, y, x of the low, then of the high corner, in mm) and ``slot_kinds`` (logits over the
    finding kinds, then "nothing") of the object head, ``slot_parents`` the share of each child slot that each parent
    slot takes, ``relations`` logits over `ctscribe.scene.relations.RELATIONS` of every pair of nodes, ``forbidden``
    the pairs that medical priors keep apart, ``change`` what became of each finding since the earlier scan (logits over
    `ctscribe.beside.CHANGES`; ``change_given`` is False for studies without one), ``before`` what was detected in it.
    """

    regions: Float[Tensor, "b r c"]
    region_present: Bool[Tensor, "b r"]
    slots: Float[Tensor, "b s c"]
    graph: Float[Tensor, "b k c"]
    slot_masks: Float[Tensor, "b s n"]
    edges: Float[Tensor, "b k k"]
    findings: FindingLogits
    centres: Float[Tensor, "b k 3"]
    region_names: tuple[str, ...] = ()
    region_masks: Float[Tensor, "b r m"] | None = None
    mask_logits: Float[Tensor, "b q m"] | None = None
    slot_boxes: Float[Tensor, "b s 6"] | None = None
    slot_kinds: Float[Tensor, "b s g"] | None = None
    slot_parents: Float[Tensor, "b p d"] | None = None
    relations: Float[Tensor, "b k k e"] | None = None
    forbidden: Bool[Tensor, "b k k"] | None = None
    change: Float[Tensor, "b f h"] | None = None
    change_given: Bool[Tensor, " b"] | None = None
    before: FindingLogits | None = None

    @property
    def named_regions(self) -> tuple[str, ...]:
        """The regions that are not lesion nodes; they come first on the region axis."""
        return tuple(name for name in self.region_names if name != LESION)
