"""From the columns of a record to a medium: text, an image by its bytes or its path, a pair of images, an array."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.media import BadMedium
from pipeline.sources.image_source import MAX_FILE_BYTES
from pipeline.sources.images.frame_pairs import pair_of
from pipeline.sources.images.image_decoding import DecodedImage, decode_first_frame
from pipeline.sources.images.image_pixels import Transparency
from pipeline.sources.records.record_reader import RecordRequest, as_text
from pipeline.sources.source import BlankText, Unit
from pipeline.storage import Entry, Store, redact
from pipeline.storage.uris import is_chain, split_scheme

MAX_PATH_LETTERS = 4096  # a longer text is not a path


def uri_of(values: Mapping[str, Any], request: RecordRequest, store: Store, key: str) -> str:
    """Return the URI of the file that a record names as its medium, without secrets; of a pair that of the first frame.

    It is that of the file `key`, which the record is in, if the record holds the medium or names none by a path.
    """
    named = None
    if request.options.medium in ("image", "frame_pair", "clip"):
        named = bytes_or_path(values.get(request.medium_columns[0]))
    if not isinstance(named, str) or len(named) > MAX_PATH_LETTERS:
        return store.uri_of(key)
    try:
        uri = store.uri_of(key_of(named, store, key))
    except BadMedium:
        if _kind_of_path(named) is None:
            return store.uri_of(key)
        uri = named
    return redact(as_text(uri) or "")


def medium_of(
    values: Mapping[str, Any], number: int, request: RecordRequest, store: Store, key: str, unit: Unit
) -> Any:
    """Return the medium that record `number` of a file holds, see `MediumKind`. Raise BadMedium if it holds none.

    Of an image the unit gets the number of the `frames` in its file, and the version of the file that the record names.
    """
    names = request.medium_columns
    found = [value_of(values, name) for name in names]
    match request.options.medium:
        case "latents":
            return dict(zip(names, found, strict=True))
        case "text":
            return ruled_text(found[0], names[0], request.options.blank_text)
        case "array":
            return array_of(found[0], names[0])
    stored = [content_of(value, name, "an image", store, key) for value, name in zip(found, names, strict=True)]
    set_version(unit, stored[0])
    images = [_decode(each, store, request.options.transparency) for each in stored]
    if request.options.medium == "frame_pair":
        return pair_of(images[0].pixels, images[1].pixels, number=number)
    unit.kept.setdefault("frames", images[0].frames)
    return images[0].pixels


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


def content_of(value: Any, column: str, kind: str, store: Store, key: str) -> bytes | Entry:
    """Return the bytes of a file, or the file, from its bytes, its path, or a {"bytes", "path"} with one of them.

    `kind`: of the file, in messages. `store`, `key`: of the file that the record is in.
    """
    value = bytes_or_path(value)
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise BadMedium(f"column {column!r} must hold {kind}, got {_kind(value)}")
    return store.entry(key_of(value, store, key))


def set_version(unit: Unit, content: bytes | Entry) -> None:
    """Set the version of a unit to that of the file that its record names, if it names one."""
    if isinstance(content, Entry):
        unit.version = content.version


def bytes_or_path(value: Any) -> Any:
    """Return what a {"bytes", "path"} has of both, and any other value as it is."""
    if not isinstance(value, dict) or {"bytes", "path"}.isdisjoint(value):
        return value
    content = value.get("bytes")
    return value.get("path") if content is None else content


def _decode(content: bytes | Entry, store: Store, transparency: Transparency) -> DecodedImage:
    """Return the first frame of an image file, which must have the version that was looked up."""
    if isinstance(content, bytes):
        return decode_first_frame(content, transparency)
    if content.size > MAX_FILE_BYTES:
        name = content.key.rpartition("/")[2]
        raise BadMedium(f"{name!r} has {content.size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
    return decode_first_frame(store.read(content.key, version=content.version, size=content.size), transparency)


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
    if (kind := _kind_of_path(path)) is not None:
        raise BadMedium(f"{path!r} is {kind}: only files in INPUT are read, by paths relative to the table")
    names = [name for name in path.split("/") if name != "."]
    if split_scheme(store.uri)[0] is None:  # a disk has no empty names, a bucket may
        names = [name for name in names if name]
    if ".." in names or "\0" in path or not any(names):
        raise BadMedium(f"{path!r} is not a path of a file in the folder of the table")
    return "/".join([folder, *names] if folder else names)


def _kind_of_path(path: str) -> str | None:
    """Return what a path is that is not relative, in words; None for a relative one."""
    is_uri = split_scheme(path)[0] is not None or is_chain(path)
    return "a URI" if is_uri else "an absolute path" if path.startswith("/") else None


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
