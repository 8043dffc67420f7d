"""Tables of benchmark results: what a measured row looks like in a terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from pipeline.benchmark.tables import engine_table, scaling_tables, tokenizer_line, whole_runs_table


def printed(table: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_transformers_that_fails_in_a_dtype_has_no_speedup_there() -> None:
    row: dict[str, Any] = {"shape": "multimodal-perceiver", "dtype": "bfloat16", "peak_bytes": 960_000_000}
    row |= {"engine_seconds": 6.0, "engine_seconds_range": [5.9, 6.1], "floor_seconds": 4.5}
    row |= {"transformers_seconds": None, "transformers_seconds_range": None, "transformers_float32_seconds": 300.0}
    row |= {"max_abs_err": 0.01, "output_range": 2.0}
    text = printed(engine_table([row]))
    for cell in ("6 [5.9, 6.1]", "fails", " - ", "50.00", "0.75", "5.0e-03 of the range", "960 MB"):
        assert cell in text


def whole_run(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"shape": "vision", "dtype": "bfloat16", "units": 40, "extrapolated_from_chunks": None}
    for name in ("engine", "pipeline", "plain_ray"):
        row |= {f"{name}_units_per_second": 1.5, f"{name}_units_per_second_range": [1.4, 1.6]}
    row |= {"plain_daft_units_per_second": None, "of_the_engine": 0.95, "over_plain_ray": 1.33, "over_plain_daft": None}
    row |= {f"seconds_{stage}": 1.0 for stage in ("start", "model", "load", "predict", "write", "whole")}
    return row | {"plain_ray_dtype": "bfloat16", "peak_bytes": 1.45e9, "busy_before": [0.02, 0.1]} | changes


def test_extrapolated_rates_and_other_dtypes_are_marked() -> None:
    text = printed(whole_runs_table([whole_run(), whole_run(extrapolated_from_chunks=2, plain_ray_dtype="float32")]))
    for cell in ("1.5 [1.4, 1.6]", "~1.5 [1.4, 1.6] in float32", "~1.33", "0.95", "1.45 GB", "10%"):
        assert cell in text


def test_scaling_has_a_table_for_each_shape_and_dtype() -> None:
    row: dict[str, Any] = {"shape": "vision", "threads": 1, "units_per_second": 2.0, "busy_before": [0.0]}
    row |= {"units_per_second_range": [1.9, 2.1], "ideal_units_per_second": 2.5, "of_ideal": 0.8}
    rows = [row | {"dtype": dtype, "replicas": n} for dtype in ("float32", "bfloat16") for n in (1, 2)]
    text = printed(scaling_tables(rows))
    assert text.count("units/s while predicting") == 2
    assert text.count("2 [1.9, 2.1]") == 4


def test_tokenizer_is_compared_in_a_sentence() -> None:
    row = {"engine_texts_per_second": 162_000.4, "transformers_texts_per_second": 2560.0, "ratio": 63.3}
    line = tokenizer_line(row | {"texts": 100_000, "mean_bytes": 1010.2})
    assert "162,000 texts/s, PerceiverTokenizer 2,560 (63 times as fast)" in line
    assert "identical ids for all 100,000 texts of 1,010 bytes" in line
