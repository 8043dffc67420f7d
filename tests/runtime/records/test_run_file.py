"""An OUTPUT belongs to one INPUT and to predictions of one kind."""

import json
from dataclasses import replace

import pytest

from pipeline.heads import HeadOptions, head_for
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.run_file import RUN_FILE, claim_output, new_run, read_run
from pipeline.storage import Store


@pytest.fixture
def wanted(checkpoint):
    def make(top_k: int = 5, dtype: str = "float32", digest: str = "d1", input_uri: str = "s3://b/in"):
        options = RunOptions(
            task="image-classification", input=input_uri, output="out", checkpoint=str(checkpoint), top_k=top_k
        )
        head = head_for(options.task, checkpoint, HeadOptions(top_k=top_k))
        return new_run(options, input_uri=input_uri, head=head, digest=digest, dtype=dtype)

    return make


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
        ({"input_uri": "s3://b/other"}, "INPUT s3://b/in, this run's INPUT is s3://b/other"),
    ],
)
def test_output_of_another_run_is_refused_with_both_values(tmp_path, wanted, change, message):
    claim_output(Store(str(tmp_path)), wanted())
    before = (tmp_path / RUN_FILE).read_bytes()
    with pytest.raises(UsageError) as error:
        claim_output(Store(str(tmp_path)), wanted(**change))
    assert message in str(error.value)
    assert (tmp_path / RUN_FILE).read_bytes() == before


def test_folder_without_a_run_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UsageError, match=rf"{tmp_path} is not the OUTPUT of a run"):
        read_run(Store(str(tmp_path)))
