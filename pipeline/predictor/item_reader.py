"""Read the items of a call: files in a sandbox, other values in this process."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from pipeline.heads.head import Head
from pipeline.media import BadMedium
from pipeline.predictor.file_uri import FileUri, as_fault_of_item
from pipeline.predictor.item_content import Content, Video, content_of, holds_files
from pipeline.predictor.item_source import ItemEntry, ItemPiece, ItemSource
from pipeline.runtime.plan.isolated_source import IsolatedSource
from pipeline.runtime.records.quarantine import quarantine_record
from pipeline.runtime.stages.isolated_reader import shared_sandbox
from pipeline.runtime.stages.load import read
from pipeline.runtime.stages.unit_reader import READ_THREADS, Loaded, Loader
from pipeline.sandbox import ResourceLimits, SharedSandbox
from pipeline.sinks.parts import Quarantined
from pipeline.sources.source import Source, SourceOptions
from pipeline.storage import AccessError, StorageError, Store, redact

READ_BYTES = 64 << 20  # of arrays that are read before they are predicted
MAX_ITEMS = 256  # that are read before they are predicted
VIDEO_PIECES = 4  # of a video that are read before they are predicted: 64 MB of frame pairs

ReadUnit: TypeAlias = tuple[int, Loaded | Quarantined]
"""The number of an item, and the item or a unit of its video."""


class ItemReader:
    """Reads items like the load stage of a run: in parallel, and an item that cannot be read costs only itself."""

    def __init__(
        self, head: Head, options: SourceOptions, limits: ResourceLimits | None, *, threads: int = READ_THREADS
    ) -> None:
        """Configure reading; `limits` None reads files in this process too."""
        source, nowhere = ItemSource().configured(options), Store("/")
        kept = pa.schema([("frames", pa.int32())] if options.medium == "image" else [])
        self._medium, self._blank_text = options.medium, options.blank_text
        self._direct = Loader(inputs=nowhere, output=nowhere, source=source, head=head, kept=kept, threads=threads)
        self._loader = replace(self._direct, limits=limits)
        self._planner: Source = source
        if limits is not None:
            self._planner = IsolatedSource(source, SharedSandbox(shared_sandbox(limits, threads)))
        self._items = max(threads, min(MAX_ITEMS, READ_BYTES // max(1, head.unit_bytes)))

    @property
    def kept(self) -> pa.Schema:
        """Schema of the columns that reading adds to the rows."""
        return self._loader.kept

    def read(self, values: Iterable[Any]) -> Iterator[ReadUnit]:
        """Yield the unit of each item in order, or all units of a video. Raises no error of an item."""
        numbered = enumerate(values)
        while some := list(islice(numbered, self._items)):
            yield from self._read(some)

    def _read(self, items: Sequence[tuple[int, Any]]) -> Iterator[ReadUnit]:
        """Yield the units of some items: those without a video are read first, together."""
        contents = {number: self._content(number, value) for number, value in items}
        results = dict(self._read_pieces([_piece(*each) for each in contents.items() if _is_single(each[1])]))
        for number, value in items:
            content = contents[number]
            if isinstance(content, Video):
                units = self._read_video(number, content)
            else:
                units = iter([content if isinstance(content, Quarantined) else results[number]])
            name, uri = _name(value, number, self._medium), _uri(content)
            yield from ((number, _named(unit, str(number), name, uri)) for unit in units)

    def _content(self, number: int, value: Any) -> Content | Quarantined:
        """Return what a value holds, or why it holds nothing."""
        try:
            return content_of(value, self._medium, self._blank_text)
        except Exception as error:  # noqa: BLE001 - of a library's object, such as an image with a closed file
            return quarantine_record(str(number), "", "load", error)

    def _read_pieces(self, pieces: Sequence[ItemPiece]) -> Iterator[tuple[int, Loaded | Quarantined]]:
        """Yield the number and the unit of each piece."""
        for loader, holds in ((self._direct, False), (self._loader, True)):
            if some := [piece for piece in pieces if holds_files(piece.content) == holds]:
                yield from zip((int(piece.key) for piece in some), read(loader, list(some)), strict=True)

    def _read_video(self, number: int, video: Video) -> Iterator[Loaded | Quarantined]:
        """Yield the units of a video, a few pieces at a time."""
        try:
            with _as_file(video) as file:
                size = file.store.size(file.name)
                entry = ItemEntry(key=str(number), version="", size=size, content=Video(file))
                pieces = iter(list(self._planner.pieces(self._loader.inputs, entry)))
                while some := list(islice(pieces, VIDEO_PIECES)):
                    yield from read(self._loader, some)
        except AccessError as error:
            yield quarantine_record(str(number), "", "load", as_fault_of_item(error))
        except (StorageError, BadMedium) as error:
            yield quarantine_record(str(number), "", "load", error)


@contextmanager
def _as_file(video: Video) -> Iterator[FileUri]:
    """Yield the file of a video; one that is given by its bytes is written to a temporary file, once for all pieces."""
    if isinstance(video.file, FileUri):
        yield video.file
        return
    with tempfile.TemporaryDirectory(prefix="perceiver-") as folder:
        path = Path(folder, "video")
        path.write_bytes(video.file)
        yield FileUri.of(path)


def _is_single(content: Content | Quarantined) -> bool:
    """Return whether this is one unit that can be read."""
    return not isinstance(content, Video | Quarantined)


def _piece(number: int, content: Any) -> ItemPiece:
    size = len(content) if isinstance(content, bytes) else 0
    return ItemPiece(key=str(number), version="", size=size, units=1, content=content)


def _name(value: Any, number: int, medium: str) -> str:
    """Return the id of an item for messages: its path as it was given, or `#` and its number."""
    if isinstance(value, dict):
        value = value.get("path")
    return redact(str(value)) if medium != "text" and isinstance(value, str | PathLike) else f"#{number}"


def _uri(content: Content | Quarantined) -> str:
    file = content.file if isinstance(content, Video) else content
    return file.uri if isinstance(file, FileUri) else ""


def _named(unit: Loaded | Quarantined, key: str, name: str, uri: str) -> Loaded | Quarantined:
    """Return the unit with the name of its item in place of the key in its id."""
    if isinstance(unit, Loaded):
        return replace(unit, unit=replace(unit.unit, id=name + unit.unit.id.removeprefix(key), uri=uri))
    return replace(unit, id=name + unit.id.removeprefix(key), uri=uri)
