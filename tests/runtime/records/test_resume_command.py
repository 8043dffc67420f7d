"""The command that `perceiver status` prints gives the options that run.json records."""

import json
import shlex

import pytest

from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.resume_command import resume_command
from pipeline.runtime.records.run_file import Run
from tests.jobs.test_job_files import options_of


@pytest.mark.parametrize(
    "options",
    [
        {"task": "fill-mask", "input": "/my texts", "keep_columns": ("a", "b"), "limit": 5, "report": False},
        {"task": "optical-flow", "input": "/in", "points": ((10, 20), (30, 40)), "fps": 12.5, "logits": True},
        {"task": "optical-flow", "from_latents": "/latents", "frames": (0, 8)},
    ],
)
def test_resume_command_gives_the_recorded_options(options: dict) -> None:
    chosen = RunOptions(**options, output="out", checkpoint="m")
    record = {"options": json.loads(chosen.model_dump_json())}
    run = Run(run="r", input=chosen.input, fingerprint={"head": chosen.task}, record=record)
    words = shlex.split(resume_command(run, "out"))
    assert words[:2] == ["perceiver", "run"]
    assert options_of(*words[2:]) == chosen
