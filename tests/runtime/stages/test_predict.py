"""A replica predicts the micro-batches of a shard."""

import threading
import time
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import PerceiverForSequenceClassification

from pipeline.heads import HeadOptions, head_for
from pipeline.perceiver import CheckpointError, PerceiverIO
from pipeline.perceiver.cpu_parallel import torch_threads
from pipeline.reference.published_configs import SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.stages.compute_thread import compute_runner
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.shard_format import unpack
from tests.packed_shards import Watched, images, model_ref, packed


class Sized(Watched):
    """Records the lengths of the texts of each micro-batch."""

    def collate(self, arrays):
        self.batches.append([len(ids) for ids in arrays["ids"]])
        return self.head.collate(arrays)

    def encode(self, model, inputs):
        return self.head.encode(model, inputs)


@pytest.fixture
def head(checkpoint):
    return head_for("image-classification", checkpoint, HeadOptions(logits=True))


def shard(sides: list[int]) -> tuple[pa.Table, list[np.ndarray]]:
    """A packed shard of square images, and these."""
    shard_images = images(sides)
    return packed([{"image": image} for image in shard_images]), shard_images


def expected(checkpoint, head, images) -> np.ndarray:
    model = PerceiverIO.from_pretrained(str(checkpoint))
    with torch.inference_mode():
        inputs = [head.collate({"image": [image]}) for image in images]
        rows = [head.rows(head.decode(model, head.encode(model, one), one)) for one in inputs]
    return np.array([row["logits"][0] for row in rows])


def test_rows_of_any_shapes_are_in_plan_order(checkpoint, head):
    row, images = shard([32, 48, 32, 48, 48, 32, 40])
    watched = Watched(head)
    table, failed, scalars = unpack(Replica(ref=model_ref(checkpoint), head=watched, batch_size=2)(row))
    assert watched.batches == [[0, 2], [5], [1, 3], [4], [6]], "micro-batches of one shape, at most two"
    assert table.column("id").to_pylist() == [f"id{i}" for i in range(7)]
    assert table.column("segment").to_pylist() == [2] * 7
    logits = np.array(table.column("logits").to_pylist())
    np.testing.assert_allclose(logits, expected(checkpoint, head, images), rtol=1e-4, atol=1e-5)
    assert [unit["id"] for unit in failed.to_pylist()] == ["early"]
    assert scalars["seconds_predict"] > 0
    assert (scalars["shard"], scalars["seconds_load"]) == (7, 0.5)


def test_units_of_different_lengths_share_a_micro_batch_in_plan_order(tmp_path):
    folder = make_checkpoint(SEQUENCE, small(SEQUENCE, max_position_embeddings=300), tmp_path)
    head = head_for("text-classification", folder, HeadOptions(logits=True))
    texts = ["x" * length for length in (250, 3, 200, 0, 17, 250, 90)]
    units = [head.transform(text) for text in texts]
    watched = Sized(head)
    replica = Replica(ref=model_ref(folder), head=watched, batch_size=4)
    rows, failed, _ = unpack(replica(packed(units)))
    assert watched.batches == [[252, 202, 252], [5, 2, 19, 92]]
    assert (rows.column("id").to_pylist(), failed.num_rows) == ([f"id{i}" for i in range(7)], 1)
    model = PerceiverForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = [model(inputs=torch.tensor([unit["ids"].tolist()])).logits[0].numpy() for unit in units]
    np.testing.assert_allclose(np.array(rows.column("logits").to_pylist()), logits, rtol=1e-4, atol=1e-5)


def test_large_units_have_smaller_batches_unless_a_size_is_given(checkpoint, head, monkeypatch):
    monkeypatch.setattr("pipeline.runtime.stages.predict.MAX_BATCH_BYTES", 3 * 3 * 32 * 32 + 10)  # three images
    row, images = shard([32] * 12)
    found = {}
    for size in ("auto", 12):
        watched = Watched(head)
        table, _, _ = unpack(Replica(ref=model_ref(checkpoint), head=watched, batch_size=size)(row))
        found[size] = watched.batches
        logits = np.array(table.column("logits").to_pylist())
        np.testing.assert_allclose(logits, expected(checkpoint, head, images), rtol=1e-4, atol=1e-5)
    tried = [[0], [1], [2, 3], [4, 5], [6, 7, 8], [9, 10, 11]]
    assert found == {"auto": tried, 12: [list(range(12))]}


