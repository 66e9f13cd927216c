"""One finished single-device model, spread over processes. The only room that names DDP, FSDP and process groups.

```
world.py    World: who am I, how many are we; sums and shared values     (torchrun's variables, torch.distributed)
spread.py   replicate(objective) (DDP), shard(model) (FSDP2)              the model's own code is untouched
gather.py   rows of all processes in one tensor, for losses that compare studies
shards.py   whole(tensor), like(tensor, place): between a sharded tensor and the whole one
```

PyTorch's own launcher starts the processes: ``torchrun --nproc-per-node 2 --no-python ctscribe train RECIPE``.
"""

from typing import Literal

Parallel = Literal["ddp", "fsdp"]
"""How several processes share one training; one process alone needs neither."""
