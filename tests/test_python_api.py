"""`run` and `plan` from Python: results are returned, errors are raised, and the caller's process is left as it was."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import AccessError, TooMuchQuarantined, UsageError, open_run, plan, run
from pipeline.runtime.ray_backend import dataset
from pipeline.runtime.signals import Stopped, stop_on_signals
from tests.runs_in_process import run_shards


@pytest.fixture
def arguments(tmp_path: Path, image_folder: Path, checkpoint: Path) -> dict[str, Any]:
    task = {"task": "image-classification", "input": image_folder, "output": tmp_path / "labels"}
    return {**task, "checkpoint": checkpoint, "max_quarantine": 0.1, "shard_size": 10, "report": False}


def test_run_returns_the_results(arguments: dict[str, Any], backend: None) -> None:
    result = run(**arguments)
    assert (result.summary.rows, result.summary.quarantined) == (55, 5)
    assert len(result.to_pandas()) == 55
    assert result.quarantined().num_rows == 5
    assert repr(result) == repr(open_run(arguments["output"]))


def test_the_same_call_predicts_what_is_new(arguments: dict[str, Any], backend: None, write_images: Any) -> None:
    run(**arguments)
    write_images(arguments["input"], range(60, 63))
    assert run(**arguments).summary.rows == 58


def test_plan_estimates_what_run_carries_out(arguments: dict[str, Any], backend: None) -> None:
    estimate = plan(**arguments)
    assert estimate.plan.units == 60
    assert not list(arguments["output"].glob("predictions/*"))
    assert run(**arguments).summary.shards == estimate.plan.shards


def test_wrong_options_are_named(arguments: dict[str, Any]) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"topk": 3}, r"topk is not an option of perceiver run \(did you mean top_k\?\)"),
        ({"top_k": "many"}, r"top_k \(many\) must be an integer"),
        ({"task": "classify"}, "task 'classify' must be one of"),
        ({"input": ""}, "input is required unless from_latents is given"),
    ]
    for options, message in wrong:
        for function in (run, plan):
            with pytest.raises(UsageError, match=message):
                function(**{**arguments, **options})
    with pytest.raises(AccessError):
        run(**{**arguments, "input": arguments["input"] / "none"})
    assert not arguments["output"].exists()


def test_too_much_quarantined_is_raised_and_a_higher_limit_continues(arguments: dict[str, Any], backend: None) -> None:
    with pytest.raises(TooMuchQuarantined, match="more than max_quarantine"):
        run(**{**arguments, "max_quarantine": 0.01})
    assert run(**arguments).summary.rows == 55


def test_ctrl_c_is_raised_and_the_same_call_resumes(
    arguments: dict[str, Any], backend: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def stopped_after_two(*given: Any) -> Any:
        for number, receipt in enumerate(run_shards(*given)):
            yield receipt
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "run_shards", stopped_after_two)
        with pytest.raises(KeyboardInterrupt, match="the same command resumes the run; 4 of 6 shards are left"):
            run(**arguments)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    result = run(**arguments)
    assert (result.summary.resumed, result.summary.rows) == (2, 55)


def test_a_second_ctrl_c_does_not_kill_a_notebook() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals():  # noqa: PT012
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_run_works_in_a_thread(arguments: dict[str, Any], backend: None) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run(**arguments)))
    thread.start()
    thread.join()
    assert results[0].summary.rows == 55


def test_a_session_of_ray_that_the_caller_has_is_used_and_left(arguments: dict[str, Any], cluster: None) -> None:
    import ray

    handlers = logging.getLogger("ray.data").handlers
    before = [(handler.level, handler.formatter, list(handler.filters)) for handler in handlers]
    result = run(**arguments)
    assert ray.is_initialized()
    assert [(handler.level, handler.formatter, list(handler.filters)) for handler in handlers] == before
    assert result.dataset().count() == 55


def test_importing_the_engine_loads_neither_ray_nor_the_api() -> None:
    code = "import sys, pipeline.perceiver\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"ray", "pyarrow", "pipeline.runtime", "transformers.models.perceiver.modeling_perceiver"} & set(loaded)
    import pipeline

    for name in dir(pipeline):
        assert getattr(pipeline, name) is not None or name == "__cached__"
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'runs'"):
        pipeline.runs  # noqa: B018
    assert Path(pipeline.__file__).with_name("py.typed").exists()
