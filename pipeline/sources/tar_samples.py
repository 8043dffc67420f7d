"""Samples in a tar archive: neighbouring members whose names are equal up to the first dot of the file name."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from pipeline.media import BadMedium

_BLOCK = 512


@dataclass(kw_only=True)
class TarSample:
    """A sample, from one place of the archive to another, in bytes. there: the columns it has, in their order. values:
    content of those that were asked for, or why it was not read."""

    name: str
    begin: int
    end: int
    there: list[str] = field(default_factory=list)
    values: dict[str, bytes | BadMedium] = field(default_factory=dict)


class DuplicateMember(Exception):  # noqa: N818  what it says is shown, not its name
    """A name that two samples have, or a column that a sample has twice, and where both begin."""

    def __init__(self, name: str, first: int, second: int) -> None:
        super().__init__(f"{name!r} is there twice, at byte {first} and again at byte {second}")


def samples(
    file: BinaryIO, begin: int, end: int | None, wanted: frozenset[str] = frozenset(), most: int = 0
) -> Iterator[TarSample]:
    """The samples that begin at `begin` or later and before `end`; None is the end of the archive.

    wanted: columns whose content is read, of at most `most` bytes each. Raise DuplicateMember, and whatever tarfile
    raises for a damaged archive.
    """
    sample: TarSample | None = None
    for archive, member in _members(file, begin, end):
        folder, slash, name = member.name.rpartition("/")
        stem, dot, column = name.partition(".")
        if not ((member.isreg() or member.islnk()) and stem and dot and column):
            continue
        if sample is not None and sample.name != folder + slash + stem:
            yield sample
            sample = None
        if sample is None:
            sample = TarSample(name=folder + slash + stem, begin=member.offset, end=member.offset)
        _add(sample, column.lower(), archive, member, column.lower() in wanted, most)
    if sample is not None:
        yield sample


def each_once(found: Iterator[TarSample]) -> Iterator[TarSample]:
    """The samples; DuplicateMember where one has the name of an earlier one."""
    begins: dict[str, int] = {}
    for sample in found:
        if sample.name in begins:
            raise DuplicateMember(sample.name, begins[sample.name], sample.begin)
        begins[sample.name] = sample.begin
        yield sample


def _add(
    sample: TarSample, column: str, archive: tarfile.TarFile, member: tarfile.TarInfo, wanted: bool, most: int
) -> None:
    """Take a member into its sample; content is read now, for a compressed archive only goes forward."""
    if column in sample.there:
        raise DuplicateMember(f"{sample.name}.{column}", sample.begin, member.offset)
    sample.there.append(column)
    sample.end = archive.offset
    if wanted and member.size > most:
        sample.values[column] = BadMedium(f"{column} has {member.size:,} bytes: it may have {most:,}")
    elif wanted and member.islnk():  # GNU tar writes so what has two names on the disk: the second time
        sample.values[column] = BadMedium(f"{column} is a link to {member.linkname!r}, which is not followed")
    elif wanted:
        content = archive.extractfile(member)
        assert content is not None
        sample.values[column] = content.read()


def _members(file: BinaryIO, begin: int, end: int | None) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every member, with its archive, whose `offset` is where the next one begins."""
    file.seek(begin)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            vars(archive)["members"].clear()  # it would keep them all
            if end is not None and member.offset >= end:
                return
            yield archive, member
        file.seek(archive.offset)
        if any(file.read(_BLOCK)):  # an end is marked by zeros; tarfile takes a damaged header for one too
            raise tarfile.ReadError(f"no member at byte {archive.offset}")
