"""Samples of a tar archive: consecutive members whose names are equal up to the first dot of the file name."""

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from pipeline.media import BadMedium
from pipeline.storage import valid_unicode

_BLOCK = 512


@dataclass(kw_only=True)
class TarSample:
    """One sample.

    Attributes:
        name: common part of the members' names, bytes that are not UTF-8 as escapes.
        begin: byte at which its first member starts.
        end: byte after its last member.
        columns: what follows the first dot of each member's name, in lower case and in order.
        contents: bytes of the columns that were requested, or why they were not read.
    """

    name: str
    begin: int
    end: int
    columns: list[str] = field(default_factory=list)
    contents: dict[str, bytes | BadMedium] = field(default_factory=dict)


class DuplicateMember(Exception):  # noqa: N818  its text is shown, not its name
    """Two samples have one name, or a sample has a column twice."""

    def __init__(self, name: str, first: int, second: int) -> None:
        super().__init__(f"{name!r} exists twice, at byte {first} and at byte {second}; names must be unique")


def read_samples(
    file: BinaryIO, begin: int, end: int | None, wanted: frozenset[str] = frozenset(), max_bytes: int = 0
) -> Iterator[TarSample]:
    """Yield the samples that begin at `begin` or later and before `end`; None is the end of the archive.

    Read the content of the `wanted` columns, of at most `max_bytes` each. Raise DuplicateMember for a column that a
    sample has twice, and anything that tarfile raises for a damaged archive.
    """
    sample: TarSample | None = None
    for archive, member in _members(file, begin, end):
        folder, slash, name = valid_unicode(member.name).rpartition("/")
        stem, dot, column = name.partition(".")
        if not ((member.isreg() or member.islnk()) and stem and dot and column):
            continue
        if sample is None or sample.name != folder + slash + stem:
            if sample is not None:
                yield sample
            sample = TarSample(name=folder + slash + stem, begin=member.offset, end=member.offset)
        column = column.lower()
        if column in sample.columns:
            raise DuplicateMember(f"{sample.name}.{column}", sample.begin, member.offset)
        sample.columns.append(column)
        sample.end = archive.offset
        if column in wanted:  # read now: a compressed archive only goes forward
            sample.contents[column] = _read(archive, member, column, max_bytes)
    if sample is not None:
        yield sample


def require_unique(samples: Iterator[TarSample]) -> Iterator[TarSample]:
    """Yield the samples. Raise DuplicateMember if two have one name."""
    begins: dict[str, int] = {}
    for sample in samples:
        if sample.name in begins:
            raise DuplicateMember(sample.name, begins[sample.name], sample.begin)
        begins[sample.name] = sample.begin
        yield sample


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, column: str, max_bytes: int) -> bytes | BadMedium:
    """Return the content of a member, or why it is not read."""
    if member.size > max_bytes:
        return BadMedium(f"{column} has {member.size:,} bytes, at most {max_bytes:,} are read")
    if member.islnk():  # GNU tar stores the second of two names of one file as a link
        return BadMedium(f"{column} is a link to {member.linkname!r}, which is not followed")
    content = archive.extractfile(member)
    assert content is not None
    return content.read()


def _members(file: BinaryIO, begin: int, end: int | None) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield each member with its archive, whose `offset` is the byte after the member.

    Archives that were joined, one after the end mark of the other, are read as one.
    """
    position: int | None = begin
    while position is not None:
        file.seek(position)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                vars(archive)["members"].clear()  # it would keep them all
                if end is not None and member.offset >= end:
                    return
                yield archive, member
        position = _next_archive(file, archive.offset)


def _next_archive(file: BinaryIO, position: int) -> int | None:
    """Return where the next archive begins after the one that ends at a position; None if none follows.

    Raise ReadError if there is no end mark: tarfile takes a damaged header for the end as well.
    """
    file.seek(position)
    if any(file.read(_BLOCK)):  # zeros mark the end
        raise tarfile.ReadError(f"no member at byte {position}")
    position += _BLOCK
    while block := file.read(_BLOCK):
        if any(block):
            with suppress(tarfile.HeaderError):
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                return position
            return None
        position += _BLOCK
    return None
