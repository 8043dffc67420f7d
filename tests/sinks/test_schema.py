"""Declared columns as Arrow types and as features of `datasets`."""

import json

import pyarrow as pa
import pytest
from datasets import Features

from pipeline.sinks.schema import arrow_type, kept_names, output_schema, with_features, with_plain_types

TOPK = [{"label_id": "int32", "label": "string", "score": "float32"}]
COLUMNS = {"label": "string", "score": "float32", "topk": TOPK, "flow": ["float16"], "video": {"bytes": "binary"}}


def test_types_are_plain_and_nest() -> None:
    item = pa.struct([("label_id", pa.int32()), ("label", pa.string()), ("score", pa.float32())])
    assert arrow_type(TOPK) == pa.list_(item)
    assert arrow_type([["float16"]]) == pa.list_(pa.list_(pa.float16()))
    assert arrow_type("bool") == pa.bool_()


@pytest.mark.parametrize(
    ("column", "message"),
    [("int", "'int' must be one of string"), (["int32", "int64"], "must name one element type, not 2")],
)
def test_wrong_type_is_named(column: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arrow_type(column)


def test_columns_are_in_order() -> None:
    schema = output_schema(COLUMNS, pa.schema([("kept", pa.int64())]))
    assert schema.names == ["id", "uri", "version", "segment", "kept", *COLUMNS]
    assert schema.field("segment").type == pa.int32()


@pytest.mark.parametrize("name", ["id", "segment", "label"])
def test_kept_column_with_the_name_of_an_output_column_gets_a_prefix(name: str) -> None:
    schema = output_schema(COLUMNS, pa.schema([(name, pa.string())]))
    assert schema.field(f"input_{name}").type == pa.string()
    assert schema.field(name).type == output_schema(COLUMNS).field(name).type


def test_prefixed_name_is_never_that_of_another_column() -> None:
    assert kept_names({"label": "string", "input_id": "string"}, ["label", "input_label", "id", "stars"]) == {
        "label": "input_input_label",
        "input_label": "input_label",
        "id": "input_input_id",
        "stars": "stars",
    }


def test_column_that_is_kept_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="column 'stars' would be in the output twice: remove it from keep_columns"):
        kept_names({}, ["stars", "stars"])


def test_features_match_those_of_datasets() -> None:
    kept = pa.schema([("when", pa.timestamp("us")), ("day", pa.date32()), ("f64", pa.float64())])
    schema = output_schema(COLUMNS, kept)
    features = Features.from_arrow_schema(schema)
    assert features.arrow_schema.types == schema.types
    written = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert written["flow"] == [{"dtype": "float16", "_type": "Value"}]  # as releases before `List` wrote it too
    assert Features.from_dict(written) == features


def test_type_without_a_feature_has_no_metadata() -> None:
    schema = with_features(pa.schema([("kind", pa.dictionary(pa.int32(), pa.string()))]))
    assert b"huggingface" not in (schema.metadata or {})
    Features.from_arrow_schema(schema)


def test_nested_large_types_become_plain() -> None:
    inner = pa.struct([("a", pa.large_list(pa.large_string())), ("b", pa.large_binary())])
    schema = with_plain_types(pa.schema([("x", pa.large_list(inner)), ("n", pa.int32())], metadata={"kept": "too"}))
    expected = pa.struct([("a", pa.list_(pa.string())), ("b", pa.binary())])
    assert schema.types == [pa.list_(expected), pa.int32()]
    assert schema.metadata == {b"kept": b"too"}
