"""From the columns of a record to a medium: text, a picture by its bytes or by its path, a pair of them, an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.frame_pairs import pair_of
from pipeline.sources.image_decoding import decode_image
from pipeline.sources.image_source import MAX_FILE_BYTES
from pipeline.storage import Store
from pipeline.storage.uris import split_scheme


@dataclass(frozen=True, kw_only=True)
class RecordOrigin:
    """Where a record comes from: the file `key` of a store, in which it has a number, 0 where that is not known.
    Paths in it are relative to the file's folder."""

    store: Store
    key: str
    number: int = 0


def medium_of(record: Mapping[str, Any], medium: MediumKind, columns: tuple[str, ...], table: RecordOrigin) -> Any:
    """The medium of one record, as `MediumKind` says, from its `columns`; BadMedium where it holds none."""
    values = [value_of(record, name) for name in columns]
    if medium == "text":
        return text_of(values[0], columns[0])
    if medium == "image":
        return image_of(values[0], columns[0], table)
    if medium == "frame_pair":
        first, second = (image_of(value, name, table) for value, name in zip(values, columns, strict=True))
        return pair_of(first, second, number=table.number)
    return array_of(values[0], columns[0])


def value_of(record: Mapping[str, Any], name: str) -> Any:
    """The value of a column; BadMedium where the record has no such column."""
    if name not in record:
        raise BadMedium(f"no column {name!r}; the record has {', '.join(record) or 'none'}")
    return record[name]


def text_of(value: Any, column: str) -> str | bytes:
    """A str, or bytes that should be UTF-8."""
    if not isinstance(value, str | bytes):
        raise BadMedium(f"column {column!r} holds no text but {_kind(value)}")
    return value


def image_of(value: Any, column: str, table: RecordOrigin) -> np.ndarray:
    """uint8 [H, W, 3] of the bytes of an image file, of a path, or of a {"bytes", "path"} with one of them."""
    if isinstance(value, dict) and not {"bytes", "path"}.isdisjoint(value):
        data, path = value.get("bytes"), value.get("path")
        value = path if data is None else data
    if isinstance(value, bytes):
        return decode_image(value)
    if not isinstance(value, str):
        raise BadMedium(f"column {column!r} holds no picture but {_kind(value)}")
    key = key_of(value, table)
    if (size := table.store.size(key)) > MAX_FILE_BYTES:
        raise BadMedium(f"{value!r} is a file of {size:,} bytes: an image file may have {MAX_FILE_BYTES:,}")
    return decode_image(table.store.read(key))


def array_of(value: Any, column: str) -> np.ndarray:
    """float32 [M, C] of M lists of C numbers, or of an array of two dimensions."""
    if not isinstance(value, list | np.ndarray):
        raise BadMedium(f"column {column!r} holds no array but {_kind(value)}")
    try:
        array = np.asarray(value)
    except ValueError:  # numpy's words for lists of several lengths
        raise BadMedium(f"column {column!r} holds lists of several lengths, or of several depths") from None
    if array.dtype.kind not in "iufb":
        raise BadMedium(f"column {column!r} holds an array with other values than numbers")
    if array.ndim != 2 or not array.size:
        shape = ", ".join(map(str, array.shape))
        raise BadMedium(f"column {column!r} holds an array [{shape}]: it must be [M, C], M inputs of C channels")
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and its outputs are found out
        return array.astype(np.float32)


def key_of(path: str, table: RecordOrigin) -> str:
    """The key of the file that a path in a table means: below the table's folder, or INPUT's own URI and a key below.

    BadMedium for every other: a table must not make the run read what its user did not name.
    """
    folder = table.key.rpartition("/")[0]
    own = table.store.uri.rstrip("/") + "/"
    if path.startswith(own):
        path, folder = path.removeprefix(own), ""
    if split_scheme(path)[0] is not None:
        raise BadMedium(f"{path!r} is a URI: only files in INPUT are read, by their paths beside the table")
    if path.startswith("/"):
        raise BadMedium(f"{path!r} is an absolute path: only files in INPUT are read, by their paths beside the table")
    names = [name for name in path.split("/") if name != "."]
    if split_scheme(table.store.uri)[0] is None:  # a disk has no empty names, a bucket may
        names = [name for name in names if name]
    if ".." in names or "\0" in path or not any(names):
        raise BadMedium(f"{path!r} is no path of a file beside the table")
    return "/".join([folder, *names] if folder else names)


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
