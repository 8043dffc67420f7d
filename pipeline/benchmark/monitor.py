"""What the process with the model is seen to do from outside: when it began to load, when it was ready, how long it
predicted, and the most memory it had."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os import getpid
from pathlib import Path

from pipeline.benchmark.peak_memory import high_water
from pipeline.perceiver import PerceiverIO, ShardedPerceiverIO
from pipeline.runtime.stages.model_runner import ModelRef

_SETTLE, _LOOK = 2.0, 1.0  # seconds; the processes of a run that has ended take CPUs for the first of them
_EVERY = 0.1  # seconds; the peak that is read never goes down, so only the last moments can be missed


@dataclass(frozen=True, kw_only=True)
class Watched(ModelRef):
    """A model that notes when it was loaded, and by which process."""

    notes: str

    def load(self) -> PerceiverIO | ShardedPerceiverIO:
        """The model, on its device."""
        began = time.time()
        model = super().load()
        note(self.notes, process=getpid(), began=began, ready=time.time())
        return model


@dataclass
class Seen:
    """What was noted of one run. `began`, `ready`: in seconds since 1970."""

    notes: Path
    peak_bytes: int = 0
    began: float = 0.0
    ready: float = 0.0
    predicted: list[float] = field(default_factory=list)  # seconds of each call, of the plain script's only

    def read(self) -> None:
        """Take in what stands there; RuntimeError where no model was loaded."""
        notes = _read(self.notes)
        loaded = [note for note in notes if "ready" in note]
        if not loaded:
            raise RuntimeError("no process has noted that it loaded a model")
        self.began, self.ready = loaded[0]["began"], loaded[0]["ready"]
        self.predicted = [note["predicted"] for note in notes if "predicted" in note]

    def look(self) -> None:
        """The memory of the process that has the model; where it is gone, what was seen last stays."""
        for note in _read(self.notes):
            if "process" in note:
                with suppress(OSError):
                    self.peak_bytes = max(self.peak_bytes, high_water(int(note["process"])))


@contextmanager
def watched(notes: Path) -> Iterator[Seen]:
    """For the time of the block, watch who notes something in a file; what was noted is there behind it."""
    seen, over = Seen(notes), threading.Event()

    def look() -> None:
        while not over.wait(_EVERY):
            seen.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    seen.read()


def busy() -> float:
    """The share of this machine's CPUs that is taken while nothing is measured: by others, then. Linux only."""
    time.sleep(_SETTLE)
    before = _ticks()
    time.sleep(_LOOK)
    idle, whole = (later - earlier for later, earlier in zip(_ticks(), before, strict=True))
    return 1 - idle / max(1, whole)


def _ticks() -> tuple[int, int]:
    """Of all CPUs since the machine started: those that they had nothing to do in, and all."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def note(path: str, **values: float) -> None:
    """Take values down in a file, as a line of JSON."""
    with Path(path).open("a") as file:
        file.write(json.dumps(values) + "\n")


def _read(path: Path) -> list[dict[str, float]]:
    """Whole lines only: the last one may be half written."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
