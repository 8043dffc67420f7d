"""Entries of INPUT that are not read as units: counted by reason, and kept in full in a temporary file."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from tempfile import SpooledTemporaryFile
from typing import TypeAlias

from pipeline.visible import visible_line

FIRST_NAMES = 5  # per reason, for messages
_SHOWN_CHARACTERS = 80  # of a name in a message
_DIGEST_BYTES = 16
_MEMORY_BYTES = 1 << 20  # of the names in memory; more are in a temporary file on disk


class Reason(StrEnum):
    """Why an entry is left out, as messages and `_run/left_out` say it."""

    UNKNOWN_KIND = "unknown kind"
    UNREADABLE = "of a kind that only its content tells, which cannot be read"
    OTHER_MEDIUM = "not the task's medium"
    OTHER_FORMAT = "not of the input format"
    HIDDEN = "hidden"
    OUTPUT = "in the OUTPUT of a run"
    DANGLING_LINK = "dangling link"
    LINK_LOOP = "link loop"
    LISTED_FOLDER = "link to a folder that is listed already"
    NOT_REGULAR = "not a regular file"
    FOLDER_MARKER = "folder marker of an object store"
    NAME = "name that is not valid UTF-8"
    DELETED = "deleted while INPUT was listed"
    SAVED_DATASET_FILE = "not a data file of a saved dataset"
    SINGLE_FRAME = "the only frame in its folder"
    NO_UNITS = "no units in the file"
    NO_COLUMNS = "without columns, while an option names one"
    NO_MEDIUM_COLUMN = "table without a column for the task, next to images or videos"
    CONTENT_TABLE = "table known by its content, without a column for the run"
    ABOUT = "about the tables in the folder"
    TABLE_METADATA = "metadata of a table format"
    NOT_CURRENT = "not in the current version of its table"
    METADATA = "metadata of images or videos, whose columns are kept"
    NAMED_ONLY = "named in a metadata file, but not in INPUT"
    JSON = "JSON next to other files that are read"


LeaveOut: TypeAlias = Callable[[str, Reason], None]
"""Called with the key of each entry that a listing leaves out, and the reason."""


class LeftOut:
    """Counts, first names and a stream of all entries that one listing leaves out.

    Attributes:
        counts: number of entries by reason.
        first: the first FIRST_NAMES names of each reason: keys, or folders that are left out with all that they hold.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[str]] = {}
        self._digest = 0
        self._stored = SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115 - deleted with the object

    def add(self, key: str, reason: Reason, folder: str = "") -> None:
        """Count an entry. Call it once for each: an entry has one reason. folder: is named in place of the key."""
        self.counts[reason] += 1
        first, name = self.first.setdefault(reason, []), valid_unicode(folder or key)
        if len(first) < FIRST_NAMES and name not in first:
            first.append(name)
        line = json.dumps([key, reason]).encode() + b"\n"
        self._digest += int.from_bytes(hashlib.blake2b(line, digest_size=_DIGEST_BYTES).digest())
        self._stored.write(line)

    def entries(self) -> Iterator[tuple[str, str]]:
        """Yield (key, reason) of all entries so far, in the order of the listing."""
        self._stored.seek(0)
        for line in self._stored:
            key, reason = json.loads(line)
            yield key, reason

    def digest(self) -> str:
        """Return a digest of all entries so far, whatever their order."""
        return f"{self._digest % (1 << 8 * _DIGEST_BYTES):0{2 * _DIGEST_BYTES}x}"


def ignore_left_out(key: str, reason: Reason) -> None:
    """Do not count what a listing leaves out."""


def describe(counts: Mapping[str, int], first: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield each reason and a line about it, for messages: `1,204, hidden: .a, .b and 1,202 more`.

    For files in OUTPUTs the folders are named: `45, in the OUTPUT of a run: labels/`.
    """
    for reason, count in sorted(counts.items()):
        known = first.get(reason, ())
        names, more = ", ".join(map(shown, known)), 0 if names_folders(reason, known) else count - len(known)
        yield reason, f"{count:,}, {reason}: {names}" + (f" and {more:,} more" if more else "")


def names_folders(reason: str, first: Sequence[str]) -> bool:
    """Return whether the names of a reason are folders; those that an earlier version recorded are keys."""
    return reason == Reason.OUTPUT and all(name.endswith("/") for name in first)


def valid_unicode(key: str) -> str:
    """Return a key with the bytes that are not UTF-8 as escapes: `caf\\xe9.jpg`."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown(key: str) -> str:
    """Return a key in one line of printable characters, the middle of a long one cut out."""
    plain = visible_line(key)
    half = _SHOWN_CHARACTERS // 2
    return plain if len(plain) <= 2 * half else f"{plain[:half]}…{plain[-half:]}"
