"""Links in a tar archive: they lead to members of the same archive, never to anything else."""

import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from posixpath import dirname, join, normpath
from typing import BinaryIO, NamedTuple, Self

from pipeline.media import BadMedium
from pipeline.sources.archives.file_range import FileRange
from pipeline.sources.archives.tar_members import read_content, read_members
from pipeline.storage import Reason

_MOST_LINKS = 40  # that are followed from one to the next, as by Linux


class _Names(NamedTuple):
    """Names in an archive, normalized.

    Attributes:
        files: byte at which each regular member starts; of the last one of a name.
        links: what each link names.
        folders: also those that only the names of members in them tell.
        others: devices, pipes and members of unknown types.
    """

    files: dict[str, int]
    links: dict[str, str]
    folders: set[str]
    others: set[str]


class TarLinks(AbstractContextManager["TarLinks"]):
    """Resolves the links of one archive, which is opened once more when the first link is resolved or read.

    Attributes:
        resolved: for each link that was resolved, by the byte at which it starts, the byte at which the regular member
            starts that it leads to; None for a link that is left out.
    """

    def __init__(
        self, open_archive: Callable[[], AbstractContextManager[BinaryIO]], known: Mapping[int, int] | None = None
    ) -> None:
        """Take links from `known`, which lacks those that are left out; if it is None, read the archive for them."""
        self._open, self._known, self._closing = open_archive, known, ExitStack()
        self.resolved: dict[int, int | None] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the archive."""
        self._closing.close()

    def resolve(self, link: tarfile.TarInfo) -> int | Reason:
        """Return the byte at which the regular member starts that a link leads to, or why the link is left out."""
        if self._known is not None:
            return self._known.get(link.offset, Reason.DANGLING_LINK)
        found = self._find(link)
        self.resolved[link.offset] = None if isinstance(found, Reason) else found
        return found

    def read(
        self, link: tarfile.TarInfo, name: str, max_bytes: int, *, as_range: bool
    ) -> bytes | FileRange | BadMedium:
        """Return the content of the member that a link leads to, see `read_content`."""
        begin = self.resolve(link)
        if isinstance(begin, Reason):
            return BadMedium(f"{name}: {begin}")
        members = read_members(self._file, begin, None)  # which closes the archive when it is deleted
        archive, member = next(members)
        return read_content(archive, member, name, max_bytes, as_range=as_range)

    def _find(self, link: tarfile.TarInfo) -> int | Reason:
        path, names = _target(link), self._names
        if path == normpath(link.name):
            return Reason.LINK_LOOP
        for _ in range(_MOST_LINKS):
            if path in names.files:
                return names.files[path]
            followed = next((each for each in _with_folders(path) if each in names.links), None)
            if followed is None:
                return _reason(path, names)
            path = normpath(names.links[followed] + path.removeprefix(followed))
        return Reason.LINK_LOOP

    @cached_property
    def _file(self) -> BinaryIO:
        return self._closing.enter_context(self._open())

    @cached_property
    def _names(self) -> _Names:
        names = _Names({}, {}, set(), set())
        for _, member in read_members(self._file, 0, None):
            path = normpath(member.name)
            names.folders.update(_folders(path))
            if member.isreg():
                names.files[path] = member.offset
            elif member.issym() or member.islnk():
                names.links[path] = _target(member)
            else:
                (names.folders if member.isdir() else names.others).add(path)
        return names


def _target(link: tarfile.TarInfo) -> str:
    """Return what a link names: a hard link a path in the archive, a symbolic one a path from its own folder."""
    return normpath(link.linkname if link.islnk() else join(dirname(link.name), link.linkname))


def _reason(path: str, names: _Names) -> Reason:
    """Return why a link to a path that is not a regular member is left out."""
    if path in names.folders or path == ".":
        return Reason.LISTED_FOLDER
    return Reason.NOT_REGULAR if path in names.others else Reason.DANGLING_LINK


def _with_folders(path: str) -> Iterator[str]:
    """Yield the folders that contain a path, the outermost first, and the path."""
    yield from reversed(list(_folders(path)))
    yield path


def _folders(path: str) -> Iterator[str]:
    """Yield the folders that contain a path, the innermost first."""
    while path := dirname(path).rstrip("/"):
        yield path
