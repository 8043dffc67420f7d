"""An OUTPUT belongs to one INPUT and to predictions of one kind."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pipeline.heads import HeadOptions, head_for
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.plan_files import Segment, delete_segments, put_plan_file, put_segment
from pipeline.runtime.records.claim import Claim, claiming
from pipeline.runtime.records.run_file import Run, new_run, read_run
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.parts import part_key
from pipeline.storage import Store


@pytest.fixture
def wanted(checkpoint):
    def make(
        top_k: int = 5,
        dtype: str = "float32",
        digest: str = "d1",
        input_uri: str = "s3://b/in",
        task: str = "image-classification",
    ):
        options = RunOptions(task=task, input=input_uri, output="out", checkpoint=str(checkpoint), top_k=top_k)
        head = head_for(task, checkpoint, HeadOptions(top_k=top_k))
        return new_run(options, input_uri=input_uri, head=head, digest=digest, dtype=dtype)

    return make


def claim_output(output: Store, wanted: Run) -> Run:
    """Claim OUTPUT as a command that then ends."""
    with claiming(output, wanted, delete_segments) as claim:
        claim.check()
        return claim.take()


def test_first_command_names_the_run_and_later_ones_adopt_the_name(tmp_path, wanted):
    output = Store(str(tmp_path))
    first = claim_output(output, wanted())
    assert len(first.run) == 8
    assert int(first.run, 16) >= 0
    assert claim_output(output, wanted()) == first == read_run(output)
    assert wanted().run != first.run


def test_recorded_values_are_not_compared(tmp_path, wanted):
    first = claim_output(Store(str(tmp_path)), wanted())
    other = wanted()
    other = replace(other, record=other.record | {"checkpoint": "elsewhere", "versions": {}})
    assert claim_output(Store(str(tmp_path)), other).run == first.run
    record = json.loads((tmp_path / RUN_FILE).read_text())
    assert record["options"]["replicas"] == "auto"
    assert record["versions"]["ray"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "bfloat16"}, 'dtype was "float32", this run has "bfloat16"'),
        ({"digest": "d2"}, 'checkpoint was "d1", this run has "d2"'),
        ({"top_k": 3}, "options.top_k was 5, this run has 3"),
        ({"input_uri": "s3://b/other"}, 'INPUT was "s3://b/in", this run has "s3://b/other"'),
        (
            {"task": "feature-extraction", "input_uri": "s3://b/other", "digest": "d2"},
            'a run with other settings: task was "image-classification", this run has "feature-extraction"; INPUT was '
            '"s3://b/in", this run has "s3://b/other"; checkpoint was "d1", this run has "d2". Use the same',
        ),
    ],
)
def test_output_with_predictions_of_another_run_is_refused_with_both_values(tmp_path, wanted, change, message):
    output = Store(str(tmp_path))
    output.put(part_key(claim_output(output, wanted()).run, 0), b"a part")
    before = sorted(output.keys()), output.read(RUN_FILE)
    with pytest.raises(UsageError) as error:
        claim_output(output, wanted(**change))
    assert message in str(error.value)
    assert (sorted(output.keys()), output.read(RUN_FILE)) == before


@pytest.mark.parametrize(
    "change", [{"dtype": "bfloat16"}, {"digest": "d2"}, {"top_k": 3}, {"input_uri": "s3://b/other"}]
)
def test_plan_without_predictions_gives_way_to_a_command_with_other_options(tmp_path, wanted, change):
    output = Store(str(tmp_path))
    claim_output(output, wanted())
    put_segment(output, Segment(number=0, files=(put_plan_file(output, 0, 0, []),)))
    claim = Claim(output=output, wanted=wanted(**change), discard_plan=delete_segments)
    assert not claim.check()
    assert claim.take() == read_run(output)
    claim.release()
    assert claim.notes
    assert list(output.keys()) == [RUN_FILE]


def test_plan_on_which_a_driver_works_does_not_give_way(tmp_path, wanted):
    output = Store(str(tmp_path))
    first = Claim(output=output, wanted=wanted(), discard_plan=delete_segments)
    assert not first.check()
    first.take()
    second = Claim(output=output, wanted=wanted(top_k=3), discard_plan=delete_segments)
    with pytest.raises(UsageError, match=r"in use for .* options.top_k was 5, this run has 3.* delete .*_run/drivers/"):
        second.check()
    second.release()
    assert read_run(output) == first.run
    first.release()
    assert claim_output(output, wanted(top_k=3)).run != first.run.run


def test_driver_that_begins_while_its_plan_is_replaced_keeps_it(tmp_path, wanted, monkeypatch):
    output = Store(str(tmp_path))
    planned = claim_output(output, wanted())
    begun = Claim(output=output, wanted=wanted(), discard_plan=delete_segments)
    second = Claim(output=output, wanted=wanted(top_k=3), discard_plan=lambda _: begun.check())
    with pytest.raises(UsageError, match="in use for"):
        second.take()
    assert begun.run == planned == read_run(output)


def test_two_commands_with_other_options_at_once_leave_one_run(tmp_path, wanted):
    output, start = Store(str(tmp_path)), threading.Barrier(8)

    def claim(top_k: int) -> str | None:
        start.wait()
        one = Claim(output=output, wanted=wanted(top_k=top_k), discard_plan=delete_segments)
        try:
            one.check()
            return one.take().run
        except UsageError:
            return None

    with ThreadPoolExecutor(8) as threads:
        runs = list(threads.map(claim, [3, 4] * 4))
    assert {run for run in runs if run} == {read_run(output).run}


def test_refused_command_leaves_no_file_and_no_folder(tmp_path, wanted):
    output = Store(str(tmp_path))
    output.put(part_key("aaaa0000", 0), b"a part of a run whose run.json was deleted")
    claim = Claim(output=output, wanted=wanted(), discard_plan=delete_segments)
    with pytest.raises(UsageError, match="of another run"):
        claim.check()
    claim.release()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["part-aaaa0000-00000000.parquet", "predictions"]


def test_folder_without_a_run_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UsageError, match=rf"{tmp_path} is not the OUTPUT of a run"):
        read_run(Store(str(tmp_path)))
