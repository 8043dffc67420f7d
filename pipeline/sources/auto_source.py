"""Any mixture of formats: each file is read by the source of its extension, or else of its content."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain

import pyarrow as pa

from pipeline.sources.compressed import open_decompressed, without_compression
from pipeline.sources.file_signatures import record_source_name
from pipeline.sources.frame_pairs import in_pairs
from pipeline.sources.source import NoMediumColumn, Piece, Source, SourceOptions, Unit
from pipeline.storage import AccessError, Entry, LeaveOut, Reason, Store, is_access_lost

_ABOUT = re.compile(r"(readme|licen[cs]e|copying)\b", re.IGNORECASE)  # names of files about the data next to them


class AutoSource(Source):
    """Several sources as one.

    A file with none of their extensions, given by name or by a glob, goes to the source of its content, else to the
    first.

    Attributes:
        sources: those that support the medium, in order of precedence.
        refused: by source name, why it cannot read with the options. Its files raise AccessError.
    """

    def __init__(self, sources: Iterable[Source], options: SourceOptions) -> None:
        """Configure the sources that support the medium. Raise ValueError if none supports the options."""
        self.sources: list[Source] = []
        self.refused: dict[str, str] = {}
        other_extensions: set[str] = set()
        for source in sources:
            if options.medium not in source.media:
                other_extensions |= source.extensions
                continue
            try:
                self.sources.append(source.configured(options))
            except ValueError as error:
                self.sources.append(source)
                self.refused[source.name] = str(error)
        if len(self.refused) == len(self.sources):
            raise ValueError("; ".join(dict.fromkeys(self.refused.values())))
        self.name = " or ".join(source.name for source in self.sources)
        self.extensions = frozenset().union(*(source.extensions for source in self.sources))
        self.media = frozenset.intersection(*(source.media for source in self.sources))
        self.opens = any(source.opens for source in self.sources)
        self.pairs = any(source.pairs for source in self.sources)
        # Made once: there may be millions of keys.
        self._extensions = [(source, tuple(source.extensions)) for source in self.sources]
        self._all_extensions = tuple(self.extensions)
        self._other_extensions = tuple(other_extensions)
        self._named_column = options.column or options.id_column
        self.keep = options.keep if self._named_column is None else ()
        of_columns = {
            extension: source.has_columns(f"x{extension}")
            for source in self.sources
            for extension in source.extensions
            if source.name not in self.refused
        }
        self._table_extensions = frozenset(extension for extension, has_columns in of_columns.items() if has_columns)
        if options.medium != "text":
            self.media_extensions = frozenset(of_columns) - self._table_extensions

    def opens_file(self, entry: Entry) -> bool:
        """Return whether the file is opened when it is planned: by its source, or to find out what it holds."""
        return self._source_of(entry.key).opens_file(entry) or not self._is_known(entry.key)

    def configured(self, options: SourceOptions) -> Source:
        """Return the same sources with other options."""
        return AutoSource(self.sources, options)

    def reason_left_out(self, key: str) -> Reason:
        """Return whether a file that no source takes holds another medium or is of an unknown kind."""
        return Reason.OTHER_MEDIUM if key.lower().endswith(self._other_extensions) else Reason.UNKNOWN_KIND

    def has_columns(self, key: str) -> bool:
        """Return whether the file holds records with columns."""
        return self._source_of(key).has_columns(key)

    def reason_beside(self, key: str, holds: Callable[[frozenset[str]], bool]) -> Reason | None:
        """Return why a file of a folder is left out: it has no columns and one is named, or is about the tables."""
        if self.has_columns(key):
            return None
        if self._named_column is not None:
            return Reason.NO_COLUMNS
        if "text" in self.media and _ABOUT.match(key.rpartition("/")[2]) and holds(self._table_extensions):
            return Reason.ABOUT
        return None

    def inputs(self, entries: Iterator[Entry], leave_out: LeaveOut) -> Iterator[Entry]:
        """Yield frames in pairs if their source pairs them, and the other files that their source takes."""
        pairing = {source.name for source in self.sources if source.pairs}

        def is_frame(key: str) -> bool:
            return self._source_of(key).name in pairing

        taken = chain.from_iterable(
            [entry] if is_frame(entry.key) else self._source_of(entry.key).inputs(iter([entry]), leave_out)
            for entry in entries
        )
        return in_pairs(taken, is_frame, leave_out) if pairing else taken

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """Return what the file's source returns."""
        return self._usable_source(store, entry.key, entry.version).kept(store, entry)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Return what the file's source returns."""
        return self._usable_source(store, entry.key, entry.version).pieces(store, entry)

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        """Return what the file's source returns."""
        return self._usable_source(store, entry.key, entry.version).ids(store, entry)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Return what the file's source returns."""
        return self._usable_source(store, piece.key, piece.version).units(store, piece)

    def _source_of(self, key: str) -> Source:
        name = key.rpartition("/")[2].lower()
        return next((source for source, extensions in self._extensions if name.endswith(extensions)), self.sources[0])

    def _is_known(self, key: str) -> bool:
        return key.rpartition("/")[2].lower().endswith(self._all_extensions)

    def _usable_source(self, store: Store, key: str, version: str) -> Source:
        """Return the source of a file. Raise AccessError if it does not support the options."""
        source = self._source_of(key)
        if not self._is_known(key):
            name = _source_of_content(store, key, version)
            source = next((each for each in self.sources if each.name == name), source)
        if source.name in self.refused:
            kind = NoMediumColumn if source.has_columns(key) else AccessError
            raise kind(f"{store.uri_of(key)}: {self.refused[source.name]}")
        return source


def _source_of_content(store: Store, key: str, version: str) -> str | None:
    """Return the name of the source of a file by its first bytes; None if they do not tell or cannot be read."""
    if without_compression(key).endswith(".json"):
        return "jsonl"
    try:
        return record_source_name(_start(store, key, version))
    except Exception as error:  # stores and decompressors raise anything: the file's units report it
        if is_access_lost(error):
            raise
        return None


@lru_cache(maxsize=1024)
def _start(store: Store, key: str, version: str) -> bytes:  # noqa: ARG001  a version is read once
    with open_decompressed(store, key) as file:
        return file.read(512)
