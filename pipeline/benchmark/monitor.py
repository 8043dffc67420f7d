"""Observation of the process that holds the model: when it loaded, how long it predicted, its peak memory.

That process appends JSON lines to a log file, which the benchmark reads.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os import getpid
from pathlib import Path

from pipeline.benchmark.peak_memory import peak_resident_bytes
from pipeline.perceiver import PerceiverIO, ShardedPerceiverIO
from pipeline.runtime.stages.model_runner import ModelRef

_SETTLE_SECONDS, _SAMPLE_SECONDS = 2.0, 1.0  # processes of a run that has just ended still use CPUs in the former
_POLL_SECONDS = 0.1  # the peak never decreases: only that of the last moments can be missed


@dataclass(frozen=True, kw_only=True)
class LoggedModelRef(ModelRef):
    """A model whose loading is logged."""

    log: str

    def load(self) -> PerceiverIO | ShardedPerceiverIO:
        began = time.time()
        model = super().load()
        append(self.log, process=getpid(), began=began, ready=time.time())
        return model


@dataclass
class ModelProcess:
    """What was logged and observed during one run. `began`, `ready`: loading the model, in seconds since 1970."""

    log: Path
    peak_bytes: int = 0
    began: float = 0.0
    ready: float = 0.0
    predict_seconds: list[float] = field(default_factory=list)  # of each call; plain scripts only

    def read_log(self) -> None:
        """Set the times from the log. RuntimeError if no model was loaded."""
        lines = _read(self.log)
        loaded = [line for line in lines if "ready" in line]
        if not loaded:
            raise RuntimeError(f"no process has logged to {self.log} that it loaded a model")
        self.began, self.ready = loaded[0]["began"], loaded[0]["ready"]
        self.predict_seconds = [line["predicted"] for line in lines if "predicted" in line]

    def update_peak(self) -> None:
        """Read the peak memory of the processes that hold the model, while they run."""
        for line in _read(self.log):
            if "process" in line:
                with suppress(OSError):
                    self.peak_bytes = max(self.peak_bytes, peak_resident_bytes(int(line["process"])))


@contextmanager
def monitored(log: Path) -> Iterator[ModelProcess]:
    """Monitor the process that writes to the log during the block. Its times are set after the block."""
    model, ended = ModelProcess(log), threading.Event()

    def poll() -> None:
        while not ended.wait(_POLL_SECONDS):
            model.update_peak()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        ended.set()
        thread.join()
    model.read_log()


def busy_share() -> float:
    """Measure the share of this machine's CPUs that other programs use, between measurements. Linux only."""
    time.sleep(_SETTLE_SECONDS)
    before = _cpu_ticks()
    time.sleep(_SAMPLE_SECONDS)
    idle, total = (later - earlier for later, earlier in zip(_cpu_ticks(), before, strict=True))
    return 1 - idle / max(1, total)


def _cpu_ticks() -> tuple[int, int]:
    """Return (idle, total) ticks of all CPUs since boot."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def append(log: str, **values: float) -> None:
    """Append values to a log, as a line of JSON."""
    with Path(log).open("a") as file:
        file.write(json.dumps(values) + "\n")


def _read(log: Path) -> list[dict[str, float]]:
    """Return the complete lines: the last one may be half written."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
