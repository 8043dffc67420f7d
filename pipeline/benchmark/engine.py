"""Engine against transformers at the published shapes: one process, the same threads, alternating measurements.

Weights are random: speed does not depend on them.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.benchmark.peak_memory import measure_peak
from pipeline.benchmark.roofline import count_operations, measure_rates
from pipeline.benchmark.timing import Row, median_and_range, seconds
from pipeline.reference import parity, random_checkpoints, transformers_model
from pipeline.reference.published_configs import MULTIMODAL, Shape
from pipeline.reference.sample_inputs import sample_unit, to_device
from pipeline.reference.transformers_model import Outputs

_TEXTS = 4  # texts of full length per batch of fill-mask


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of a benchmark.

    `batch` applies to images, by default one at a time, or in whole runs as many as a replica predicts at once. Other
    tasks have a fixed batch size. Only whole runs have `units`, by default a number per task, `small` and `daft`.
    """

    device: str = "cpu"
    dtypes: Sequence[str] = ("float32", "bfloat16")
    repeats: int = 5
    batch: int | None = None
    chunks: int | None = 2  # of a clip's 128 chunks, the number that transformers is timed on; None: all
    units: int | None = None
    small: bool = False  # the models have a tenth of the parameters: twice the default units
    daft: bool = False  # also measure a plain Daft script


def bench(shape: Shape, options: BenchOptions) -> list[Row]:
    """Return a row per dtype at one shape. Seconds are medians of `repeats`.

    `max_abs_err` and `output_range` are of the output with the largest error relative to its range, against
    transformers in float32. `peak_bytes` is of the engine alone, in its own process. `floor_seconds` is the time of
    the engine's arithmetic at the device's measured rates.
    """
    device, batch = options.device, batch_size(shape, options)
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_checkpoints.make_checkpoint(shape.model_class, shape.config(), Path(scratch))
        peaks = {dtype: measure_peak(folder, dtype=dtype, device=device, batch=batch) for dtype in options.dtypes}
        operations = count_operations(folder, batch=batch)
        comparison = Comparison(shape, options, folder)
    comparison.measure()
    rows = []
    for dtype in options.dtypes:
        rates = measure_rates(dtype, device)
        floor = {
            "flops": operations.flops,
            "exponentials": operations.exponentials,
            "device_flops_per_second": rates.flops,
            "device_exponentials_per_second": rates.exponentials,
            "floor_seconds": operations.seconds(rates),
        }
        rows.append(comparison.row(dtype) | {"peak_bytes": peaks[dtype][0]} | floor)
    return rows


def batch_size(shape: Shape, options: BenchOptions) -> int:
    """Return the number of units that are predicted at once."""
    return {"fill-mask": _TEXTS, "image-classification": options.batch or 1}.get(shape.task, 1)


@dataclass(kw_only=True)
class Contender:
    """One model in one dtype: its first outputs and its seconds per batch, or why it failed."""

    predict: Callable[[], Outputs]
    scale: float = 1.0  # from the measured part of the batch to the whole
    outputs: Outputs = field(default_factory=dict)
    failure: str | None = None
    seconds: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        """Predict once, unmeasured. A model that fails is not measured, and its row gives the reason."""
        try:
            self.outputs = self.predict()
        except RuntimeError as error:  # mixed dtypes in transformers' forward, or out of memory
            self.failure = str(error).partition("\n")[0]

    def measure(self, device: str) -> None:
        """Time one prediction."""
        if self.failure is None:
            self.seconds.append(seconds(self.predict, device) * self.scale)


class Comparison:
    """The engine and transformers in every dtype, all loaded, and transformers in float32 in any case."""

    def __init__(self, shape: Shape, options: BenchOptions, folder: Path) -> None:
        self.shape, self.options, self.folder = shape, options, folder
        self.config, self.batch = shape.config(), batch_size(shape, options)
        clip = shape.model_class == MULTIMODAL
        self.chunks = parity.spread_chunks(self.config, options.chunks) if clip else []
        self.inputs, self.points = sample_unit(self.config, shape.model_class, self.batch)
        self.points = None if self.points is None else self.points.to(options.device)
        self.engine = {dtype: self._engine(dtype) for dtype in options.dtypes}
        self.transformers = {dtype: self._transformers(dtype) for dtype in dict.fromkeys(["float32", *options.dtypes])}

    def _engine(self, dtype: str) -> Contender:
        device, batch = self.options.device, self.batch
        return Contender(predict=parity.sample_prediction(self.folder, dtype=dtype, device=device, batch=batch))

    def _transformers(self, dtype: str) -> Contender:
        device = self.options.device
        model = transformers_model.load(self.folder, dtype=getattr(torch, dtype), device=device)
        inputs = to_device(self.inputs, device, model.dtype)
        self.params = sum(parameter.numel() for parameter in model.parameters())
        scale = transformers_model.num_chunks(self.config) / len(self.chunks) if self.chunks else 1.0
        return Contender(predict=lambda: parity.reference_outputs(model, inputs, None, self.chunks), scale=scale)

    def measure(self) -> None:
        """Measure all contenders `repeats` times, alternating."""
        contenders = [*self.engine.values(), *self.transformers.values()]
        for contender in contenders:
            contender.warm_up()
        for contender in contenders * self.options.repeats:
            contender.measure(self.options.device)

    def row(self, dtype: str) -> Row:
        """Return the result in one dtype."""
        engine, transformers = self.engine[dtype], self.transformers[dtype]
        extrapolated = 0 < len(self.chunks) < transformers_model.num_chunks(self.config)
        return {
            "head": self.shape.task,
            "shape": self.shape.name,
            "dtype": dtype,
            "device": self.options.device,
            "batch": self.batch,
            "repeats": self.options.repeats,
            "threads": torch.get_num_threads(),
            **median_and_range("engine_seconds", engine.seconds),
            "engine_failure": engine.failure,
            **median_and_range("transformers_seconds", transformers.seconds),
            "transformers_failure": transformers.failure,
            **median_and_range("transformers_float32_seconds", self.transformers["float32"].seconds),
            "extrapolated_from_chunks": len(self.chunks) if extrapolated else None,
            **self._error(engine, dtype),
            "params": self.params,
        }

    def _error(self, engine: Contender, dtype: str) -> Row:
        """Return the output with the largest error against transformers in float32, relative to its range."""
        outputs = self.transformers["float32"].outputs
        expected = {name: value for name, value in outputs.items() if name != "latents"}
        if not expected or engine.failure is not None:
            return {"worst_output": None, "max_abs_err": None, "output_range": None}
        if self.points is not None:  # transformers decodes every position
            logits = expected["logits"]
            expected["logits"] = logits.gather(1, self.points.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))
        found = parity.select_chunks(engine.outputs, self.config, self.chunks)
        worst = max(parity.differences(found, expected, dtype), key=lambda row: row.relative)
        return {"worst_output": worst.output, "max_abs_err": worst.max_abs_diff, "output_range": worst.range}
