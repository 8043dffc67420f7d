"""Whatever INPUT holds: each file by the source that its extension belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import pyarrow as pa

from pipeline.media import MediumKind
from pipeline.sources.frame_pairs import in_pairs
from pipeline.sources.source import Piece, Source, SourceOptions, Unit
from pipeline.storage import AccessError, Entry, Store


@dataclass(frozen=True)
class AutoSource:
    """Several sources at once. A file with none of their extensions, which only its name or a glob can have offered, is
    read by the first. refused: why a source cannot read as it is asked to; its files are errors that say so."""

    sources: tuple[Source, ...]
    refused: Mapping[str, str]

    @classmethod
    def of(cls, sources: Iterable[Source], options: SourceOptions) -> AutoSource:
        """Of those that give the medium, in their order. ValueError where none can read as it is asked to."""
        fitting: list[Source] = []
        refused: dict[str, str] = {}
        for source in sources:
            if options.medium not in source.media:
                continue
            try:
                fitting.append(source.configured(options))
            except ValueError as error:
                fitting.append(source)
                refused[source.name] = str(error)
        if len(refused) == len(fitting):
            raise ValueError("; ".join(dict.fromkeys(refused.values())))
        return cls(tuple(fitting), refused)

    @cached_property
    def _endings(self) -> list[tuple[Source, tuple[str, ...]]]:
        """Each with its extensions, put once so that a name can be asked for them: there may be millions."""
        return [(source, tuple(source.extensions)) for source in self.sources]

    @property
    def name(self) -> str:
        """Of what it reads."""
        return " or ".join(source.name for source in self.sources)

    @property
    def extensions(self) -> frozenset[str]:
        """All of theirs."""
        return frozenset().union(*(source.extensions for source in self.sources))

    @property
    def media(self) -> frozenset[MediumKind]:
        """What each of them gives."""
        return frozenset.intersection(*(source.media for source in self.sources))

    @property
    def opens(self) -> bool:
        """Whether one of them does."""
        return any(source.opens for source in self.sources)

    def opens_file(self, key: str) -> bool:
        """Whether the source that reads it does."""
        return self._of(key).opens

    def configured(self, options: SourceOptions) -> AutoSource:
        """The same sources, asked otherwise."""
        return AutoSource.of(self.sources, options)

    def inputs(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Frames in pairs where they are read so, of other files those that their source takes."""
        pairing = {source.name for source in self.sources if getattr(source, "pairs", False)}
        taken = chain.from_iterable(
            [entry] if (source := self._of(entry.key)).name in pairing else source.inputs(iter([entry]))
            for entry in entries
        )
        return in_pairs(taken, lambda key: self._of(key).name in pairing) if pairing else taken

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        """Of the source that reads the file."""
        return self._for(store, entry.key).kept(store, entry)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Of the source that reads the file."""
        return self._for(store, entry.key).pieces(store, entry)

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        """Of the source that reads the file."""
        return self._for(store, entry.key).ids(store, entry)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Of the source that reads the file."""
        return self._for(store, piece.key).units(store, piece)

    def _of(self, key: str) -> Source:
        name = key.rpartition("/")[2].lower()
        return next((source for source, endings in self._endings if name.endswith(endings)), self.sources[0])

    def _for(self, store: Store, key: str) -> Source:
        source = self._of(key)
        if source.name in self.refused:
            raise AccessError(f"{store.uri_of(key)}: {self.refused[source.name]}")
        return source
