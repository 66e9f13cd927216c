"""Between a sharded tensor and the whole one. Alone, or in data parallel, both are the same tensor.

Files hold whole tensors only, so what many processes saved one process reads, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ctscribe.engines.world import here


def whole(tensor: Tensor) -> Tensor:
    """The tensor with all its shards, in every process; all of them must ask."""
    if here().size == 1:
        return tensor
    from torch.distributed.tensor import DTensor  # half a second that one process need not spend

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, place: Tensor) -> Tensor:
    """This process's shard of a whole tensor that every process has, cut as `place` is, on its device."""
    tensor = tensor.to(place.device)
    if here().size == 1:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(place, DTensor):
        return tensor
    # No source rank: nothing is sent, each process cuts its own piece out of its own copy.
    return distribute_tensor(tensor, place.device_mesh, place.placements, src_data_rank=None)


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors on the CPU in the main process, one after the other; nothing in the others, who must ask too."""
    main = here().main
    kept = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if main:
            kept[name] = full.cpu().contiguous()
    return kept
