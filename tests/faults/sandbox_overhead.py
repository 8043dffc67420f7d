"""Measure the cost of reading in a child process (ten minutes): `python -m tests.faults.sandbox_overhead`.

Runs over the same photographs with a model so small that reading takes most of the time, alternating between reading in
a child process with limits and in the load task. The rate is in units per second from the first receipt to the last,
without planning and start.
"""

from __future__ import annotations

import io
import json
import statistics
import tempfile
from pathlib import Path

import ray
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data

from pipeline.reference.published_configs import small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.run import execute
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.receipts import read_receipts
from pipeline.runtime.records.run_file import read_run
from pipeline.storage import Store

FILES, TURNS, SHARD = 1600, 7, 32
MODEL = "PerceiverForImageClassificationFourier"


def put_photographs(folder: Path) -> None:
    """Write different JPEG files of 512 × 512 pixels."""
    folder.mkdir()
    sources = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in ("astronaut", "coffee", "chelsea")]
    for number in range(FILES):
        image = sources[number % len(sources)].resize((512, 512)).rotate(number % 90)
        image.save(folder / f"{number:05d}.jpg", quality=90)


def units_a_second(folder: Path, model: Path, output: Path, *, trusted: bool) -> float:
    """Return the units per second of one run."""
    options = RunOptions(
        task="image-classification",
        input=str(folder),
        output=str(output),
        checkpoint=str(model),
        shard_size=SHARD,
        trusted_inputs=trusted,
    )
    execute(options, console=Console(file=io.StringIO()))
    store = Store(str(output))
    receipts = sorted(read_receipts(store, read_run(store).run).values(), key=lambda receipt: receipt.received_at)
    return sum(receipt.units for receipt in receipts[1:]) / (receipts[-1].received_at - receipts[0].received_at)


def main() -> None:
    """Measure both ways, `TURNS` times each, and print a table and a line of JSON."""
    ray.init(address="local", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put_photographs(folder / "in")
        model = make_checkpoint(MODEL, small(MODEL), folder / "model")
        rates: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(2 * (TURNS + 1)):
            trusted = turn % 2 == (turn // 2) % 2  # alternate the order, too
            rate = units_a_second(folder / "in", model, folder / f"out{turn}", trusted=trusted)
            if turn > 1:  # the first run of each is warm-up
                rates[trusted].append(rate)
            Console(stderr=True).print(f"{'without' if trusted else 'with'} sandbox: {rate:.1f} units/s")
    ray.shutdown()
    medians = {trusted: statistics.median(found) for trusted, found in rates.items()}
    table = Table("", "units/s, median", "least", "greatest")
    for trusted, label in ((True, "without guards"), (False, "with guards")):
        table.add_row(label, *(f"{of(rates[trusted]):.1f}" for of in (statistics.median, min, max)))
    Console().print(table)
    print(json.dumps({"with": rates[False], "without": rates[True], "ratio": medians[False] / medians[True]}))


if __name__ == "__main__":
    main()
