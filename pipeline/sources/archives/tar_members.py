"""Members of a tar archive, in their order, and their content. Nothing is extracted to disk."""

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from pipeline.media import BadMedium
from pipeline.sources.archives.file_range import FileRange

_BLOCK = 512


def read_members(file: BinaryIO, begin: int, end: int | None) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members that start at `begin` or later and before `end`; None is the end of the archive.

    Each comes with its archive, whose `offset` is the byte after the member. Archives that were joined, one after the
    end mark of the other, are read as one. Raise anything that tarfile raises for a damaged archive.
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


def read_content(
    archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, max_bytes: int, *, as_range: bool
) -> bytes | FileRange | BadMedium:
    """Return the content of a regular member, called `name` in messages; why it is not read if it is too large.

    `as_range`: return where it is in the archive, of whatever size, unless it is stored with gaps.
    """
    if as_range and not member.issparse():
        return FileRange(member.offset_data, member.size)
    if member.size > max_bytes:
        return BadMedium(f"{name} has {member.size:,} bytes, at most {max_bytes:,} are read")
    content = archive.extractfile(member)
    assert content is not None
    return content.read()


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
