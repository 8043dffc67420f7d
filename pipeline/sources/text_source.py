"""Files of texts and records, plain or compressed: a line of a .txt is one unit, and so is a record of a .jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.compressed import (
    DECOMPRESSION_ERRORS,
    is_compressed,
    open_decompressed,
    with_compression,
    without_compression,
)
from pipeline.sources.line_reader import MAX_LINE_BYTES, Line, plan_line_pieces, read_all, read_lines
from pipeline.sources.record_media import text_of, value_of
from pipeline.sources.record_source import DEFAULT_COLUMN, Record, RecordSource, missing_column
from pipeline.sources.source import Piece, Unit
from pipeline.storage import AccessError, Entry, StorageError, Store

_JSONL = (".jsonl", ".ndjson")
_FIRST = 1000  # records in which a column that few have is looked for before it is said to be missing
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Text(RecordSource):
    """Reads lines; the id is the key and the line's place in bytes, `logs.txt#81734`.

    A .txt's empty lines are texts too, a .jsonl's are none. Every line that is a text is given as bytes, a record's
    column as JSON has it. all_jsonl: whatever the files are called, they hold records.
    """

    all_jsonl: bool = False

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Ranges of the file, or a whole .txt that is one text. AccessError where its records lack the column. A
        compressed file that cannot be read to its end is one unit, whose error says so when it is loaded."""
        self._check_first(store, entry)
        if self._is_whole(entry.key):
            about = None if is_compressed(entry.key) else entry.size
            yield Piece(key=entry.key, version=entry.version, size=entry.size, units=1, weight=about)
        else:
            yield from plan_line_pieces(store, entry)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """The texts that start in the piece, bytes of a line or a str of a record, or what else records hold."""
        if self._is_whole(piece.key):
            yield _whole(store, piece)
        else:
            yield from super().units(store, piece)

    def records(self, store: Store, piece: Piece, names: tuple[str, ...]) -> Iterator[Record]:  # noqa: ARG002
        """A line of text is a record of one column."""
        if piece.begin == piece.end:  # of an empty file, whose units were planned: none
            return
        holds_records = self._holds_records(piece.key)
        with open_decompressed(store, piece.key, piece.version) as file:
            for line in read_lines(file, piece.begin or 0, piece.end):
                if not holds_records or _is_record(line):
                    columns = _columns(line) if holds_records else _text(line)
                    yield Record(str(line.offset), str(line.offset + line.size), columns)

    def require(self, store: Store, entry: Entry, names: Iterable[str]) -> None:
        """AccessError where the first records all lack one of the columns, or where it is named for lines."""
        uri = store.uri_of(entry.key)
        if not self._holds_records(entry.key):
            for name in names:
                raise AccessError(f"{uri} holds lines of text, which have no column {name!r}")
            return
        there = dict.fromkeys(name for record in _first(store, entry) for name in record)
        for name in names:
            if there and name not in there:
                raise missing_column(uri, name, there)

    def _check_first(self, store: Store, entry: Entry) -> None:
        """AccessError, before any work, where a column is named for lines, or none of the first records holds it."""
        options = self.options
        named = [name for name in (options.column, options.id_column) if name]
        if named:
            self.require(store, entry, [options.id_column] if options.id_column else [])
        if not self._holds_records(entry.key):
            self.require(store, entry, named)
            return
        wrong: BadMedium | None = None
        for record in _first(store, entry):
            try:
                self._check_record(record)
            except BadMedium as error:
                wrong = wrong or error
            else:
                return
        if wrong is not None:
            raise AccessError(f"{store.uri_of(entry.key)}: {wrong}")

    def _check_record(self, record: dict[str, Any]) -> None:
        """BadMedium where a record lacks the column, or holds no text in it."""
        for name in self.columns:
            value = value_of(record, name)
            if self.options.medium == "text":
                text_of(value, name)

    def _holds_records(self, key: str) -> bool:
        return self.all_jsonl or without_compression(key).endswith(_JSONL)

    def _is_whole(self, key: str) -> bool:
        return self.options.text_unit == "file" and not self._holds_records(key)


def _whole(store: Store, piece: Piece) -> Unit:
    """The text of a whole file."""
    unit = Unit(id=piece.key, uri=store.uri_of(piece.key), version=piece.version)
    try:
        with open_decompressed(store, piece.key, piece.version) as file:
            unit.medium = read_all(file).removeprefix(_MARK)
    except AccessError:
        raise
    except Exception as error:  # noqa: BLE001  stores and decompressors raise anything: it costs this unit only
        unit.error = error
    return unit


def _columns(line: Line) -> dict[str, Any] | Exception:
    """The columns of one record, or why it has none: no JSON, nested without end, no object."""
    if line.content is None:
        return _too_long()
    try:
        record = json.loads(line.content)
    except (ValueError, RecursionError) as error:
        words = str(error).partition(";")[0]  # advice for programmers follows, where a number has too many digits
        return BadMedium(f"the line is no JSON: {words}")
    if not isinstance(record, dict):
        return BadMedium(f"the line holds no record but a {type(record).__name__}")
    return record


def _text(line: Line) -> dict[str, Any] | Exception:
    """The line as a record of the usual column."""
    return _too_long() if line.content is None else {DEFAULT_COLUMN["text"][0]: line.content}


def _too_long() -> BadMedium:
    return BadMedium(f"a line of more than {MAX_LINE_BYTES:,} bytes")


def _first(store: Store, entry: Entry) -> Iterator[dict[str, Any]]:
    """The first records of a file, as far as it can be read: what is damaged costs its own units, when it is loaded."""
    try:
        with open_decompressed(store, entry.key) as file:
            for line in islice(filter(_is_record, read_lines(file, 0, None)), _FIRST):
                if isinstance(columns := _columns(line), dict):
                    yield columns
    except StorageError:
        raise
    except DECOMPRESSION_ERRORS:
        return


def _is_record(line: Line) -> bool:
    return line.content is None or bool(line.content.strip())


_ANY: frozenset[MediumKind] = frozenset({"text", "image", "frame_pair", "array"})
TEXT = Text("text", with_compression(".txt", *_JSONL), frozenset({"text"}))
JSONL = Text("jsonl", with_compression(*_JSONL), _ANY, all_jsonl=True)
