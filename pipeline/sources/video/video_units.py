"""The units of one video: how a plan cuts it, and its pairs or clips. FFmpeg is loaded when a video is opened."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from pipeline.media import BadMedium, Clip, FramePair
from pipeline.sources.source import SourceOptions
from pipeline.sources.video.piece_planning import PieceRange, VideoUnit, plausible_seconds, unit_id
from pipeline.storage import is_access_lost

if TYPE_CHECKING:
    from pipeline.sources.video.clip_reader import Clips
    from pipeline.sources.video.pair_reader import ConsecutivePairs, PairsAtRate
    from pipeline.sources.video.video_file import VideoFile

_MAX_FPS = 1000  # units per second; a typing error would otherwise make a plan of a billion units

OpenFile = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens the file that holds a video; called again to go back to its beginning."""


class PlannedPart(NamedTuple):
    """A part of a video: its range, and the bytes of its decoded units."""

    range: PieceRange
    weight: int


class ReadUnit(NamedTuple):
    """A unit that was read: its id, and its medium or why there is none."""

    id: str
    medium: FramePair | Clip | None
    error: Exception | None


def check_video_options(options: SourceOptions) -> None:
    """Raise ValueError for options that are wrong or not supported for the pairs or clips of videos."""
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
    for name, value in (("fps", fps), ("clip_stride", stride), ("end", options.end)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} ({value:g}) must be greater than 0")
    if options.start is not None and not 0 <= options.start < (float("inf") if options.end is None else options.end):
        limit = "" if options.end is None else f" and less than end ({options.end:g})"
        raise ValueError(f"start ({options.start:g}) must be at least 0{limit}")
    if fps is not None and fps > _MAX_FPS:
        raise ValueError(f"fps ({fps:g}) must be at most {_MAX_FPS}")
    if stride is not None and stride < 1 / _MAX_FPS:
        raise ValueError(f"clip_stride ({stride:g}) must be at least {1 / _MAX_FPS} seconds")


@dataclass(frozen=True, kw_only=True)
class VideoUnits:
    """Plans and reads the units of one video.

    Attributes:
        options: the kind of units and their rate.
        open_file: opens the video.
        size: its bytes.
        name: id of the video, see `unit_id`.
        mark: between the id and the second of a unit.
    """

    options: SourceOptions
    open_file: OpenFile
    size: int
    name: str
    mark: str = "#"

    def plan(self) -> list[PlannedPart]:
        """Cut the video by time, from its headers alone; the last part has no end. Raise anything if it is damaged."""
        from pipeline.sources.video.video_file import open_video

        with open_video(self.open_file) as video:
            return self._plan(video)

    def read(self, begin: int | None, end: int | None) -> Iterator[ReadUnit]:
        """Read the pairs or clips of a part; `begin` None: of a video that could not be planned.

        A video that ends before the part gives one unit more, with an error.
        """
        from pipeline.sources.video.pair_reader import ConsecutivePairs
        from pipeline.sources.video.video_file import open_video

        units = _reader(self.options)
        spacing, next_seconds = 1.0, units.start_seconds(begin or 0)
        try:
            with open_video(self.open_file) as video:
                interval = 1 / video.frame_rate if isinstance(units, ConsecutivePairs) else units.start_seconds(1)
                spacing = min(1 / video.frame_rate, interval)
                for seconds, content, unit_spacing in self._read(video, begin, end):
                    next_seconds = seconds + interval
                    error = content if isinstance(content, Exception) else None
                    medium = None if isinstance(content, Exception) else content
                    yield ReadUnit(unit_id(self.name, seconds, unit_spacing, self.mark), medium, error)
        except Exception as error:  # stores and demuxers raise anything: the rest of the part is lost
            if is_access_lost(error):
                raise
            name = self.name if begin is None else unit_id(self.name, next_seconds, spacing, self.mark)
            yield ReadUnit(name, None, error)

    def _plan(self, video: "VideoFile") -> list[PlannedPart]:
        seconds = video.stored_until(self.size)
        if seconds is None:
            seconds = video.estimated_end if video.estimated_end is not None else video.measure_end()
        rate, units = video.frame_rate, _reader(self.options)
        unit_bytes = units.unit_bytes(video.video_stream.height, video.video_stream.width)
        seconds = plausible_seconds(seconds, rate, self.size)
        ranges = units.piece_ranges(seconds, rate, unit_bytes, self.options.piece_units)
        window = self._window(ranges, seconds, units)
        return [PlannedPart(part, part.about * unit_bytes) for part in window]

    def _window(
        self, ranges: Iterator[PieceRange], seconds: float, units: "Clips | ConsecutivePairs | PairsAtRate"
    ) -> Iterator[PieceRange]:
        """Yield the parts of the ranges with units that begin between `start` and `end` of the options."""
        first = 0 if self.options.start is None else units.first_at(self.options.start)
        end = None if self.options.end is None else units.first_at(self.options.end)

        def length(begin: int, stop: int | None) -> float:
            until = seconds if stop is None else min(seconds, units.start_seconds(stop))
            return until - units.start_seconds(begin)

        for whole in ranges:
            begin, stop = max(whole.begin, first), whole.end if end is None else min(whole.end or end, end)
            if (begin, stop) == (whole.begin, whole.end):
                yield whole
            elif length(begin, stop) > 0:
                about = round(whole.about * length(begin, stop) / length(whole.begin, whole.end))
                yield PieceRange(begin, stop, whole.first if begin == whole.begin else None, max(1, about))

    def _read(self, video: "VideoFile", begin: int | None, end: int | None) -> Iterator[VideoUnit]:
        """Read the units of a part. Raise BadMedium if the whole video has none."""
        from pipeline.sources.video.frame_lookup import FrameLookup

        if begin is None:
            self._plan(video)  # raises what planning raised
            raise BadMedium("the file could not be read when it was planned")
        lookup, is_empty = FrameLookup(video), True
        for unit in _reader(self.options).read(lookup, begin, end):
            is_empty = False
            yield unit
        if not is_empty or begin:
            return
        if lookup.end is None:
            raise BadMedium("0 frames: the video stream is empty")
        if self.options.medium == "frame_pair" or self.options.short_clip == "pad":
            noun = "pair" if self.options.medium == "frame_pair" else "clip"
            raise BadMedium(f"the video is {lookup.end:.3f} s long, too short for a {noun}")


def part_id(name: str, mark: str, begin: int, options: SourceOptions) -> str:
    """Return the id of a unit for the part of a video that begins with `begin` and cannot be read."""
    return unit_id(name, _reader(options).start_seconds(begin), 1.0, mark)


def _reader(options: SourceOptions) -> "Clips | ConsecutivePairs | PairsAtRate":
    """Return the reader of the units that the options ask for."""
    from pipeline.sources.video.clip_reader import Clips
    from pipeline.sources.video.pair_reader import ConsecutivePairs, PairsAtRate

    if options.medium == "clip" and (spec := options.clip_spec) is not None:
        stride = spec.seconds if options.clip_stride is None else options.clip_stride
        return Clips(spec, stride, pad=options.short_clip == "pad")
    return ConsecutivePairs() if options.fps is None else PairsAtRate(options.fps)
