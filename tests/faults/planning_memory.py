"""Plan only, and print the memory used: `python -m tests.faults.planning_memory FOLDER INPUT`.

Imports nothing from the tests, so that their memory is not counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions


def main(folder: str, uri: str) -> None:
    """Freeze a plan over images into FOLDER/out with the checkpoint FOLDER/model, and print time and memory."""
    options = RunOptions(
        task="image-classification", input=uri, output=f"{folder}/out", checkpoint=f"{folder}/model", address="local"
    )
    began = time.monotonic()
    with prepare_run(options) as ready:
        seconds, status = time.monotonic() - began, Path("/proc/self/status").read_text()
        peak = round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)
        measured = {"seconds_without_imports": round(seconds, 1), "peak_mb": peak}
        print(json.dumps(measured | {"units": ready.plan.units, "shards": ready.plan.shards}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
