"""Sources whose units harm the process that decodes or opens them, as their names say."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.predictor.file_uri import FileUri
from pipeline.predictor.item_source import ItemSource
from pipeline.sources import IMAGES, PARQUET, VIDEO, WEBDATASET, Piece, SourceOptions, Unit
from pipeline.sources.image_source import ImageSource
from pipeline.sources.record_source import RecordSource
from pipeline.sources.video_source import VideoSource
from pipeline.storage import AccessError, Entry, StorageError, Store

HARM: dict[str, Callable[[], Any]] = {
    "hang": lambda: time.sleep(600),
    "crash": lambda: ctypes.string_at(0),
    "hog": lambda: bytearray(16 << 30),
}


def do_harm(name: str) -> Any:
    """Do what the name says, if anything."""
    for word, harm in HARM.items():
        if word in name:
            return harm()
    return None


def harmful(units: Iterator[Unit]) -> Iterator[Unit]:
    """Yield units, some of which do harm when they are decoded, and `before-…` before they are yielded."""
    for unit in units:
        name = unit.id.rpartition("/")[2]
        if "before-" in name:
            do_harm(name)
        if any(word in name for word in HARM):
            unit.decoder = partial(do_harm, name)
        yield unit


@dataclass(frozen=True)
class HarmfulImages(ImageSource):
    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        return harmful(super().units(store, piece))


@dataclass(frozen=True)
class HarmfulItems(ItemSource):
    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        for unit in super().units(store, piece):
            if isinstance(file := getattr(piece, "content", None), FileUri) and any(word in file.name for word in HARM):
                unit.decoder = partial(do_harm, file.name)
            yield unit


@dataclass(frozen=True)
class HarmfulTar(RecordSource):
    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        return harmful(super().units(store, piece))


@dataclass(frozen=True)
class HarmfulParquet(RecordSource):
    """`open-…` does its harm when it is opened, to be planned or loaded."""

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        if piece.key.startswith("open-"):
            do_harm(piece.key)
        return harmful(super().units(store, piece))

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        if entry.key.startswith("open-"):
            do_harm(entry.key)
        return super().pieces(store, entry)

    def kept(self, store: Store, entry: Entry) -> pa.Schema:
        if entry.key.startswith("open-"):
            do_harm(entry.key)
        return super().kept(store, entry)

    def ids(self, store: Store, entry: Entry) -> Iterator[str]:
        if entry.key.startswith("open-"):
            do_harm(entry.key)
        return super().ids(store, entry)


@dataclass(frozen=True)
class HarmfulVideo(VideoSource):
    """`open-…` does its harm when it is opened, `play-…` after the third unit of each piece."""

    def configured(self, options: SourceOptions) -> HarmfulVideo:
        return HarmfulVideo(options=super().configured(options).options)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        if entry.key.startswith("open-"):
            do_harm(entry.key)
        return super().pieces(store, entry)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        if piece.key.startswith("open-"):
            do_harm(piece.key)
        for number, unit in enumerate(super().units(store, piece)):
            if number == 3 and piece.key.startswith("play-"):
                do_harm(piece.key)
            yield unit


_taken: list[bytearray] = []


@dataclass(frozen=True)
class Passing(ImageSource):
    """Image files that fail at first, as their names say. Attempts are counted in a folder."""

    counts: str = ""

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        (unit,) = super().units(store, piece)
        tries = Path(self.counts, unit.id)
        with tries.open("a") as file:
            file.write("x")
        number = tries.stat().st_size
        if "busy" in unit.id and number < 2:
            unit.error = StorageError("503", transient=True)
        if "full" in unit.id:
            _taken.append(bytearray(600 << 20))  # a process that did so before has no room for it
            if number < 3:
                unit.error = MemoryError()
        if "denied" in unit.id:
            raise AccessError("no access when reading s3://b/k: ExpiredToken token=hunter2hunter2")
        yield unit


def of(kind: type, source: Any) -> Any:
    """A source of that kind with the fields of the given one."""
    return kind(**{each.name: getattr(source, each.name) for each in fields(source)})


HARMFUL_IMAGES, HARMFUL_PARQUET = of(HarmfulImages, IMAGES), of(HarmfulParquet, PARQUET)
HARMFUL_TAR, HARMFUL_VIDEO = of(HarmfulTar, WEBDATASET), of(HarmfulVideo, VIDEO)
