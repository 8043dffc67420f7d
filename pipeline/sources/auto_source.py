"""Any mixture of formats: each file is read by the source of its extension, or else of its content."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain

import pyarrow as pa

from pipeline.sources.images.frame_pairs import FramePairEntry, in_pairs
from pipeline.sources.images.image_sequence import SequenceEntry
from pipeline.sources.listing.content_format import ContentEntry, content_format
from pipeline.sources.source import Holds, NoMediumColumn, Piece, Source, SourceOptions, Unit
from pipeline.sources.text.compressed import with_compression
from pipeline.storage import AccessError, Entry, LeaveOut, Reason, Store, is_access_lost

_JSON = with_compression(".json")
_MEDIA_FORMATS = frozenset({"images", "video"})
_TABLE_FORMATS = frozenset({"parquet", "dataset", "webdataset"})  # which are recognised whatever table or text is named
_UNFINISHED = ("tmp", "cache-")  # with which `datasets` begins the names of its unfinished files and caches
# Extensions of files that hold an image, a video or a table and are no input: copies, partial downloads, files that
# cameras write next to others, and raw images, which are TIFF files that begin with a thumbnail.
NOT_INPUTS = """
    ~ .bak .old .orig .jpg_original .part .partial .tmp .crdownload .download .thm .lrv
    .dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .srw .orf .rw2 .rwl .pef .raf .raw .3fr .erf .kdc .dcr .mrw .mos .iiq
