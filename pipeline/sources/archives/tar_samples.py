"""Samples of a tar archive: consecutive members whose names are equal up to the first dot of the file name."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from pipeline.media import BadMedium
from pipeline.sources.archives.file_range import FileRange
from pipeline.sources.archives.tar_links import TarLinks
from pipeline.sources.archives.tar_members import read_content, read_members
from pipeline.sources.listing.glob_pattern import is_hidden
from pipeline.storage import Reason, valid_unicode


@dataclass(kw_only=True)
class TarSample:
    """One sample.

    Attributes:
        name: common part of the members' names, bytes that are not UTF-8 as escapes.
        begin: byte at which its first member starts.
        end: byte after its last member.
        columns: what follows the first dot of each member's name, in lower case and in order.
        contents: bytes of the columns that were requested, or their range in the archive, or why they were not read.
    """

    name: str
    begin: int
    end: int
    columns: list[str] = field(default_factory=list)
    contents: dict[str, bytes | FileRange | BadMedium] = field(default_factory=dict)


class DuplicateMember(Exception):  # noqa: N818  its text is shown, not its name
    """Two samples have one name, or a sample has a column twice."""

    def __init__(self, name: str, first: int, second: int) -> None:
        super().__init__(f"{name!r} exists twice, at byte {first} and at byte {second}; names must be unique")


@dataclass(kw_only=True)
class SampleReader:
    """Reads the samples of an open archive.

    Attributes:
        file: the archive.
        links: resolves its links.
        wanted: columns whose content is read.
        ranges: columns of which the range in the archive is given instead of the content.
        max_bytes: most bytes of a content.
        left_out: names of the members so far that are not part of a sample, with their reason; folders do not count.
    """

    file: BinaryIO
    links: TarLinks
    wanted: frozenset[str] = frozenset()
    ranges: frozenset[str] = frozenset()
    max_bytes: int = 0
    left_out: list[tuple[str, Reason]] = field(default_factory=list)

    def read(self, begin: int, end: int | None) -> Iterator[TarSample]:
        """Yield the samples that begin at `begin` or later and before `end`; None is the end of the archive.

        Raise DuplicateMember for a column that a sample has twice, and anything that tarfile raises for a damaged
        archive.
        """
        sample: TarSample | None = None
        for archive, member in read_members(self.file, begin, end):
            if member.isdir():
                continue
            if reason := self._reason_left_out(member):
                self.left_out.append((valid_unicode(member.name), reason))
                continue
            name, column = _split(valid_unicode(member.name))
            if sample is None or sample.name != name:
                if sample is not None:
                    yield sample
                sample = TarSample(name=name, begin=member.offset, end=member.offset)
            if column in sample.columns:
                raise DuplicateMember(f"{sample.name}.{column}", sample.begin, member.offset)
            sample.columns.append(column)
            sample.end = archive.offset
            if column in self.wanted:  # read now: a compressed archive only goes forward
                sample.contents[column] = self._content(archive, member, column)
        if sample is not None:
            yield sample

    def _reason_left_out(self, member: tarfile.TarInfo) -> Reason | None:
        """Return why a member is not part of a sample, None if it is."""
        name = member.name.rpartition("/")[2]
        if is_hidden(name, folder=False):
            return Reason.HIDDEN
        if member.issym() or member.islnk():
            resolved = self.links.resolve(member)
            if isinstance(resolved, Reason):
                return resolved
        elif not member.isreg():
            return Reason.NOT_REGULAR
        stem, _, column = name.partition(".")
        return None if stem and column else Reason.UNKNOWN_KIND

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo, column: str) -> bytes | FileRange | BadMedium:
        """Return the content of a member, of a link that of the member that it leads to, or why it is not read."""
        as_range = column in self.ranges
        if member.isreg():
            return read_content(archive, member, column, self.max_bytes, as_range=as_range)
        return self.links.read(member, column, self.max_bytes, as_range=as_range)


def require_unique(samples: Iterator[TarSample]) -> Iterator[TarSample]:
    """Yield the samples. Raise DuplicateMember if two have one name."""
    begins: dict[str, int] = {}
    for sample in samples:
        if sample.name in begins:
            raise DuplicateMember(sample.name, begins[sample.name], sample.begin)
        begins[sample.name] = sample.begin
        yield sample


def _split(name: str) -> tuple[str, str]:
    """Return the name of the sample and the column of a member."""
    folder, slash, name = name.rpartition("/")
    stem, _, column = name.partition(".")
    return folder + slash + stem, column.lower()
