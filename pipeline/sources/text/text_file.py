"""Text files as UTF-8 with line feeds, whatever their compression, encoding and line breaks are."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import BinaryIO, NamedTuple, cast

from pipeline.media import BadMedium
from pipeline.sources.listing.file_signatures import not_text
from pipeline.sources.source import Piece, ignore_damage
from pipeline.sources.text.compressed import compression_of, decompressed
from pipeline.sources.text.unmarked_encoding import unmarked_encoding
from pipeline.storage import Store

_START_BYTES = 1 << 16
_BLOCK = 1 << 20
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# Bytes that are not UTF-16 or UTF-32 become a lone surrogate, which is not valid UTF-8: the text is flagged.
codecs.register_error("lone_surrogate", lambda error: ("\udfff", cast(UnicodeDecodeError, error).end))


class TextForm(NamedTuple):
    """How a file holds its text.

    Attributes:
        compression: "gzip", "zstd", "bzip2" or "xz"; None if it is not compressed.
        encoding: UTF-16 or UTF-32, by its byte order mark; None for all others.
        carriage_returns: whether lines end with carriage returns alone.
        start: its first 64 KiB, in UTF-8.
        is_complete: whether `start` is the whole text.
        other: what the file is if it cannot be read as text: "a Parquet file, not text".
    """

    compression: str | None
    encoding: str | None
    carriage_returns: bool
    start: bytes
    is_complete: bool
    other: str | None

    @property
    def is_sequential(self) -> bool:
        """Whether the text can only be read from its beginning."""
        return self.compression is not None or self.encoding is not None


@lru_cache(maxsize=256)
def text_form(store: Store, key: str, version: str, size: int) -> TextForm:
    """Return how a version of a file holds its text, by its first 64 KiB. Raise anything if it cannot be read."""
    with store.open(key, version=version, size=size) as file:
        compression = compression_of(file, key)
        start = _read(decompressed(file, compression), _START_BYTES)
    encoding = next((name for mark, name in _ENCODINGS.items() if start.startswith(mark)), None)
    other = _other_than_text(start) if encoding is None else None
    is_complete = len(start) < _START_BYTES
    if encoding is not None:
        start = io.BufferedReader(_Transcoded(io.BytesIO(start), encoding)).read()
    # A carriage return at the end of the start may precede a line feed.
    carriage_returns = b"\n" not in start and b"\r" in (start if is_complete else start[:-1])
    return TextForm(compression, encoding, carriage_returns, start, is_complete, other)


def _other_than_text(start: bytes) -> str | None:
    if (name := not_text(start)) is not None:
        return f"{name}, not text"
    if (encoding := unmarked_encoding(start)) is not None:
        return f"text in {encoding} without a byte order mark: add one, or convert it to UTF-8"
    return None


def require_text(form: TextForm) -> None:
    """Raise BadMedium if a file is known to hold something else, or text that is not read."""
    if form.other is not None:
        raise BadMedium(f"the file is {form.other}")


def require_plannable_text(store: Store, piece: Piece) -> None:
    """Raise BadMedium if a whole file, of the planned version, holds no text. Damage is ignored."""
    with store.open(piece.key, version=piece.version, size=piece.size):
        pass
    form: TextForm | None = None
    with ignore_damage():
        form = text_form(store, piece.key, piece.version, piece.size)
    if form is not None:
        require_text(form)


@contextmanager
def open_text(store: Store, key: str, version: str, size: int, *, breaks: bool = True) -> Iterator[BinaryIO]:
    """Open a file as UTF-8. Invalid text stays invalid, to be replaced and flagged when it is decoded.

    Offsets are those of the content in UTF-8; a byte order mark of UTF-8 counts, those of other encodings do not.
    Raises Missing, Changed or Corrupt unless the file has this version and size.

    Args:
        breaks: if lines end with carriage returns alone, give line feeds instead.
    """
    with store.open(key, version=version, size=size) as opened:
        form = text_form(store, key, version, size)
        file = decompressed(opened, form.compression)
        if form.encoding is not None:
            file = cast(BinaryIO, io.BufferedReader(_Transcoded(file, form.encoding), _BLOCK))
        if breaks and form.carriage_returns:
            file = cast(BinaryIO, io.BufferedReader(_LineFeeds(file), _BLOCK))
        yield file


class _Transcoded(io.RawIOBase):
    """A text in UTF-16 or UTF-32, with a byte order mark, as UTF-8 without one."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file, self._ready = file, b""
        self._decoder = codecs.getincrementaldecoder(encoding)("lone_surrogate")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            block = self._file.read(_BLOCK)
            text = self._decoder.decode(block, final=not block)
            self._ready = text.encode("utf-8", "surrogatepass")
            if not block:
                break
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


class _LineFeeds(io.RawIOBase):
    """A text with a line feed for each carriage return that is not followed by one; offsets stay the same."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._held = file, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def tell(self) -> int:
        return self._file.tell() - len(self._held)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._held = b""
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data, self._held = self._held + self._file.read(len(buffer) - 2), b""
        if data.endswith(b"\r"):  # the next byte decides
            following = self._file.read(1)
            if following == b"\n":
                data += following
            else:
                self._held = following
        data = re.sub(rb"\r(?!\n)", b"\n", data)
        buffer[: len(data)] = data
        return len(data)


def _read(file: BinaryIO, size: int) -> bytes:
    """Return the first bytes of a file; fewer than `size` only at its end."""
    parts, missing = [], size
    while missing and (part := file.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