"""
_ABOUT = re.compile(r"(readme|licen[cs]e|copying)\b", re.IGNORECASE)  # names of files about the data next to them


class AutoSource(Source):
    """Several sources as one.

    A file with none of their extensions goes to the source of its content, else, if it is named, to the first. In a
    folder, .json files are records unless other files are read.

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
        self._formats = {source.name: source for source in self.sources}
        by_extension = [(source, source.extensions) for source in self.sources]
        if "jsonl" in self._formats:
            by_extension.append((self._formats["jsonl"], _JSON))
        else:
            other_extensions |= _JSON
        self.extensions = frozenset().union(*(extensions for _, extensions in by_extension))
        self.media = frozenset.intersection(*(source.media for source in self.sources))
        self.opens = any(source.opens for source in self.sources)
        self.pairs = any(source.pairs for source in self.sources)
        # Made once: there may be millions of keys.
        self._extensions = [(source, tuple(extensions)) for source, extensions in by_extension]
        self._known_extensions = (*self.extensions, *other_extensions, *NOT_INPUTS.split())
        self._other_extensions = tuple(other_extensions)
        self._json = tuple(_JSON)
        self._named_column = options.column or options.id_column
        self.keep = options.keep if self._named_column is None else ()
        of_columns = {
            extension: source.has_columns(f"x{extension}")
            for source, extensions in by_extension
            for extension in extensions
            if source.name not in self.refused
        }
        self._table_extensions = frozenset(extension for extension, has_columns in of_columns.items() if has_columns)
        if options.medium != "text":
            self.media_extensions = frozenset(of_columns) - self._table_extensions

    def opens_file(self, entry: Entry) -> bool:
        """Return whether the file is opened when it is planned: by its source, or to find out what it holds."""
        return self._listed_source(entry) is None or self._source_of(entry).opens_file(entry)

    def configured(self, options: SourceOptions) -> Source:
        """Return the same sources with other options."""
        return AutoSource(self.sources, options)

    def is_unknown(self, key: str, *, named: bool = False) -> bool:
        """Return whether the extension of a file tells neither a format nor that it is no input.

        Files in a folder whose names begin with `_` are markers, as Spark writes them.
        """
        name = key.rpartition("/")[2].lower()
        is_marker = name.startswith("_") and not named
        return not is_marker and not name.endswith(self._known_extensions)

    def reason_left_out(self, entry: Entry) -> Reason | None:
        """Return why a file is left out whose extension is of no source, None if its content is of one."""
        if not isinstance(entry, ContentEntry):
            known = entry.key.lower().endswith(self._other_extensions)
            return Reason.OTHER_MEDIUM if known else Reason.UNKNOWN_KIND
        if (source := self._formats.get(entry.input_format)) is None:
            return Reason.OTHER_MEDIUM
        if source.name == "dataset" and entry.key.rpartition("/")[2].startswith(_UNFINISHED):
            return Reason.SAVED_DATASET_FILE
        if source.name in self.refused:
            return Reason.CONTENT_TABLE if source.has_columns(entry.key) else Reason.OTHER_MEDIUM
        return None

    def holds_columns(self, entry: Entry) -> bool:
        """Return what the file's source returns."""
        return self._source_of(entry).has_columns(entry.key)

    def reason_beside(self, entry: Entry, holds: Holds) -> Reason | None:
        """Return why a file of a folder is left out although a source reads such files.

        It is JSON next to other files, has no columns while one is named, or is about the tables.
        """
        is_text = "text" in self.media
        if entry.key.lower().endswith(self._json):
            others = self.extensions - _JSON
            return Reason.JSON if holds(others, _ABOUT if is_text else None) else None
        if self.holds_columns(entry):
            return None
        if self._named_column is not None:
            return Reason.NO_COLUMNS
        if is_text and _ABOUT.match(entry.key.rpartition("/")[2]) and holds(self._table_extensions):
            return Reason.ABOUT
        return None

    def is_media_file(self, entry: Entry) -> bool:
        """Return whether the content of a file, not its name, says that it is an image or a video."""
        return isinstance(entry, ContentEntry) and entry.input_format in _MEDIA_FORMATS

    def inputs(self, entries: Iterator[Entry], leave_out: LeaveOut) -> Iterator[Entry]:
        """Yield frames in pairs if their source pairs them, and the other files that their source takes."""
        pairing = {source.name for source in self.sources if source.pairs}

        def is_frame(entry: Entry) -> bool:
            return self._source_of(entry).name in pairing

        taken = chain.from_iterable(
            [entry]
            if is_frame(entry) or isinstance(entry, ContentEntry)
            else self._source_of(entry).inputs(iter([entry]), leave_out)
            for entry in entries
        )
        return in_pairs(taken, is_frame, leave_out) if pairing else taken

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """Return what the file's source returns."""
        return self._usable_source(store, entry).kept(store, entry)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Return what the file's source returns."""
        return self._usable_source(store, entry).pieces(store, entry)

    def cut_again(self, store: Store, piece: Piece) -> Iterator[Piece]:
        """Return what the file's source returns."""
        return self._usable_source(store, piece).cut_again(store, piece)

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        """Return what the file's source returns."""
        return self._usable_source(store, entry).ids(store, entry)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Return what the file's source returns."""
        return self._usable_source(store, piece).units(store, piece)

    def _source_of(self, entry: Entry) -> Source:
        return self._listed_source(entry) or self.sources[0]

    def _listed_source(self, file: Entry | Piece) -> Source | None:
        """Return the source of a file by its extension, or what the listing found in it; None if they do not tell."""
        name = file.key.rpartition("/")[2].lower()
        for source, extensions in self._extensions:
            if name.endswith(extensions):
                return source
        if isinstance(file, ContentEntry):
            return self._formats.get(file.input_format)
        return self._formats.get("images") if isinstance(file, SequenceEntry | FramePairEntry) else None

    def _usable_source(self, store: Store, file: Entry | Piece) -> Source:
        """Return the source of a file. Raise AccessError if it does not support the options."""
        source = self._listed_source(file)
        if source is None or source.name not in _MEDIA_FORMATS:  # images are not opened when they are planned
            content = self._content_source(store, file)
            if source is None or (content is not None and content.name in _TABLE_FORMATS):
                source = content or self.sources[0]
        if source.name in self.refused:
            kind = NoMediumColumn if source.has_columns(file.key) else AccessError
            raise kind(f"{store.uri_of(file.key)}: {self.refused[source.name]}")
        return source

    def _content_source(self, store: Store, file: Entry | Piece) -> Source | None:
        """Return the source of a file by its first bytes; None if they do not tell or cannot be read."""
        try:
            name = content_format(store, file.key, file.version) if file.size else None
        except Exception as error:  # stores raise anything: the file's units report it
            if is_access_lost(error):
                raise
            return None
        return None if name is None else self._formats.get(name)
