"""What stays in OUTPUT before anything is predicted, with a cluster that is only described."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.checkpoints import CheckpointChanged, digest
from pipeline.reference.published_configs import MASKED_LM, SEQUENCE, small
from pipeline.reference.random_checkpoints import make_checkpoint
from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.prepare import PreparedRun, prepare_run
from pipeline.runtime.driver.run import Driver
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.plan_files import read_segments
from pipeline.runtime.ray_backend import dataset
from pipeline.runtime.records.receipts import Receipt
from pipeline.runtime.records.run_file import read_run
from pipeline.sinks.parts import part_key
from pipeline.storage import AccessError, Store

pytestmark = pytest.mark.usefixtures("described_cluster")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    masked = make_checkpoint(MASKED_LM, small(MASKED_LM), folder / "masked")
    return {
        "fill-mask": str(masked),
        "text-classification": str(make_checkpoint(SEQUENCE, small(SEQUENCE), folder / "text")),
    }


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest, tmp_path: Path, s3) -> str:
    """URI of an empty folder."""
    return str(tmp_path / "work") if request.param == "local" else f"{s3.bucket('prepare')}/work"


def planned(options: RunOptions) -> PreparedRun:
    """Plan as a command that then ends."""
    with prepare_run(options) as ready:
        return ready


def write_tables(uri: str, **tables: str) -> None:
    for name, text in tables.items():
        Store(uri).put(f"{name}.csv", text.encode())


def test_command_that_planning_refuses_leaves_nothing_and_the_corrected_one_runs(uri: str, checkpoints) -> None:
    write_tables(f"{uri}/in", a="text,stars\na good evening,5\n", b="text\nthe soup was cold\n")
    places = {"input": f"{uri}/in", "output": f"{uri}/out", "checkpoint": checkpoints["text-classification"]}
    options = RunOptions(task="text-classification", **places)
    with pytest.raises(AccessError, match=r"b\.csv: .*stars"):
        planned(options.model_copy(update={"keep_columns": ("stars",)}))
    with pytest.raises(UsageError, match="room for 0"):
        planned(options.model_copy(update={"device": "cuda"}))
    assert list(Store(f"{uri}/out").keys()) == []
    if uri.startswith("/"):
        assert list(Path(uri, "out").rglob("*")) == []
    assert planned(options).plan.shards == 1


def test_plan_gives_way_to_other_options_until_there_are_predictions(uri: str, checkpoints) -> None:
    write_tables(f"{uri}/in", a="text,title\na good evening,b\n")
    places = {"input": f"{uri}/in", "output": f"{uri}/out", "checkpoint": checkpoints["text-classification"]}
    options, output = RunOptions(task="text-classification", **places), Store(f"{uri}/out")
    first = planned(options)
    assert planned(options).run == first.run
    other = options.model_copy(update={"column": "title", "logits": True})
    second = planned(other)
    assert second.run == read_run(output) != first.run
    assert second.plan.segments == read_segments(output) != first.plan.segments
    assert any("replaced a plan without predictions" in note and "column was null" in note for note in second.notes)
    assert sorted(output.keys("_run/plan/")) == sorted(["_run/plan/segment-00000.json", second.plan.files[0].name])
    assert list(output.keys("_run/drivers/")) == []
    output.put(part_key(second.run.run, 0), b"a part")
    with pytest.raises(UsageError, match=r"contains predictions of a run with other settings: column was \"title\""):
        planned(options)
    assert planned(other).run == second.run


def test_options_that_a_frozen_plan_keeps_are_said(tmp_path: Path, checkpoints) -> None:
    write_tables(f"{tmp_path}/in", a="text\n" + "a good evening\n" * 6)
    places = {"input": f"{tmp_path}/in", "output": f"{tmp_path}/out", "checkpoint": checkpoints["fill-mask"]}
    options = RunOptions(task="fill-mask", **places, shard_size=3)
    first = planned(options)
    assert (first.notes, first.plan.shards) == ((), 2)
    again = planned(options.model_copy(update={"shard_size": 2, "limit": 5}))
    sized, limited = again.notes
    assert "made with --shard-size 3, keeps its 2 shards. For other shards, use another OUTPUT" in sized
    assert "--limit 5 is not applied: the plan in OUTPUT has 6 units already" in limited
    assert again.plan.segments == first.plan.segments
    assert planned(options.model_copy(update={"shard_size": None, "limit": 6})).notes == ()


def test_another_input_format_is_refused_while_planned_shards_are_left(tmp_path: Path, checkpoints) -> None:
    Store(f"{tmp_path}/in").put("a.jsonl", b'{"text": "a good evening"}\n')
    places = {"input": f"{tmp_path}/in/a.jsonl", "output": f"{tmp_path}/out", "checkpoint": checkpoints["fill-mask"]}
    options = RunOptions(task="fill-mask", **places)
    first, as_text = planned(options), options.model_copy(update={"input_format": "text"})
    with pytest.raises(UsageError, match=r"made with --input-format auto, and 1 of 1 shard is left: text would read"):
        planned(as_text)
    first.output.put(part_key(first.run.run, 0), b"a part")
    assert planned(as_text).run == first.run


def test_plan_of_a_driver_at_work_is_kept(uri: str, checkpoints) -> None:
    write_tables(f"{uri}/in", a="text\na good evening\n")
    places = {"input": f"{uri}/in", "output": f"{uri}/out", "checkpoint": checkpoints["text-classification"]}
    options = RunOptions(task="text-classification", **places)
    with prepare_run(options) as ready:
        with pytest.raises(UsageError, match=r"in use for a run with other settings: options.logits was false"):
            planned(options.model_copy(update={"logits": True}))
        assert planned(options).run == ready.run, "the same command may run twice at once"
        assert read_segments(ready.output) == ready.plan.segments


def test_predictions_of_the_first_night_are_not_planned_in_the_second(uri: str, checkpoints) -> None:
    options = RunOptions(task="fill-mask", input=uri, output=f"{uri}/out", checkpoint=checkpoints["fill-mask"])
    part = io.BytesIO()
    pq.write_table(pa.table({"text": ["1 [MASK]", "2 [MASK]"]}), part)
    Store(uri).put("a.parquet", part.getvalue())
    first = planned(options)
    first.output.put(part_key(first.run.run, 0), part.getvalue())
    second = planned(options)
    assert (second.plan.units, second.plan.shards) == (2, 1)
    assert second.listed.left_out["in the OUTPUT of a run"] > 5
    assert planned(options.model_copy(update={"input": f"{uri}/out/predictions", "output": f"{uri}/b"})).plan.units == 2
    for other in (f"{uri}/", f"{uri}/out"):
        with pytest.raises(UsageError, match="are the same folder"):
            planned(options.model_copy(update={"input": other, "output": other}))


def test_plan_of_a_checkpoint_that_changed_gives_way_and_both_digests_are_said(tmp_path: Path, checkpoints) -> None:
    write_tables(f"{tmp_path}/in", a="text\na good evening\n")
    folder = Path(shutil.copytree(checkpoints["text-classification"], tmp_path / "model"))
    places = {"input": f"{tmp_path}/in", "output": f"{tmp_path}/out", "checkpoint": str(folder)}
    options, before = RunOptions(task="text-classification", **places), digest(folder)
    planned(options)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    (note,) = planned(options).notes
    assert f'checkpoint was "{before}", this run has "{digest(folder)}"' in note


def test_changed_checkpoint_that_a_worker_finds_ends_the_run_with_exit_code_2(
    tmp_path: Path, checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finished(*_: object) -> Iterator[Receipt]:
        counts = dict.fromkeys(("shard", "segment", "rows", "quarantined", "bytes"), 0)
        seconds = {f"seconds_{stage}": 0.0 for stage in ("load", "predict", "write")}
        yield Receipt(**counts, **seconds, fatal="CheckpointChanged: checkpoint a changed: its digest is 1f")

    monkeypatch.setattr(dataset, "run_shards", finished)
    write_tables(f"{tmp_path}/in", a="text\na good evening\n")
    places = {"input": f"{tmp_path}/in", "output": f"{tmp_path}/out", "checkpoint": checkpoints["fill-mask"]}
    with prepare_run(RunOptions(task="fill-mask", **places)) as ready:
        driver = Driver(ready, Display(quiet=True))
        driver.resume()
        with pytest.raises(CheckpointChanged) as caught:
            driver.work()
    left = "1 of 1 shard is left; with the planned checkpoint, the same command resumes the run"
    assert str(caught.value) == f"checkpoint a changed: its digest is 1f; {left}"
