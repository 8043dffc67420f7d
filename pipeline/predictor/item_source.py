"""A source whose pieces hold their content: the items of a call, which are then read like the files of a run."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

from pipeline.media import BadMedium, MediumKind
from pipeline.predictor.file_uri import FileUri
from pipeline.predictor.item_content import Content, Video
from pipeline.predictor.item_media import decode, medium_of
from pipeline.sources.source import VIDEO_TIMES, Piece, Source, SourceOptions, Unit, ignore_damage
from pipeline.sources.video.video_units import VideoUnits, check_video_options
from pipeline.storage import Entry, Store


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemEntry(Entry):
    """A video to plan."""

    content: Video


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemPiece(Piece):
    """One unit with its content, or a part of a video, whose content is a file."""

    content: Content


@dataclass(frozen=True)
class ItemSource(Source):
    """Reads the contents of `ItemPiece`s. The store is not used: a `FileUri` has its own."""

    name: str = "items"
    extensions: frozenset[str] = frozenset()
    opens: bool = True
    media: frozenset[MediumKind] = frozenset({"text", "image", "frame_pair", "clip", "array"})
    options: SourceOptions = field(default_factory=SourceOptions)

    def configured(self, options: SourceOptions) -> Self:
        """Return this source for the medium of the options. Raise ValueError for an option it does not support."""
        if options.medium in ("frame_pair", "clip"):
            check_video_options(options)
        else:
            for option in (*VIDEO_TIMES, "clip_stride"):
                if (value := getattr(options, option)) is not None:
                    raise ValueError(f"{option} ({value:g}) is for videos; the task reads {options.medium}s")
        return replace(self, options=options)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:  # noqa: ARG002
        """Cut a video by time, like `VideoSource`; one that cannot be opened is one piece."""
        assert isinstance(entry, ItemEntry)
        of_video = partial(ItemPiece.of, entry, content=entry.content)
        pieces: list[Piece] = [of_video(units=1)]
        with ignore_damage():
            parts = self._video(entry.key, entry.size, entry.content).plan()
            pieces = [of_video(**part.range._asdict(), weight=part.weight) for part in parts]
        yield from pieces

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:  # noqa: ARG002
        """Yield the unit of an item, or those of a part of a video.

        Reading an image adds the number of `frames` in its file to the kept values.
        """
        if not isinstance(piece, ItemPiece):  # opening it ended the sandbox
            raise BadMedium("opening the video crashed the process that reads it, or took too much memory")
        content = piece.content
        if isinstance(content, Video):
            for name, medium, error in self._video(piece.key, piece.size, content).read(piece.begin, piece.end):
                yield Unit(id=name, uri="", version="", medium=medium, error=error)
            return
        unit = Unit(id=piece.key, uri="", version="")
        unit.decoder = partial(self._decode, content, unit.kept)
        yield unit

    def _video(self, key: str, size: int, video: Video) -> VideoUnits:
        assert isinstance(video.file, FileUri)
        open_file = partial(video.file.store.open, video.file.name)
        return VideoUnits(options=self.options, open_file=open_file, size=size, name=key)

    def _decode(self, content: Any, kept: dict[str, Any]) -> Any:
        if self.options.medium != "image":
            return medium_of(content, self.options.medium, self.options.transparency, self.options.clip_spec)
        image = decode(content, self.options.transparency)
        kept["frames"] = image.frames
        return image.pixels
