"""Texts and JSON, plain or compressed: each line of a .txt is one unit, and so is each record of a .jsonl or .json."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.media import BadMedium
from pipeline.sources.record_source import RecordSource
from pipeline.sources.records.record_media import ruled_text, text_of, value_of
from pipeline.sources.records.record_reader import DEFAULT_COLUMN, Record, RecordReader, RecordRequest
from pipeline.sources.source import NO_MEDIUM_REMEDY, NoMediumColumn, Piece, ignore_damage, missing_column
from pipeline.sources.text.compressed import skip_to, with_compression, without_compression
from pipeline.sources.text.json_values import has_record_lines, is_array, read_values
from pipeline.sources.text.line_reader import Line, is_blank, pieces_of_lines, plan_line_pieces, read_all, read_lines
from pipeline.sources.text.text_file import TextForm, open_text, require_plannable_text, require_text, text_form
from pipeline.storage import AccessError, Entry, Store

_JSONL = (".jsonl", ".ndjson")
_JSON = (*_JSONL, ".json")  # a folder's .json files usually describe its other files: they must be named
_WHITE_SPACE = b" \t\n\r\x0b\f"
_CHECKED_RECORDS = 1000  # records in which a column that few have is searched before it counts as missing


@dataclass(frozen=True)
class LinesReader(RecordReader):
    """Reads lines and JSON records. The place of each is its byte offset, `logs.txt#81734`.

    An empty line of a .txt is a text; an empty line of a .jsonl is skipped. A line of text is given as bytes, a column
    of a record as JSON has it. Records are lines, the elements of an array, or the values of a file.

    Attributes:
        all_json: whether files hold records whatever their extension is.
    """

    all_json: bool = False

    def pieces(self, store: Store, entry: Entry, request: RecordRequest) -> Iterator[Piece]:
        """Yield ranges of lines or records, or a .txt that is one text. Raise BadMedium if the file holds no text."""
        form = text_form(store, entry.key, entry.version, entry.size)
        require_text(form)
        self._check_columns(store, entry, request)
        if self._is_whole(entry.key, request):
            yield Piece.of(entry, units=1, weight=None if form.is_sequential else entry.size)
        elif self._holds_values(entry.key, form):
            with open_text(store, entry.key, entry.version, entry.size) as file:
                values = read_values(file, 0, None, in_array=is_array(form))
                yield from pieces_of_lines(entry, values, request.options.piece_units)
        elif not (self._is_json(entry.key) and is_blank(store, entry, 0, _WHITE_SPACE)):
            yield from plan_line_pieces(store, entry, request.options.piece_units)

    def records(self, store: Store, piece: Piece, request: RecordRequest) -> Iterator[Record]:  # noqa: ARG002
        """Yield the lines that start in the piece; a line of text is a record of one column."""
        is_json = self._is_json(piece.key)
        with open_text(store, piece.key, piece.version, piece.size) as file:
            for line in self._lines(file, piece, text_form(store, piece.key, piece.version, piece.size)):
                if (values := _parse(line, is_json=is_json)) is not None:
                    begin, end = line.offset, line.offset + line.size
                    yield Record(str(begin), str(end), values, begin, end)

    def kept(self, store: Store, entry: Entry, request: RecordRequest) -> pa.Schema:
        """Return strings. Raise AccessError if none of the first records has one of the columns."""
        self._require(store, entry, request.required_keep)
        return request.kept_strings

    def has_columns(self, key: str) -> bool:
        """Return whether the file holds records; lines of text have no columns."""
        return self._is_json(key)

    def read_whole(self, store: Store, piece: Piece, request: RecordRequest) -> Any:
        """Return the UTF-8 of a .txt that is one text. Raise what is wrong with a file that could not be planned."""
        require_plannable_text(store, piece)
        if not self._is_whole(piece.key, request):
            return super().read_whole(store, piece, request)
        with open_text(store, piece.key, piece.version, piece.size, breaks=False) as file:
            return ruled_text(read_all(file), DEFAULT_COLUMN["text"][0], request.options.blank_text)

    def _require(self, store: Store, entry: Entry, names: Sequence[str]) -> None:
        """Raise AccessError if none of the first records has one of the columns, or if lines of text have columns."""
        if not names:
            return
        uri = store.uri_of(entry.key)
        if not self._is_json(entry.key):
            raise AccessError(f"{uri}: column {names[0]!r} not found; lines of text have no columns")
        available = dict.fromkeys(name for record in self._first_records(store, entry) for name in record)
        for name in names:
            if available and name not in available:
                raise missing_column(uri, name, available)

    def _check_columns(self, store: Store, entry: Entry, request: RecordRequest) -> None:
        """Raise AccessError if a column is named for lines, or none of the first records holds the medium."""
        options = request.options
        is_json = self._is_json(entry.key)
        named = (options.id_column,) if is_json else (options.id_column, options.column)
        self._require(store, entry, [name for name in named if name])
        if not is_json:
            return
        reason: BadMedium | None = None
        for record in self._first_records(store, entry):
            try:
                values = [(value_of(record, name), name) for name in request.medium_columns]
                if options.medium == "text":
                    text_of(*values[0])
            except BadMedium as error:
                reason = reason or error
            else:
                return
        if reason is not None:
            raise NoMediumColumn(f"{store.uri_of(entry.key)}: {reason}. {NO_MEDIUM_REMEDY}")

    def _first_records(self, store: Store, entry: Entry) -> Iterator[dict[str, Any]]:
        """Yield the first records as far as the file can be read; damage costs its own units when it is loaded."""
        with ignore_damage():
            form, whole = text_form(store, entry.key, entry.version, entry.size), Piece.of(entry)
            with open_text(store, entry.key, entry.version, entry.size) as file:
                parsed = (_parse(line, is_json=True) for line in self._lines(file, whole, form))
                for record in islice((each for each in parsed if each is not None), _CHECKED_RECORDS):
                    if isinstance(record, dict):
                        yield record

    def _lines(self, file: BinaryIO, piece: Piece, form: TextForm) -> Iterator[Line]:
        """Yield the lines or JSON values of a piece."""
        begin = piece.begin or 0
        if not self._holds_values(piece.key, form):
            return read_lines(file, begin, piece.end)
        skip_to(file, begin)
        return read_values(file, begin, piece.end, in_array=is_array(form))

    def _holds_values(self, key: str, form: TextForm) -> bool:
        return self._is_json(key) and not has_record_lines(form)

    def _is_json(self, key: str) -> bool:
        return self.all_json or without_compression(key).endswith(_JSON)

    def _is_whole(self, key: str, request: RecordRequest) -> bool:
        return request.options.text_unit == "file" and not self._is_json(key)


def _parse(line: Line, *, is_json: bool) -> dict[str, Any] | Exception | None:
    """Return the columns of a line, None if it is an empty line between records, or why it is not a JSON object."""
    if isinstance(line.content, BadMedium):
        return line.content
    if not is_json:
        return {DEFAULT_COLUMN["text"][0]: line.content}
    if not line.content.strip():
        return None
    try:
        record = json.loads(line.content)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(";")[0]  # advice for programmers follows if a number has too many digits
        return BadMedium(f"the record is not valid JSON: {reason}")
    if not isinstance(record, dict):
        return BadMedium(f"the record must be a JSON object, got {type(record).__name__}")
    return record


TEXT = RecordSource("text", with_compression(".txt", *_JSONL), LinesReader(), media=frozenset({"text"}))
JSONL = RecordSource("jsonl", with_compression(*_JSONL), LinesReader(all_json=True))
