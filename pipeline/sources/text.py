"""Files of texts, plain or compressed: a line of a .txt is one unit, and so is a record of a .jsonl."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from pipeline.sources.base import BadMedium, Piece, SourceOptions, Unit
from pipeline.sources.lines import COMPRESSED, MAX_LINE, Line, cut_compressed, cut_plain, is_compressed, lines, opened
from pipeline.storage import AccessError, Entry, StorageError, Store

COLUMN = "text"
"""Of a record, where the user names none."""

_JSONL = (".jsonl", ".ndjson")


def _packed(*extensions: str) -> frozenset[str]:
    """Extensions of files plain and compressed."""
    return frozenset(extension + packed for extension, packed in product(extensions, ("", *COMPRESSED)))


@dataclass(frozen=True)
class Text:
    """Reads texts line by line; the id is the key and the line's place in bytes, `logs.txt#81734`.

    A .txt's empty lines are texts too, a .jsonl's are none. Every line that is a text is given as bytes, a record's
    column as str. all_jsonl: whatever the files are called, they hold records.
    """

    name: str = "text"
    extensions: frozenset[str] = _packed(".txt", *_JSONL)
    all_jsonl: bool = False
    column: str | None = None

    def configured(self, options: SourceOptions) -> Text:
        """With the column that the user names."""
        return replace(self, column=options.column)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Ranges of the file. AccessError where its records lack the column. A compressed file that cannot be read to
        its end is one unit, whose error says so when it is loaded."""
        self._check_column(store, entry)
        if not is_compressed(entry.key):
            yield from cut_plain(entry)
            return
        try:
            cut = list(cut_compressed(store, entry))
        except StorageError:
            raise
        except (OSError, EOFError, zlib.error):
            cut = [Piece(key=entry.key, version=entry.version, size=entry.size, units=1)]
        yield from cut

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """The texts that start in the piece: bytes of a line, a str of a record."""
        uri = store.uri_of(piece.key)
        if piece.begin is None:
            damaged = BadMedium("the file could not be uncompressed to its end when it was planned")
            yield Unit(id=piece.key, uri=uri, version=piece.version, error=damaged)
            return
        at, records = piece.begin, self._holds_records(piece.key)
        try:
            for line in _lines(store, piece):
                at = line.offset + line.size
                if not records or _is_record(line):
                    unit = Unit(id=f"{piece.key}#{line.offset}", uri=uri, version=piece.version)
                    yield self._read(unit, line, records=records)
        except AccessError:
            raise
        except Exception as error:  # noqa: BLE001  stores and decompressors raise anything: it costs the piece's rest
            yield Unit(id=f"{piece.key}#{at}", uri=uri, version=piece.version, error=error)

    def _read(self, unit: Unit, line: Line, *, records: bool) -> Unit:
        """The unit with its text, or with its error."""
        if line.content is None:
            unit.error = BadMedium(f"a line of more than {MAX_LINE:,} bytes")
            return unit
        try:
            unit.medium = self._column_of(line.content) if records else line.content
        except (ValueError, RecursionError) as error:  # no JSON, or nested without end
            unit.error = error
        return unit

    def _column_of(self, line: bytes) -> str:
        """The text of one record."""
        record, column = json.loads(line), self.column or COLUMN
        if not isinstance(record, dict):
            raise BadMedium(f"the line holds no record but a {type(record).__name__}")
        if column not in record:
            raise BadMedium(f"no column {column!r}; the record has {', '.join(record) or 'none'}")
        if not isinstance(record[column], str):
            raise BadMedium(f"column {column!r} holds no text but a {type(record[column]).__name__}")
        return str(record[column])

    def _check_column(self, store: Store, entry: Entry) -> None:
        """AccessError, before any work, where a column is named for lines, or the first record does not have it."""
        if not self._holds_records(entry.key):
            if self.column is not None:
                raise AccessError(
                    f"{store.uri_of(entry.key)} holds lines of text, which have no column {self.column!r}"
                )
            return
        try:
            with opened(store, entry.key) as file:
                first = next((line.content for line in lines(file, 0, None) if _is_record(line)), None)
            if first is None or not isinstance(json.loads(first), dict):
                return
        except StorageError:
            raise
        except (OSError, EOFError, zlib.error, ValueError, RecursionError):
            return  # a damaged line or file costs its own units, when it is loaded
        try:
            self._column_of(first)
        except BadMedium as error:
            raise AccessError(f"{store.uri_of(entry.key)}: {error}") from None

    def _holds_records(self, key: str) -> bool:
        name = key.lower()
        return self.all_jsonl or name.removesuffix(".gz").removesuffix(".zst").endswith(_JSONL)


def _lines(store: Store, piece: Piece) -> Iterator[Line]:
    """The lines of a piece, of the version that was planned."""
    if piece.begin == piece.end:  # of an empty file, whose units were planned: none
        return
    with opened(store, piece.key, piece.version) as file:
        yield from lines(file, piece.begin or 0, piece.end)


def _is_record(line: Line) -> bool:
    return line.content is None or bool(line.content.strip())


TEXT = Text()
JSONL = Text(name="jsonl", extensions=_packed(*_JSONL), all_jsonl=True)
