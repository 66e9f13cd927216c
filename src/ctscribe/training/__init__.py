"""Training: one visible loop, stages as data.

```
stages.py   Stage, TrainConfig          loop.py    train(model, config, data, losses, run_dir)
order.py    which sample when           seeds.py   every random stream from one seed
optim.py    AdamW, cosine               ema.py     averaged weights
losses/     one idea, one file          saves.py   atomic checkpoints, exact resume
track.py    metrics, progress, plots    runs.py    the run folder
objective.py model and losses as one    compare.py run folders side by side
boards.py   TensorBoard, MLflow, W&B    failures.py out of memory or disk, in words
phantoms.py fills a study store with synthetic studies
```
"""
