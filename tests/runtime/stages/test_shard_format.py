"""A shard travels as one row, and comes out where it lay."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.runtime.stages.shard_format import pack, pack_arrays, unpack, unpack_arrays

IMAGES = [
    np.full((3, 4, 5), 7, np.uint8),
    np.full((3, 4, 5), 8, np.uint8),
    np.arange(27, dtype=np.uint8).reshape(3, 3, 3),
]


def packed() -> tuple[pa.Table, pa.Table]:
    units = pa.table({"id": ["a", "b", "c"], **pack_arrays({"image": IMAGES})})
    quarantined = pa.table({"id": ["d"], "message": ["not an image"]})
    return units, pack(units, quarantined, {"shard": 3, "plan": "f00", "seconds": 0.5, "fatal": None})


def address(column: pa.ChunkedArray) -> int:
    return column.chunk(0).values.buffers()[1].address


def test_two_tables_of_different_lengths_and_scalars_come_back():
    units, row = packed()
    assert row.num_rows == 1
    again, quarantined, scalars = unpack(row)
    assert again.equals(units)
    assert quarantined.to_pylist() == [{"id": "d", "message": "not an image"}]
    assert scalars == {"shard": 3, "plan": "f00", "seconds": 0.5, "fatal": None}


def test_neither_packing_nor_unpacking_copies():
    units, row = packed()
    again, _, _ = unpack(row)
    assert address(again.column("image")) == address(units.column("image"))
    arrays = unpack_arrays(again)["image"]
    assert arrays[0].ctypes.data == address(units.column("image"))
    assert arrays[1].ctypes.data == address(units.column("image")) + 60
    assert not arrays[0].flags.writeable


def test_arrays_of_any_shapes():
    arrays = unpack_arrays(unpack(packed()[1])[0])["image"]
    assert len(arrays) == 3
    for got, expected in zip((arrays[0], arrays[1], arrays[2]), IMAGES, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
def test_every_numeric_dtype_and_scalar_arrays(dtype):
    items = [np.array(3, dtype), np.arange(6, dtype=dtype).reshape(2, 3), np.zeros((0, 2), dtype)]
    arrays = unpack_arrays(pa.table(pack_arrays({"x": items})))["x"]
    for index, item in enumerate(items):
        assert arrays[index].dtype == item.dtype
        np.testing.assert_array_equal(arrays[index], item)


def test_slice_of_a_packed_block_is_the_right_shard():
    rows = pa.concat_tables([pack(pa.table(pack_arrays({"x": [np.full(2, n)]})), pa.table({}), {}) for n in range(3)])
    units, _, _ = unpack(rows.combine_chunks().slice(1, 1))
    np.testing.assert_array_equal(unpack_arrays(units)["x"][0], [1, 1])


def test_shard_without_units_packs():
    units, quarantined, scalars = unpack(pack(pa.table({"id": pa.array([], pa.string())}), pa.table({}), {"shard": 1}))
    assert (units.num_rows, quarantined.num_rows, scalars) == (0, 0, {"shard": 1})
    assert unpack_arrays(units) == {}


def test_mixed_dtypes_and_two_rows_are_errors():
    with pytest.raises(TypeError, match=r"'x'.*one numeric dtype"):
        pack_arrays({"x": [np.zeros(1, np.uint8), np.zeros(1, np.float32)]})
    row = packed()[1]
    with pytest.raises(ValueError, match="one shard, got 2 rows"):
        unpack(pa.concat_tables([row, row]))
