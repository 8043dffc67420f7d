"""The video source: units are frame pairs or clips. FFmpeg is loaded when a file is planned or read."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from pipeline.media import MediumKind
from pipeline.sources.listing.folder_values import folder_values
from pipeline.sources.source import Piece, Source, SourceOptions, Unit, ignore_damage, refuse_columns
from pipeline.sources.video.video_units import VideoUnits, check_video_options
from pipeline.storage import Entry, Store

VIDEO_EXTENSIONS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".3gp",
    ".3g2",
    ".mkv",
    ".webm",
    ".avi",
    ".ts",
    ".mts",
    ".m2ts",
    ".flv",
    ".wmv",
    ".asf",
    ".mxf",
)


@dataclass(frozen=True)
class VideoSource(Source):
    """Reads video files. The content decides what a file is; the extension only whether a folder's file is listed.

    The id of a unit is the key and the second at which it starts, `drive.mp4#12.480`. Second 0 is the first frame.
    """

    name: str = "video"
    extensions: frozenset[str] = frozenset(VIDEO_EXTENSIONS)
    media: frozenset[MediumKind] = frozenset({"frame_pair", "clip"})
    opens: bool = True
    options: SourceOptions = field(default_factory=lambda: SourceOptions(medium="frame_pair"))
    keep: tuple[str, ...] = ()

    def configured(self, options: SourceOptions) -> Self:
        """Return a source for pairs or clips. Raise ValueError for options that are wrong or not supported for them."""
        refuse_columns(self.name, options)
        check_video_options(options)
        return replace(self, options=options, keep=options.keep)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Cut a video by time, from its headers alone; the last piece has no end.

        A file that cannot be opened is one piece with one unit, which gets the error when it is read.
        """
        whole = Piece.of(entry, units=1)
        pieces = [whole]
        with ignore_damage():
            parts = self._video(store, whole).plan()
            pieces = [Piece.of(entry, **part.range._asdict(), weight=part.weight) for part in parts]
            pieces = pieces or [Piece.of(entry, begin=0, end=0, units=0)]  # nothing between `start` and `end`
        yield from pieces

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Read the pairs or clips of a piece. A video that ends before the piece gives one unit more, with an error."""
        if piece.begin is not None and piece.begin == piece.end:
            return
        uri = store.uri_of(piece.key)
        for name, medium, error in self._video(store, piece).read(piece.begin, piece.end):
            kept = folder_values(piece, self.keep)
            yield Unit(id=name, uri=uri, version=piece.version, kept=kept, medium=medium, error=error)

    def _video(self, store: Store, piece: Piece) -> VideoUnits:
        open_file = partial(store.open, piece.key, version=piece.version, size=piece.size)
        return VideoUnits(options=self.options, open_file=open_file, size=piece.size, name=piece.key)


VIDEO = VideoSource()
