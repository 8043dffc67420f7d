"""JSON files that do not hold one record per line: an array of records, or records over several lines."""

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.media import BadMedium
from pipeline.sources.text import line_reader
from pipeline.sources.text.line_reader import UTF8_MARK, Line
from pipeline.sources.text.text_file import TextForm

_BLOCK = 1 << 16
_ARRAY_START = re.compile(r"(\xef\xbb\xbf)?[ \t\r\n]*\[?")
_SPACE = re.compile(r"[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,?")
_DECODER = json.JSONDecoder(strict=False)
_LONGEST_WORD = len("-Infinity")


def is_array(form: TextForm) -> bool:
    """Return whether a JSON file starts like an array."""
    return form.start.removeprefix(UTF8_MARK).lstrip().startswith(b"[")


def has_record_lines(form: TextForm) -> bool:
    """Return whether each line of a JSON file is a record: false for an array, and for a record over several lines."""
    text = form.start.removeprefix(UTF8_MARK).decode("latin-1").lstrip()
    line, _, rest = text.partition("\r" if form.carriage_returns else "\n")
    if _is_value(line):
        return not is_array(form) or bool(rest.strip())  # [1] before other lines is a bad record
    if is_array(form):
        return False
    if not (text.startswith("{") and rest):
        return True
    try:
        _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        return form.is_complete or not _is_cut(error, text)
    except RecursionError:
        return True
    return False


def read_values(file: BinaryIO, begin: int, end: int | None, *, in_array: bool) -> Iterator[Line]:
    """Yield the values that start at `begin`, at which the file stands, or later and before `end`.

    They are the elements of the file's array, or its values. If one is not valid JSON, the rest of the file is one
    error.
    """
    text = _Text(file, begin)
    if begin == 0:
        text.skip(_ARRAY_START if in_array else _SPACE)
    while True:
        text.skip(_SPACE)
        position = text.position
        if end is not None and position >= end:
            return
        if text.is_at_end:
            if in_array:
                yield Line(position, 0, BadMedium("the array is not closed: the file is truncated"))
            return
        if in_array and text.take("]"):
            text.skip(_SPACE)
            if not text.is_at_end:
                yield Line(position, 0, BadMedium(f"the array ends at byte {position:,}, but the file does not"))
            return
        content = text.take_value()
        if isinstance(content, BadMedium):
            yield Line(position, 0, content)
            return
        text.skip(_COMMA if in_array else _SPACE)
        yield Line(position, len(content), content)


class _Text:
    """A file from an offset on. Each byte is one character: JSON's own are ASCII, and offsets are those of bytes."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self._text, self._offset = "", offset  # of the first character of the text
        self._at = 0
        self._ended = False

    @property
    def position(self) -> int:
        """Byte at which the next character is."""
        return self._offset + self._at

    @property
    def is_at_end(self) -> bool:
        """Whether nothing follows; known after `skip`."""
        return self._at == len(self._text)

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Skip what a pattern matches, which may be nothing."""
        while (stop := _end(pattern, self._text, self._at)) == len(self._text) and not self._ended:
            self._read_more()
        self._at = stop

    def take(self, character: str) -> bool:
        """Skip a character. Return whether it follows."""
        found = self._text.startswith(character, self._at)
        self._at += found
        return found

    def take_value(self) -> bytes | BadMedium:
        """Return the value that follows, and skip it; an error if it is not valid JSON or too long."""
        position = self.position
        while True:
            try:
                _, stop = _DECODER.raw_decode(self._text, self._at)
                error = None
            except json.JSONDecodeError as fault:
                error = fault
            except (RecursionError, ValueError) as fault:
                return BadMedium(f"the file cannot be read from byte {position:,} on: {str(fault).partition(';')[0]}")
            if error is None and (stop < len(self._text) or self._ended):
                value, self._at = self._text[self._at : stop], stop
                return value.encode("latin-1")
            if error is not None and (self._ended or not _is_cut(error, self._text)):
                return BadMedium(f"the file is not valid JSON from byte {position:,} on: {error.msg}")
            if len(self._text) - self._at > line_reader.MAX_LINE_BYTES:
                return BadMedium(f"the record at byte {position:,} has more than {line_reader.MAX_LINE_BYTES:,} bytes")
            self._read_more()

    def _read_more(self) -> None:
        """Read as much again as the text has from the current position on, at least a block."""
        self._text, self._offset, self._at = self._text[self._at :], self.position, 0
        block = self._file.read(max(_BLOCK, len(self._text)))
        self._text += block.decode("latin-1")
        self._ended = not block


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    assert match is not None  # the patterns match nothing too
    return match.end()


def _is_value(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_cut(error: json.JSONDecodeError, text: str) -> bool:
    """Return whether the error may be that the text ends too early."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(text) - _LONGEST_WORD
