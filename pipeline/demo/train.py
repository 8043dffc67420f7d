"""Make the shipped checkpoints: `python -m pipeline.demo.train [NAME …]`, all of them by default.

Trains each on the CPU, saves it next to the code, and runs `perceiver run` on held-out data with it. Fails if a
checkpoint misses its bar.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PerceiverImageProcessorPil, PerceiverTokenizer
from transformers.models.perceiver import modeling_perceiver

from pipeline.checkpoints.shipped import FOLDER
from pipeline.demo.model_card import write_card
from pipeline.demo.recipe import SEED, Recipe
from pipeline.demo.recipes import RECIPES
from pipeline.demo.training import init_weights, train
from pipeline.reference.published_configs import TASKS


def make(recipe: Recipe, folder: Path) -> None:
    """Train a model and save it with all files that a checkpoint has."""
    model_class: Any = getattr(modeling_perceiver, recipe.model_class)
    torch.manual_seed(SEED)
    model = model_class(recipe.config())
    init_weights(model, SEED)
    recipe.start(model)
    model = train(model, recipe.loss(SEED), recipe.schedule, lambda line: print(f"  {line}", flush=True))
    shutil.rmtree(folder, ignore_errors=True)
    (model.half() if recipe.half else model).save_pretrained(folder)
    if recipe.model_class in TASKS["image-classification"]:
        side = {"height": model.config.image_size, "width": model.config.image_size}
        PerceiverImageProcessorPil(
            size=side, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ).save_pretrained(folder)
    elif recipe.trial.task in ("text-classification", "fill-mask"):
        PerceiverTokenizer(model_max_length=model.config.max_position_embeddings).save_pretrained(folder)


def main(names: list[str], *, only_measure: bool) -> int:
    """Make and measure the named checkpoints. Return 1 if one of them misses its bar, else 0."""
    lines, failed = [], False
    for name in names or list(RECIPES):
        recipe, folder, started = RECIPES[name], FOLDER / name, time.monotonic()
        print(f"{name}: {recipe.model_class}", flush=True)
        if not only_measure:
            make(recipe, folder)
        value = recipe.trial.measure(str(folder))
        write_card(folder, name, recipe, value)
        passed = recipe.trial.passes(value)
        failed = failed or not passed
        verdict = "passed" if passed else "MISSED"
        seconds = time.monotonic() - started
        figure = f"{value:.2f} {recipe.trial.figure} (bar: {recipe.trial.bar_in_words})"
        lines.append(f"{name}: {figure}: {verdict}, {seconds:.0f} s")
        print(lines[-1], flush=True)
    print("\n".join(["", *lines]))
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *RECIPES], help="checkpoints to make; default: all")
    parser.add_argument("--only-measure", action="store_true", help="measure the checkpoints as they are")
    arguments = parser.parse_args()
    sys.exit(main(arguments.names, only_measure=arguments.only_measure))
