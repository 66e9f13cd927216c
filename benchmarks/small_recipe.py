"""What a step of the recipe ``small`` costs on a processor: SmolLM2-135M with frozen weights, the detector of ``demo``.

    PYTHONPATH=. python benchmarks/small_recipe.py --run RUN [--batch 2]

RUN is the folder of a run of the recipe, however short: its phantoms and its decoder are used.

    ctscribe train small data.studies=6 data.validation=4 train.stages.0.steps=1 train.stages.1.steps=1 \\
      train.stages.2.steps=1 --out RUN

Prints processor seconds of forward and backward a study, for each stage.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from timing import cpu_seconds

from ctscribe.data.store import StudyStore
from ctscribe.model import CTReportModel
from ctscribe.training import course
from ctscribe.training.losses import standard_losses
from ctscribe.training.objective import Objective
from ctscribe.training.optim import freeze_all_but
from recipes import small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    config = small.config()
    spoken = replace(config.model.language, pretrained=str(options.run / "smollm2"))
    config = replace(config, model=replace(config.model, language=spoken))
    model = CTReportModel(config.model, course.tokenizer_of(config, options.run)).train()
    source = course.Sources(config, model.language.tokenizer, StudyStore(options.run / "phantoms"))
    for stage in (replace(stage, batch_size=options.batch) for stage in config.train.stages):
        freeze_all_but(model, stage)
        batch = next(iter(source(stage)(0, 1)))
        objective = Objective(model, stage, standard_losses(), config.train)

        def step(objective: Objective = objective, batch: object = batch) -> None:
            objective(batch)[0].backward()

        spent = cpu_seconds(step, 1, warm=False)[0] / options.batch
        print(f"{stage.name}: {spent:.1f} CPU s a study", flush=True)


if __name__ == "__main__":
    main()
