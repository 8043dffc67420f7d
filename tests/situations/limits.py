"""Numbers and checkpoint files beyond any reasonable range."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.jobs.refused_checkpoints import change_config, lengthen, link_to_a_device, replace_by, write
from tests.situations.situation import Ended, Situation, World


def with_flags(*flags: str) -> Callable[[World], Ended]:
    """Run over one image with further flags."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(1))
        ended = world.run(*flags)
        assert not world.output.exists()
        return ended

    return act


def with_checkpoint(change: Callable[[Path], object]) -> Callable[[World], Ended]:
    """Run over one image with a changed copy of the checkpoint."""

    def act(world: World) -> Ended:
        folder = world.folder / "model"
        shutil.copytree(world.checkpoint, folder)
        change(folder)
        return with_flags()(replace(world, checkpoint=folder))

    return act


LIMITS = {
    "an option with an absurd number": Situation(
        act=with_flags("--batch-size", "99999999999"),
        code=2,
        says="error: --batch-size (99999999999) must be auto or at most 1,000,000",
    ),
    "an option without end": Situation(
        act=with_flags("--unit-seconds", "inf"), code=2, says="error: --unit-seconds (inf) must be a finite number"
    ),
    "an option that is not a number": Situation(
        act=with_flags("--unit-memory", "nan"), code=2, says="error: --unit-memory (nan) must be a finite number"
    ),
    "a configuration that is a named pipe": Situation(
        act=with_checkpoint(replace_by(os.mkfifo, "config.json")),
        code=2,
        says="error: WORLD/model/config.json is a named pipe: a checkpoint has regular files only",
    ),
    "a processor file that is a device": Situation(
        act=with_checkpoint(link_to_a_device("preprocessor_config.json")),
        code=2,
        says="error: WORLD/model/preprocessor_config.json is a device: a checkpoint has regular files only",
    ),
    "weights that are a device": Situation(
        act=with_checkpoint(link_to_a_device("model.safetensors")),
        code=2,
        says="error: WORLD/model/model.safetensors is a device: a checkpoint has regular files only",
    ),
    "a configuration of gigabytes": Situation(
        act=with_checkpoint(lengthen("config.json")),
        code=2,
        says="error: WORLD/model/config.json has 5,000,000,000 bytes, at most 8,388,608 are read",
    ),
    "a billion layers": Situation(
        act=with_checkpoint(change_config(num_self_attends_per_block=10**9)),
        code=2,
        says="error: WORLD/model/config.json: num_self_attends_per_block (1000000000) must be … at most 1,000",
    ),
    "a billion labels": Situation(
        act=with_checkpoint(change_config(num_labels=10**9)),
        code=2,
        says="error: WORLD/model/config.json: num_labels (1000000000) must be at least 1 and at most 200,000",
    ),
    "an infinite number in a processor file": Situation(
        act=with_checkpoint(write("preprocessor_config.json", '{"rescale_factor": 1e999}')),
        code=2,
        says="error: WORLD/model/preprocessor_config.json: the number 1e999 must be finite",
    ),
}
