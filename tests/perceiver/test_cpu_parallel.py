"""Parallel parts give the same outputs as one thread: every class, one or several units, any number of threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.perceiver import PerceiverIO, decoders
from pipeline.perceiver.cpu_parallel import map_units, parallel_map, torch_threads, worker_count
from pipeline.reference import published_configs
from pipeline.reference.parity import differences, engine_predict
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.reference.sample_inputs import sample_inputs, sample_mask

CPU = torch.device("cpu")
ROUNDING = 5e-6  # of an output's range


@pytest.fixture(params=[3, *(pytest.param(threads, marks=pytest.mark.slow) for threads in (2, 4))])
def several(request: pytest.FixtureRequest) -> Iterator[int]:
    with torch_threads(request.param):
        yield request.param


@pytest.mark.parametrize(
    ("there", "parts", "expected"),
    [(1, 9, 1), (2, 0, 1), (2, 1, 1), (2, 9, 2), (4, 3, 2), (4, 4, 4), (6, 5, 3), (16, 8, 8), (7, 6, 1)],
)
def test_parallel_parts_use_all_threads_and_none_is_empty(there: int, parts: int, expected: int) -> None:
    with torch_threads(there):
        assert worker_count(parts, CPU) == expected
        assert worker_count(parts, torch.device("cuda")) == 1


@pytest.mark.parametrize("there", [1, 2, 3, 4, 6])
def test_each_unit_is_in_one_part_and_in_order(there: int) -> None:
    with torch_threads(there):
        for count in range(1, 14):
            units = torch.arange(count)[:, None]
            assert torch.equal(torch.cat(map_units(torch.clone, count, CPU, units)), units)
        assert map_units(torch.clone, 0, CPU, torch.zeros(0, 1))[0].tolist() == []


def test_part_gets_its_share_of_the_threads_and_later_work_gets_all() -> None:
    begun: list[int] = []
    with torch_threads(4):
        found = parallel_map(lambda _: (threading.current_thread().name, torch.get_num_threads()), range(2), CPU)
        later = threading.Thread(target=lambda: begun.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert torch.get_num_threads() == 4
    assert {count for _, count in found} == {2}
    assert all(name.startswith("perceiver-worker") for name, _ in found)
    assert begun == [4]


def test_parallel_work_is_not_nested() -> None:
    with torch_threads(4):
        assert parallel_map(lambda _: worker_count(2, CPU), range(2), CPU) == [1, 1]


@pytest.mark.parametrize("inference", [True, False])
def test_part_runs_in_the_inference_mode_of_its_caller(several: int, inference: bool) -> None:
    with torch.inference_mode(inference):
        assert parallel_map(lambda _: torch.is_inference_mode_enabled(), range(several), CPU) == [inference] * several


def test_first_error_is_raised_after_all_parts_end(several: int) -> None:
    done = []

    def work(part: int) -> None:
        if part < 2:
            raise ValueError(f"part {part}")
        time.sleep(0.05)
        done.append(part)

    with pytest.raises(ValueError, match="part 0"):
        parallel_map(work, range(several + 3), CPU)
    assert sorted(done) == list(range(2, several + 3))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("units", [1, 5])
@pytest.mark.parametrize("model_class", published_configs.MODEL_CLASSES)
def test_outputs_equal_those_of_one_thread(
    model_class: str, units: int, fold: bool, several: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = published_configs.small(model_class)
    model = PerceiverIO.from_pretrained(str(make_checkpoint(model_class, config, tmp_path / "checkpoint")), fold=fold)
    inputs = sample_inputs(config, model_class, units, 0, padded=True)
    mask = sample_mask(inputs)
    with torch_threads(1):
        expected = engine_predict(model, inputs, mask)
    monkeypatch.setitem(decoders.CHUNK_BYTES, "cpu", 1 << 10)  # 256 queries per chunk
    for row in differences(engine_predict(model, inputs, mask), expected, "float32"):
        assert row.relative < ROUNDING, row


def test_points_per_unit_and_points_shared_by_all_units(several: int, tmp_path: Path) -> None:
    config = published_configs.small(published_configs.MASKED_LM)
    model = PerceiverIO.from_pretrained(
        str(make_checkpoint(published_configs.MASKED_LM, config, tmp_path / "checkpoint"))
    )
    latents = model.encode(sample_inputs(config, published_configs.MASKED_LM, 3, 0, padded=True))
    whole = model.decode(latents)
    own = torch.tensor([[5, 0], [1, 1], [7, 2]])
    found = model.decode(latents, own)
    torch.testing.assert_close(found, torch.stack([whole[unit, points] for unit, points in enumerate(own)]))
    torch.testing.assert_close(model.decode(latents, own[0]), whole[:, own[0]])


@pytest.mark.parametrize("there", [1, 2])
def test_another_number_of_units_is_refused(there: int, tmp_path: Path) -> None:
    config: Any = published_configs.small(published_configs.FLOW)
    model = PerceiverIO.from_pretrained(str(make_checkpoint(published_configs.FLOW, config, tmp_path / "checkpoint")))
    inputs = sample_inputs(config, published_configs.FLOW, 3, 0)
    with torch_threads(there), pytest.raises(ValueError, match="has 3 units, expected 2"):
        model.decode(model.encode(inputs)[:2], inputs=inputs)


FORKED = """
import os, torch
from pipeline.perceiver.cpu_parallel import parallel_map, torch_threads
with torch_threads(2):
    assert parallel_map(abs, [-1, -2], torch.device("cpu")) == [1, 2]
    child = os.fork()
    if not child:
        os._exit(parallel_map(abs, [-3, -4], torch.device("cpu")) != [3, 4])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_forked_process_has_its_own_thread_pool() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)
