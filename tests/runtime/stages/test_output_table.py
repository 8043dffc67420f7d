"""What a head returns, as Arrow columns of the head's types."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.runtime.stages.output_table import empty_output_table, output_table

COLUMNS = {
    "label": "string",
    "score": "float32",
    "flow": ["float16"],
    "topk": [{"label_id": "int32", "score": "float32"}],
}


def test_lists_and_arrays_become_columns():
    flow = np.arange(12, dtype=np.float16).reshape(2, 3, 2)
    values = {
        "label": ["a", "b"],
        "score": np.array([0.5, 0.25], np.float32),
        "flow": flow,
        "topk": [[{"label_id": 1, "score": 0.5}], []],
    }
    table = output_table(values, COLUMNS, 2)
    assert table.schema.equals(empty_output_table(COLUMNS).schema)
    assert table.column("flow").to_pylist() == flow.reshape(2, 6).tolist()
    assert table.column("score").to_pylist() == [0.5, 0.25]
    assert table.column("topk").to_pylist() == values["topk"]
    assert pa.types.is_float16(table.schema.field("flow").type.value_type)


def test_missing_column_and_a_wrong_length_are_errors():
    with pytest.raises(ValueError, match=r"returned the columns \['score'\], but declares \['label', 'score'\]"):
        output_table({"score": [1.0]}, {"label": "string", "score": "float32"}, 1)
    with pytest.raises(ValueError, match="'score' has 1 value for 2 units"):
        output_table({"score": [1.0]}, {"score": "float32"}, 2)
