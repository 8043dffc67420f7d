"""A driver that plans and does nothing else, `python -m tests.faults.planning_memory FOLDER INPUT`: of tests it imports
nothing, whose memory would count as its own. It says what it has taken as soon as the plan is frozen."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions


def main(folder: str, uri: str) -> None:
    """The plan of pictures, into FOLDER/out by the checkpoint FOLDER/model."""
    options = RunOptions(
        task="image-classification", input=uri, output=f"{folder}/out", checkpoint=f"{folder}/model", address="local"
    )
    began = time.monotonic()
    with prepare_run(options) as ready:
        seconds, status = time.monotonic() - began, Path("/proc/self/status").read_text()
        peak = round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)
        told = {"seconds_without_imports": round(seconds, 1), "peak_mb": peak}
        print(json.dumps(told | {"units": ready.plan.units, "shards": ready.plan.shards}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
