"""From the columns of a record to a medium: text, an image by its bytes or its path, a pair of images, an array."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.media import BadMedium
from pipeline.sources.image_source import MAX_FILE_BYTES
from pipeline.sources.images.frame_pairs import pair_of
from pipeline.sources.images.image_decoding import DecodedImage, decode_first_frame
from pipeline.sources.images.image_pixels import Transparency
from pipeline.sources.records.record_reader import RecordRequest
from pipeline.sources.source import BlankText
from pipeline.storage import Store
from pipeline.storage.uris import split_scheme


def medium_of(
    values: Mapping[str, Any], number: int, request: RecordRequest, store: Store, key: str, kept: dict[str, Any]
) -> Any:
    """Return the medium that record `number` of a file holds, see `MediumKind`. Raise BadMedium if it holds none.

    The number of the `frames` of an image's file is added to the values in `kept`.
    """
    names = request.medium_columns
    found = [value_of(values, name) for name in names]
    match request.options.medium:
        case "image":
            image = image_of(found[0], names[0], store, key, request.options.transparency)
            kept.setdefault("frames", image.frames)
            return image.pixels
        case "latents":
            return dict(zip(names, found, strict=True))
        case "text":
            return ruled_text(found[0], names[0], request.options.blank_text)
        case "array":
            return array_of(found[0], names[0])
    transparency = request.options.transparency
    first, second = (image_of(value, name, store, key, transparency) for value, name in zip(found, names, strict=True))
    return pair_of(first.pixels, second.pixels, number=number)


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """Return the value of a column. Raise BadMedium if the record has no such column."""
    if name not in values:
        raise BadMedium(f"column {name!r} not found; the record has {', '.join(values) or 'none'}")
    return values[name]


def ruled_text(value: Any, column: str, blank: BlankText) -> str | bytes:
    """Return a text, "" for null. Raise BadMedium if it is blank (null, empty, or white space) and that is refused."""
    text = "" if value is None else text_of(value, column)
    if blank == "quarantine" and not text.strip():
        raise BadMedium("the text is blank: null, empty, or white space; --blank-text predict reads it like others")
    return text


def text_of(value: Any, column: str) -> str | bytes:
    """Return a str, or bytes that should be UTF-8."""
    if not isinstance(value, str | bytes):
        raise BadMedium(f"column {column!r} must hold text, got {_kind(value)}")
    return value


def image_of(value: Any, column: str, store: Store, key: str, transparency: Transparency) -> DecodedImage:
    """Return the first frame of an image file's bytes, its path, or a {"bytes", "path"} with one of them.

    `store`, `key`: of the file that the record is in.
    """
    content = content_of(value, column, "an image", store, key)
    if isinstance(content, bytes):
        return decode_first_frame(content, transparency)
    if (size := store.size(content)) > MAX_FILE_BYTES:
        raise BadMedium(f"{content.rpartition('/')[2]!r} has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
    return decode_first_frame(store.read(content), transparency)


def content_of(value: Any, column: str, kind: str, store: Store, key: str) -> bytes | str:
    """Return the bytes of a file, or its key, from its bytes, its path, or a {"bytes", "path"} with one of them.

    `kind`: of the file, in messages. `store`, `key`: of the file that the record is in.
    """
    if isinstance(value, dict) and not {"bytes", "path"}.isdisjoint(value):
        content, path = value.get("bytes"), value.get("path")
        value = path if content is None else content
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise BadMedium(f"column {column!r} must hold {kind}, got {_kind(value)}")
    return key_of(value, store, key)


def array_of(value: Any, column: str) -> np.ndarray:
    """Return float32 [M, C] of M lists of C numbers, or of an array of two dimensions."""
    if not isinstance(value, list | np.ndarray):
        raise BadMedium(f"column {column!r} must hold an array, got {_kind(value)}")
    holds = f"column {column!r} holds"
    try:
        array = np.asarray(value)
    except ValueError:  # raised for lists of several lengths
        raise BadMedium(f"{holds} lists of different lengths or depths; they must form an array [M, C]") from None
    if array.dtype.kind not in "iufb":
        raise BadMedium(f"{holds} an array with values that are not numbers")
    if array.ndim != 2 or not array.size:
        shape = ", ".join(map(str, array.shape))
        raise BadMedium(f"{holds} an array of shape [{shape}]; it must be [M, C], M inputs of C channels")
    with np.errstate(over="ignore"):  # values too large for float32 become infinite, which the outputs' check finds
        return array.astype(np.float32)


def key_of(path: str, store: Store, key: str) -> str:
    """Return the key of the file that a path in the file `key` names: below its folder, or INPUT's URI and a key.

    Raise BadMedium for any other path: a table must not make the run read what its user did not name.
    """
    folder = key.rpartition("/")[0]
    root = store.uri.rstrip("/") + "/"
    if path.startswith(root):
        path, folder = path.removeprefix(root), ""
    kind = "a URI" if split_scheme(path)[0] is not None else "an absolute path" if path.startswith("/") else None
    if kind is not None:
        raise BadMedium(f"{path!r} is {kind}: only files in INPUT are read, by paths relative to the table")
    names = [name for name in path.split("/") if name != "."]
    if split_scheme(store.uri)[0] is None:  # a disk has no empty names, a bucket may
        names = [name for name in names if name]
    if ".." in names or "\0" in path or not any(names):
        raise BadMedium(f"{path!r} is not a path of a file in the folder of the table")
    return "/".join([folder, *names] if folder else names)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
