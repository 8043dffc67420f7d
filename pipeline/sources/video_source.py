"""The video source: units are frame pairs or clips. FFmpeg is loaded when a file is planned or read."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.folder_values import folder_values
from pipeline.sources.source import Piece, Source, SourceOptions, Unit, ignore_damage, refuse_columns
from pipeline.sources.video.piece_planning import PieceRange, VideoUnit, plausible_seconds, unit_id
from pipeline.storage import Entry, Store, is_access_lost

if TYPE_CHECKING:
    from pipeline.sources.video.clip_reader import Clips
    from pipeline.sources.video.pair_reader import ConsecutivePairs, PairsAtRate
    from pipeline.sources.video.video_file import VideoFile

_MAX_FPS = 1000  # units per second; a typing error would otherwise make a plan of a billion units
_EXTENSIONS = ".mp4 .m4v .mov .3gp .3g2 .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .vob .flv .wmv .asf .mxf"


@dataclass(frozen=True)
class VideoSource(Source):
    """Reads video files. The content decides what a file is; the extension only whether a folder's file is listed.

    The id of a unit is the key and the second at which it starts, `drive.mp4#12.480`. Second 0 is the first frame.
    """

    name: str = "video"
    extensions: frozenset[str] = frozenset(_EXTENSIONS.split())
    media: frozenset[MediumKind] = frozenset({"frame_pair", "clip"})
    opens: bool = True
    options: SourceOptions = field(default_factory=lambda: SourceOptions(medium="frame_pair"))
    keep: tuple[str, ...] = ()

    def configured(self, options: SourceOptions) -> Self:
        """Return a source for pairs or clips. Raise ValueError for options that are wrong or not supported for them."""
        refuse_columns(self.name, options)
        fps, stride = options.fps, options.clip_stride
        if options.medium == "clip":
            if options.clip_spec is None:
                raise ValueError("medium clip needs a ClipSpec")
            if fps is not None:
                raise ValueError(f"fps ({fps:g}) is not supported for clips: the head fixes their frames per second")
        elif stride is not None:
            raise ValueError(f"clip_stride ({stride:g}) is not supported for pairs of frames")
        elif options.short_clip != "pad":
            raise ValueError(f"short_clip ({options.short_clip}) is not supported for pairs of frames")
        for name, value in (("fps", fps), ("clip_stride", stride)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} ({value:g}) must be greater than 0")
        if fps is not None and fps > _MAX_FPS:
            raise ValueError(f"fps ({fps:g}) must be at most {_MAX_FPS}")
        if stride is not None and stride < 1 / _MAX_FPS:
            raise ValueError(f"clip_stride ({stride:g}) must be at least {1 / _MAX_FPS} seconds")
        return replace(self, options=options, keep=options.keep)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Cut a video by time, from its headers alone; the last piece has no end.

        A file that cannot be opened is one piece with one unit, which gets the error when it is read.
        """
        from pipeline.sources.video.video_file import open_video

        pieces = [Piece.of(entry, units=1)]
        with ignore_damage(), open_video(store, entry.key, entry.version) as video:
            unit_bytes, ranges = self._plan(video, entry.size)
            pieces = [Piece.of(entry, **part._asdict(), weight=part.about * unit_bytes) for part in ranges]
        yield from pieces

    def _plan(self, video: "VideoFile", size: int) -> tuple[int, list[PieceRange]]:
        """Return the decoded bytes per unit and the pieces of a video file of `size` bytes."""
        seconds = video.stored_until(size)
        if seconds is None:
            seconds = video.estimated_end if video.estimated_end is not None else video.measure_end()
        rate, units = video.frame_rate, self._units()
        unit_bytes = units.unit_bytes(video.video_stream.height, video.video_stream.width)
        seconds = plausible_seconds(seconds, rate, size)
        return unit_bytes, list(units.piece_ranges(seconds, rate, unit_bytes, self.options.piece_units))

    def _units(self) -> "Clips | ConsecutivePairs | PairsAtRate":
        """Return the reader of the units that the options ask for."""
        from pipeline.sources.video.clip_reader import Clips
        from pipeline.sources.video.pair_reader import ConsecutivePairs, PairsAtRate

        options = self.options
        if options.medium == "clip" and (spec := options.clip_spec) is not None:
            stride = spec.seconds if options.clip_stride is None else options.clip_stride
            return Clips(spec, stride, pad=options.short_clip == "pad")
        return ConsecutivePairs() if options.fps is None else PairsAtRate(options.fps)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """Read the pairs or clips of a piece. A video that ends before the piece gives one unit more, with an error."""
        from pipeline.sources.video.pair_reader import ConsecutivePairs
        from pipeline.sources.video.video_file import open_video

        uri, units = store.uri_of(piece.key), self._units()
        spacing, next_seconds = 1.0, units.start_seconds(piece.begin or 0)
        try:
            with open_video(store, piece.key, piece.version) as video:
                interval = 1 / video.frame_rate if isinstance(units, ConsecutivePairs) else units.start_seconds(1)
                spacing = min(1 / video.frame_rate, interval)
                for seconds, content, unit_spacing in self._read(video, piece):
                    next_seconds = seconds + interval
                    error = content if isinstance(content, Exception) else None
                    medium = None if isinstance(content, Exception) else content
                    name = unit_id(piece.key, seconds, unit_spacing)
                    kept = folder_values(piece, self.keep)
                    yield Unit(id=name, uri=uri, version=piece.version, kept=kept, medium=medium, error=error)
        except Exception as error:  # stores and demuxers raise anything: the rest of the piece is lost
            if is_access_lost(error):
                raise
            name = piece.key if piece.begin is None else unit_id(piece.key, next_seconds, spacing)
            yield Unit(id=name, uri=uri, version=piece.version, error=error)

    def _read(self, video: "VideoFile", piece: Piece) -> Iterator[VideoUnit]:
        """Read the units of a piece. Raise BadMedium if the whole video has none."""
        from pipeline.sources.video.frame_lookup import FrameLookup

        if piece.begin is None:
            self._plan(video, piece.size)  # raises what planning raised
            raise BadMedium("the file could not be read when it was planned")
        lookup, is_empty = FrameLookup(video), True
        for unit in self._units().read(lookup, piece.begin, piece.end):
            is_empty = False
            yield unit
        if not is_empty or piece.begin:
            return
        if lookup.end is None:
            raise BadMedium("0 frames: the video stream is empty")
        if self.options.medium == "frame_pair" or self.options.short_clip == "pad":
            noun = "pair" if self.options.medium == "frame_pair" else "clip"
            raise BadMedium(f"the video is {lookup.end:.3f} s long, too short for a {noun}")


VIDEO = VideoSource()
