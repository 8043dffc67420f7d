"""Shards in Ray Data: one per block, without a copy, and without stalls."""

import itertools
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import ray.data
from ray import cloudpickle

from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.plan_files import PlanFile
from pipeline.runtime.ray_backend import dataset
from pipeline.runtime.ray_backend.dataset import block_size, build_dataset, plan_blocks, run_shards

# Workers cannot import this file: what it defines travels with the task.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def options(image_folder, checkpoint, tmp_path, cluster):
    return RunOptions(
        task="image-classification",
        input=str(image_folder),
        output=str(tmp_path / "out"),
        checkpoint=str(checkpoint),
        shard_size=4,
        replicas=2,
    )


class Witness:
    """The real head with arrays of 200 kB: Ray inlines objects below 100 kB in its messages.

    It writes down which tasks there are, and for each micro-batch where the arrays lie.
    """

    def __init__(self, head, folder: Path):
        self.head, self.folder = head, folder
        self.columns, self.encode, self.decode = head.columns, head.encode, head.decode
        self.rows, self.latents_per_unit = head.rows, head.latents_per_unit

    def bucket(self, shapes):
        """Called in the task's thread, unlike what follows."""
        (self.folder / f"task-{ray.get_runtime_context().get_task_id()}").touch()
        return self.head.bucket(shapes)

    def transform(self, medium):
        return {name: array.repeat(8, 1).repeat(8, 2) for name, array in self.head.transform(medium).items()}

    def collate(self, arrays):
        images = arrays["image"]
        step = {int(b.ctypes.data - a.ctypes.data) for a, b in itertools.pairwise(images)}
        lines = [f"{mapping_of(image)} {image.flags.writeable} {step <= {image.nbytes}}" for image in images]
        with (self.folder / f"arrays-{os.getpid()}").open("a") as file:
            file.write("\n".join(lines) + "\n")
        return self.head.collate({"image": [image[:, ::8, ::8] for image in images]})


def mapping_of(array: np.ndarray) -> str:
    """Return the kernel's name of the memory mapping at the array's address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(address, 16) for address in line.split()[0].split("-"))
        if begin <= array.ctypes.data < end:
            return "".join(line.split()[5:]) or "anonymous"
    raise AssertionError("an array lies nowhere")


def test_block_is_one_shard_with_its_arrays_in_shared_memory(options, tmp_path):
    seen = tmp_path / "seen"
    seen.mkdir()
    with prepare_run(options) as ready:
        stages, witness = ready.stages(), Witness(ready.stages().replica["head"], seen)
        loader, replica = replace(stages.loader, head=witness), stages.replica | {"head": witness}
        stages = replace(stages, loader=loader, replica=replica)
        blocks = list(plan_blocks(ready.plan.files, set(), size=8))
        assert [block.num_rows for block in blocks] == [8, 7], "several plan rows a load task"
        bundles = list(build_dataset(stages, blocks, lambda: {}).iter_internal_ref_bundles())
        sizes = [entry.metadata.num_rows for bundle in bundles for entry in bundle.blocks]
    assert sizes == [1] * 15
    assert len(list(seen.glob("task-*"))) == 15, "a task of a replica gets one block, and that is one shard"
    lines = [line.split() for path in seen.glob("arrays-*") for line in path.read_text().splitlines()]
    assert len(lines) == 55
    for mapping, writeable, adjacent in lines:
        assert "plasma" in mapping
        assert (writeable, adjacent) == ("False", "True"), "views on the one buffer that load wrote"


def test_run_keeps_the_callers_ray_settings(options):
    before = ray.data.DataContext.get_current().target_max_block_size
    with prepare_run(options) as ready:
        made = build_dataset(ready.stages(), list(plan_blocks(ready.plan.files, set(), size=1)), lambda: {})
    assert made.context.target_max_block_size == 1
    assert 0 < made.context.max_errored_blocks < 1000
    assert ray.data.DataContext.get_current().target_max_block_size == before > 1


def test_closing_the_receipts_stops_the_work_and_frees_the_cluster(options):
    with prepare_run(options.model_copy(update={"replicas": 1})) as ready:
        stream = run_shards(ready.stages(), ready.plan.files, set())
        first = next(stream)
        assert first.rows + first.quarantined == 4
        stream.close()
        done = {first.shard}
        rest = {receipt.shard for receipt in run_shards(ready.stages(), ready.plan.files, done)}
    assert rest == set(range(15)) - done


def test_many_shards_are_run_by_several_datasets_one_after_another(options, monkeypatch):
    """Ray Data keeps some memory per shard until its Dataset ends."""
    built = []
    monkeypatch.setattr(dataset, "DATASET_SHARDS", 7)
    monkeypatch.setattr(
        dataset,
        "build_dataset",
        lambda stages, blocks, *rest: built.append(blocks) or build_dataset(stages, blocks, *rest),
    )
    with prepare_run(options) as ready:
        received = [receipt.shard for receipt in run_shards(ready.stages(), ready.plan.files, {0, 9})]
    assert sorted(received) == [shard for shard in range(15) if shard not in (0, 9)]
    assert [sum(map(len, blocks)) for blocks in built] == [7, 6]


def test_no_remaining_shard_starts_nothing(options):
    with prepare_run(options) as ready:
        assert list(run_shards(ready.stages(), ready.plan.files, set(range(15)))) == []


def file(first: int, shards: int) -> PlanFile:
    return PlanFile(name=f"plan-{first}", sha256="0f", first_shard=first, shards=shards, units=None, about=0)


@pytest.mark.parametrize(
    ("shards", "cpus", "longest"), [(1, 2, 1), (7, 2, 1), (64, 2, 8), (10_000, 2, 32), (10_000, 10_000, 1)]
)
def test_blocks_hold_a_few_plan_rows(shards, cpus, longest):
    size = block_size([file(0, shards)], set(), cpus)
    assert size == longest
    blocks = list(plan_blocks([file(0, shards)], set(), size))
    assert max(block.num_rows for block in blocks) == longest
    assert [shard for block in blocks for shard in block.column("shard").to_pylist()] == list(range(shards))


def test_blocks_locate_each_shard_and_omit_committed_ones():
    blocks = list(plan_blocks([file(0, 3), file(3, 2)], {0, 4}, 32))
    rows = [row for block in blocks for row in block.to_pylist()]
    assert [(row["file"], row["row"], row["shard"]) for row in rows] == [
        ("plan-0", 1, 1),
        ("plan-0", 2, 2),
        ("plan-3", 0, 3),
    ]
