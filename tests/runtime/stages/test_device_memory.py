"""A device without enough memory: micro-batches are halved, the size that fits is kept, a single unit is quarantined.

The device is the CPU, whose room for units a test sets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline import faultpoints
from pipeline.heads import HeadOptions, head_for
from pipeline.perceiver import PerceiverIO
from pipeline.runtime.stages.device import DeviceLock, is_out_of_memory
from pipeline.runtime.stages.model_runner import ModelRef
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.shard_format import unpack
from tests.packed_shards import Watched, images, model_ref, packed


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`room(n)`: from now on the device has memory for n units."""
    monkeypatch.setenv(faultpoints.VARIABLE, str(tmp_path))

    def leave(units: int) -> None:
        (tmp_path / "predict.memory").write_text(str(units))

    return leave


@pytest.fixture
def watched(checkpoint: Path) -> Watched:
    return Watched(head_for("image-classification", checkpoint, HeadOptions(logits=True)))


def shard(sides: list[int]) -> pa.Table:
    return packed([{"image": image} for image in images(sides)])


def sizes(watched: Watched) -> list[int]:
    """Sizes of the micro-batches since the last call."""
    found = [len(batch) for batch in watched.batches]
    watched.batches.clear()
    return found


def test_micro_batches_are_halved_and_the_size_that_fits_is_kept_per_shape(checkpoint, watched, room):
    replica = Replica(ref=model_ref(checkpoint), head=watched, batch_size=8)
    row = shard([32] * 11)
    expected = unpack(replica(row))[0]
    assert sizes(watched) == [8, 3]
    room(3)
    found, failed, _ = unpack(replica(row))
    assert sizes(watched) == [8, 4, 2, 2, 2, 2, 2, 1]
    assert (found["id"].to_pylist(), failed.num_rows) == (expected["id"].to_pylist(), 1)
    np.testing.assert_allclose(found["logits"].to_pylist(), expected["logits"].to_pylist(), rtol=1e-4, atol=1e-5)
    replica(row)
    assert sizes(watched) == [2, 2, 2, 2, 2, 1], "a later shard starts at that size"
    room(8)
    replica(shard([48] * 8))
    assert sizes(watched) == [8], "another shape has its own size"
    replica(row)
    assert sizes(watched) == [2, 2, 2, 2, 2, 1], "for the life of the replica"


def test_odd_number_of_units_does_not_lose_the_size_that_fits(checkpoint, watched, room):
    room(3)
    replica = Replica(ref=model_ref(checkpoint), head=watched, batch_size=7)
    assert unpack(replica(shard([32] * 7)))[0].num_rows == 7
    assert sizes(watched) == [7, 3, 3, 1]


def test_unit_that_does_not_fit_is_quarantined_after_an_exclusive_attempt(checkpoint, watched, room):
    room(0)
    table, failed, _ = unpack(Replica(ref=model_ref(checkpoint), head=watched)(shard([32, 32])))
    assert table.num_rows == 0
    reasons = [(unit["id"], unit["error"], unit["message"], unit["attempts"]) for unit in failed.to_pylist()[1:]]
    message = "the unit alone does not fit in the device's memory"
    assert reasons == [(f"id{i}", "DoesNotFit", message, 2) for i in range(2)]


def test_other_errors_do_not_reduce_the_batch_size(checkpoint, watched):
    replica = Replica(ref=model_ref(checkpoint), head=watched, batch_size=8)
    watched.bad = {3}
    assert unpack(replica(shard([32] * 8)))[0].num_rows == 7
    sizes(watched)
    watched.bad = set()
    assert unpack(replica(shard([32] * 8)))[0].num_rows == 8
    assert sizes(watched) == [8]


def test_float32_model_is_freed_before_batches_are_halved(checkpoint, watched, room, monkeypatch):
    loaded: list[str] = []
    load = ModelRef.load

    def noted(ref: ModelRef) -> PerceiverIO:
        loaded.append(ref.dtype)
        return load(ref)

    class Lossy(Watched):
        """A model that overflows for images whose first byte is 1, but not in float32."""

        def encode(self, model, inputs):
            latents = super().encode(model, inputs)
            lost = torch.tensor([model.dtype != torch.float32 and int(image.flatten()[0]) == 1 for image in inputs])
            model.note("latents", latents.masked_fill(lost[:, None, None], float("inf")))
            return latents

    monkeypatch.setattr(ModelRef, "load", noted)
    lossy = Lossy(watched.head)
    replica = Replica(ref=model_ref(checkpoint, dtype="bfloat16"), head=lossy, batch_size=4)
    for _ in range(2):
        assert unpack(replica(shard([32] * 2)))[0].num_rows == 2
    assert loaded == ["bfloat16", "float32"], "it is kept"
    sizes(lossy)
    room(1)
    assert unpack(replica(shard([32] * 2)))[0].num_rows == 2
    assert sizes(lossy) == [2, 2, 1, 1, 1], "both again without it; then one by one, the second in float32 too"
    assert loaded == ["bfloat16", "float32", "float32"]


def test_quarantine_says_that_the_float32_model_does_not_fit(checkpoint, watched, monkeypatch):
    load = ModelRef.load

    def too_large(ref: ModelRef) -> PerceiverIO:
        if ref.dtype == "float32":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load(ref)

    class Overflowing(Watched):
        def encode(self, model, inputs):
            latents = super().encode(model, inputs)
            model.note("latents", latents / 0)
            return latents

    monkeypatch.setattr(ModelRef, "load", too_large)
    head = Overflowing(watched.head)
    _, failed, _ = unpack(Replica(ref=model_ref(checkpoint, dtype="bfloat16"), head=head)(shard([32])))
    message = (
        "the unit alone does not fit in the device's memory in float32, tried because bfloat16 gave NaN or infinity"
    )
    assert [(unit["error"], unit["message"]) for unit in failed.to_pylist()[1:]] == [("DoesNotFit", message)]


def test_exclusive_user_waits_for_shared_ones_and_keeps_new_ones_out():
    turns, events = DeviceLock(), []
    inside, leave = threading.Event(), threading.Event()

    def share() -> None:
        with turns.hold(exclusive=False):
            inside.set()
            leave.wait()
            events.append("first left")

    def alone() -> None:
        with turns.hold(exclusive=True):
            events.append("alone")

    def later() -> None:
        with turns.hold(exclusive=False):
            events.append("later")

    threads = [threading.Thread(target=share)]
    threads[0].start()
    inside.wait()
    threads.append(threading.Thread(target=alone))
    threads[1].start()
    while not turns._exclusive:  # until it waits
        time.sleep(0.001)
    threads.append(threading.Thread(target=later))
    threads[2].start()
    assert events == []
    leave.set()
    for thread in threads:
        thread.join(10)
    assert events == ["first left", "alone", "later"]


def test_parallel_calls_share_a_device_with_little_memory(checkpoint, watched, room):
    room(2)
    replica = Replica(ref=model_ref(checkpoint), head=watched, batch_size=8)
    rows, done = [shard([32] * 7), shard([32, 48] * 3), shard([48] * 5)], {}
    threads = [threading.Thread(target=lambda i=i: done.update({i: replica(rows[i])})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {number: unpack(row)[0].num_rows for number, row in done.items()} == {0: 7, 1: 6, 2: 5}


@pytest.mark.parametrize(
    ("error", "room"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (MemoryError(), False),
    ],
)
def test_out_of_memory_errors_are_recognized(error: Exception, room: bool):
    assert is_out_of_memory(error) is room