def test_unit_that_cannot_be_predicted_is_quarantined_alone(checkpoint, head):
    row, images = shard([32] * 9)
    watched = Watched(head, bad=[3, 8])
    table, failed, _ = unpack(Replica(ref=model_ref(checkpoint), head=watched, batch_size=8)(row))
    good = [0, 1, 2, 4, 5, 6, 7]
    assert table.column("id").to_pylist() == [f"id{i}" for i in good]
    logits = np.array(table.column("logits").to_pylist())
    np.testing.assert_allclose(logits, expected(checkpoint, head, [images[i] for i in good]), rtol=1e-4, atol=1e-5)
    reasons = [(unit["id"], unit["stage"], unit["error"], unit["message"]) for unit in failed.to_pylist()[1:]]
    assert reasons == [
        ("id3", "predict", "RuntimeError", "cannot predict {3}"),
        ("id8", "predict", "RuntimeError", "cannot predict {8}"),
    ]
    assert max(len(batch) for batch in watched.batches[1:8]) <= 4, "a micro-batch that failed is halved"


def test_shard_of_no_or_only_bad_units_still_has_the_columns(checkpoint, head):
    replica = Replica(ref=model_ref(checkpoint), head=Watched(head, bad=range(3)))
    for sides in ([], [32, 32, 32]):
        table, failed, _ = unpack(replica(shard(sides)[0]))
        assert table.num_rows == 0
        assert set(head.columns) <= set(table.column_names)
        assert failed.num_rows == 1 + len(sides)


def test_wrong_number_of_rows_from_a_head_is_an_error(checkpoint, head):
    class Short(Watched):
        def rows(self, outputs):
            return {name: column[:-1] for name, column in super().rows(outputs).items()}

    table, failed, _ = unpack(Replica(ref=model_ref(checkpoint), head=Short(head))(shard([32, 32])[0]))
    assert (table.num_rows, failed.num_rows) == (0, 3)
    assert "0 values for 1 unit" in failed.to_pylist()[1]["message"]


@pytest.mark.parametrize("with_gpu", [False, True], ids=["as on a CPU", "as on a GPU"])
def test_calls_compute_one_at_a_time_and_collate_meanwhile_only_with_a_gpu(checkpoint, head, monkeypatch, with_gpu):
    class Counting(Watched):
        inside = most = collated_meanwhile = 0
        threads: ClassVar = set()

        def encode(self, model, inputs):
            self.inside += 1
            self.most = max(self.most, self.inside)
            outputs = super().encode(model, inputs)
            self.inside -= 1
            return outputs

        def collate(self, arrays):
            self.collated_meanwhile += self.inside
            self.threads.add(threading.get_ident())
            return super().collate(arrays)

        def rows(self, outputs):
            self.threads.add(threading.get_ident())
            return super().rows(outputs)

    if with_gpu:
        directly = compute_runner(torch.device("cuda"), 1)
        monkeypatch.setattr("pipeline.runtime.stages.model_runner.compute_runner", lambda *_: directly)
    counting = Counting(head, wait=0.05)
    replica = Replica(ref=model_ref(checkpoint), head=counting, batch_size=2)
    done, row = [], shard([32] * 6)[0]
    threads = [threading.Thread(target=lambda: done.append(replica(row))) for _ in range(3)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    assert counting.most == 1
    seconds = [unpack(row)[2]["seconds_predict"] for row in done]
    assert sum(seconds) < 1.5 * elapsed, "waiting for another call is not predicting"
    assert (len(counting.threads) > 1, counting.collated_meanwhile > 0) == (with_gpu, with_gpu)


def test_another_checkpoint_than_the_planned_one_is_refused(checkpoint, head):
    with pytest.raises(CheckpointError, match=r"digest is \w{64}, the run was planned with 0ff"):
        Replica(ref=model_ref(checkpoint, digest="0ff"), head=head)


def test_device_dtype_and_threads_are_those_of_the_reference(checkpoint, head):
    there = torch.get_num_threads()
    with torch_threads(there):  # the replica's thread changes it for those that come later
        replica = Replica(ref=model_ref(checkpoint, dtype="bfloat16", threads=there + 1), head=head)
        assert (replica.runner.compute(torch.get_num_threads), torch.get_num_threads()) == (there + 1, there)
    assert replica.runner.model.dtype == torch.bfloat16
    assert (replica.batch_sizes.units, replica.batch_sizes.tuned) == (8, True)
    assert unpack(replica(shard([32, 32])[0]))[0].num_rows == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(checkpoint, head):
    row, images = shard([32, 48, 32])
    table, _, _ = unpack(Replica(ref=model_ref(checkpoint, device="cuda"), head=head)(row))
    logits = np.array(table.column("logits").to_pylist())
    np.testing.assert_allclose(logits, expected(checkpoint, head, images), rtol=1e-3, atol=1e-3)
