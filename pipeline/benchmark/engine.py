"""Engine and transformers side by side at the published shapes: one process, the same threads, turn by turn.

    python -m pipeline.benchmark.engine --device cuda --repeats 5 optical-flow-perceiver

prints a JSON object a line, one for each shape and dtype. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.benchmark.peak_memory import measure_peak
from pipeline.benchmark.roofline import Rates, Work, count_work, measure_rates
from pipeline.benchmark.timing import BenchOptions, Contest, Row, units
from pipeline.reference import published_configs, random_checkpoints
from pipeline.reference.published_configs import Shape


def bench(shape: Shape, options: BenchOptions | None = None) -> list[Row]:
    """A row for each dtype at one published shape, all contenders taking turns. Seconds are medians of `repeats`.

    `max_abs_err` and `output_range` are those of the output that is worst against its own range, against
    transformers in float32; `peak_bytes` is the engine's alone, from a process of its own; `floor_seconds` is what its
    arithmetic takes at this device's own rates.
    """
    options = options or BenchOptions()
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_checkpoints.make_checkpoint(shape.model_class, shape.config(), Path(scratch), options.seed)
        peaks = {
            name: measure_peak(
                folder, dtype=name, device=options.device, batch=units(shape, options), seed=options.seed
            )
            for name in options.dtypes
        }
        work = count_work(folder, batch=units(shape, options), seed=options.seed)
        contest = Contest(shape, options, folder)
    contest.run()
    rates = {name: measure_rates(name, options.device) for name in options.dtypes}
    return [contest.row(name, peaks[name]) | _floor(work, rates[name]) for name in options.dtypes]


def _floor(work: Work, rates: Rates) -> Row:
    return {
        "flops": work.flops,
        "exponentials": work.exponentials,
        "device_flops_per_second": rates.flops,
        "device_exponentials_per_second": rates.exponentials,
        "floor_seconds": work.seconds(rates),
    }


def bench_all(names: Sequence[str], options: BenchOptions) -> Iterator[Row]:
    """The rows of several shapes, as each is done."""
    for name in names:
        if name not in published_configs.SHAPES:
            raise ValueError(f"shape {name!r} is none of {', '.join(published_configs.SHAPES)}")
        yield from bench(published_configs.SHAPES[name], options)


def _arguments() -> tuple[Sequence[str], Mapping[str, Any]]:
    parser = argparse.ArgumentParser(description="Time the engine against transformers at the published shapes.")
    parser.add_argument(
        "shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(published_configs.SHAPES)}; all if none"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="images at a time")
    parser.add_argument(
        "--chunks", type=int, default=2, help="of a clip's 128 passes, how many transformers is timed on"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    return options.pop("shapes") or list(published_configs.SHAPES), options


if __name__ == "__main__":
    chosen, given = _arguments()
    for line in bench_all(chosen, BenchOptions(**given)):
        print(json.dumps(line), flush=True)
