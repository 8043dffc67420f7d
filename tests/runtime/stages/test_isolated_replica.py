"""Shards that crash: the unit that does it is found in a sandbox, and the others are predicted."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloudpickle import register_pickle_by_value

from pipeline import faultpoints
from pipeline.heads import HeadOptions, head_for
from pipeline.runtime.stages import isolated_replica
from pipeline.runtime.stages.isolated_replica import IsolatedReplica
from pipeline.runtime.stages.model_runner import ModelRef
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.shard_format import unpack
from tests.packed_shards import Watched, images, model_ref, packed

# The sandbox cannot import this file: its classes are sent with the call.
register_pickle_by_value(sys.modules[__name__])

SEGFAULT, EXIT, HANG = 3, 5, 6  # first bytes of images


class Deadly(Watched):
    """The real head; some units end their process, each time, and one cannot be predicted."""

    def encode(self, model: Any, inputs: Any) -> Any:
        firsts = {int(image.flatten()[0]) for image in inputs}
        if SEGFAULT in firsts:
            ctypes.string_at(0)
        if EXIT in firsts:
            print("the context is lost", file=sys.stderr, flush=True)
            os._exit(7)
        if HANG in firsts:
            time.sleep(3600)
        return super().encode(model, inputs)


@pytest.fixture
def head(checkpoint: Path) -> Any:
    return head_for("image-classification", checkpoint, HeadOptions(logits=True))


@pytest.fixture
def close() -> Iterator[list[IsolatedReplica]]:
    """Replicas whose children end with the test."""
    replicas: list[IsolatedReplica] = []
    yield replicas
    for replica in replicas:
        replica.sandbox.close()


@pytest.fixture
def only_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process cannot load a model: the device's memory is the sandbox's."""
    monkeypatch.setattr(ModelRef, "load", lambda _ref: pytest.fail("the actor loaded the model"))


def assert_same(row, other) -> None:
    """The same units with the same columns, numbers within rounding: micro-batches may differ."""
    (rows, failed, scalars), (others, _, its_scalars) = unpack(row), unpack(other)
    assert rows.schema == others.schema
    assert rows.drop(["logits", "score", "topk"]) == others.drop(["logits", "score", "topk"])
    if rows.num_rows:
        np.testing.assert_allclose(rows["logits"].to_pylist(), others["logits"].to_pylist(), rtol=1e-4, atol=1e-5)
    assert failed.to_pylist()[0]["id"] == "early"
    assert {**scalars, "seconds_predict": 0} == {**its_scalars, "seconds_predict": 0}


def test_unit_that_crashes_the_model_is_quarantined_alone(checkpoint, head, close, request):
    row = packed([{"image": image} for image in images([32, 48, 32, 48])])
    expected = Replica(ref=model_ref(checkpoint), head=Watched(head, bad=[1, SEGFAULT]))(row)
    request.getfixturevalue("only_in_children")
    replica = IsolatedReplica(ref=model_ref(checkpoint), head=Deadly(head, bad=[1]), attempts=2)
    close.append(replica)
    found = replica(row)
    assert_same(found, expected)
    reasons = [tuple(unit.values())[2:] for unit in unpack(found)[1].to_pylist()[1:]]
    assert reasons == [
        ("predict", "RuntimeError", "cannot predict {1}", 1, ""),
        ("predict", "Crashed", "the child process died of signal 11 (SIGSEGV)", 5, ""),
    ]


@pytest.mark.slow
def test_several_units_that_crash_are_found_one_by_one(checkpoint, head, close, monkeypatch):
    monkeypatch.setattr(isolated_replica, "MICRO_BATCH_SECONDS", 10.0)  # loading the model takes some of them
    row = packed([{"image": image} for image in images([32] * 9)])
    expected = Replica(ref=model_ref(checkpoint), head=Watched(head, bad=[SEGFAULT, EXIT, HANG]), batch_size=4)(row)
    replica = IsolatedReplica(ref=model_ref(checkpoint), head=Deadly(head), batch_size=4, attempts=0)
    close.append(replica)
    found = replica(row)
    assert_same(found, expected)
    reasons = [tuple(unit.values())[3:] for unit in unpack(found)[1].to_pylist()[1:]]
    assert reasons == [
        ("Crashed", "the child process died of signal 11 (SIGSEGV)", 3),
        ("Crashed", "the child process ended with exit code 7: the context is lost", 3),
        ("TimedOut", "no result within 10 s", 3),
    ]


def test_shard_that_crashed_for_another_reason_is_predicted_whole(
    checkpoint, head, close, request, tmp_path, monkeypatch
):
    rows = [packed([{"image": image} for image in images(sides)]) for sides in ([32, 48, 32], [40])]
    replica = Replica(ref=model_ref(checkpoint), head=head, keep_latents="float32")
    expected = [replica(row) for row in rows]
    request.getfixturevalue("only_in_children")
    apart = IsolatedReplica(ref=model_ref(checkpoint), head=head, keep_latents="float32", attempts=2)
    close.append(apart)
    monkeypatch.setenv(faultpoints.VARIABLE, str(tmp_path))
    (tmp_path / "predict.end").write_text("kill")  # the first shard's process, after all of its work
    for row, its in zip(rows, expected, strict=True):
        found = apart(row)
        assert_same(found, its)
        assert unpack(found)[1].num_rows == 1
    assert [file.name.rpartition(".")[0] for file in tmp_path.iterdir()] == ["predict.end"], "it was killed, once"


@pytest.mark.slow
def test_shard_of_one_crashing_unit_still_has_the_columns(checkpoint, head, close):
    row = packed([{"image": images([32] * 4)[SEGFAULT]}])
    replica = IsolatedReplica(ref=model_ref(checkpoint), head=Deadly(head), attempts=2)
    close.append(replica)
    found = replica(row)
    assert_same(found, Replica(ref=model_ref(checkpoint), head=Watched(head, bad=[SEGFAULT]))(row))
    assert [unit["id"] for unit in unpack(found)[1].to_pylist()] == ["early", "id0"]


class Unloadable(Deadly):
    """A head that cannot be unpickled alive."""

    def __reduce__(self):
        return os._exit, (9,)


def test_crash_before_the_model_is_loaded_is_not_blamed_on_a_unit(checkpoint, head, close):
    replica = IsolatedReplica(ref=model_ref(checkpoint), head=Unloadable(head), attempts=2)
    close.append(replica)
    units, failed, scalars = unpack(replica(packed([{"image": image} for image in images([32])])))
    assert scalars["fatal"] == "the replica failed: the child process ended with exit code 9"
    assert (units.num_rows, failed.num_rows) == (1, 1), "nothing is quarantined for it"


@pytest.mark.slow
def test_another_checkpoint_than_the_planned_one_ends_the_run(checkpoint, head, close):
    replica = IsolatedReplica(ref=model_ref(checkpoint, digest="0ff"), head=head, attempts=2)
    close.append(replica)
    fatal = unpack(replica(packed([{"image": image} for image in images([32])])))[2]["fatal"]
    assert fatal.startswith("CheckpointChanged: checkpoint ")
    assert fatal.endswith("the run was planned with 0ff")
