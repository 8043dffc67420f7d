"""Video files: units are pairs of frames, for flow, or clips of frames and sound. FFmpeg is loaded when one is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.media import BadMedium, MediumKind
from pipeline.sources.source import FileSource, Piece, SourceOptions, Unit, refuse_columns
from pipeline.sources.video import piece_planning
from pipeline.storage import AccessError, Entry, StorageError, Store

if TYPE_CHECKING:
    from pipeline.sources.video.frame_lookup import Player
    from pipeline.sources.video.video_file import Film

_MOST_FPS = 1000  # units a second that can be asked for: a slip of the pen would make a plan of a billion
_EXTENSIONS = ".mp4 .m4v .mov .mkv .webm .avi .ts .mts .m2ts"


@dataclass(frozen=True)
class VideoSource(FileSource):
    """Reads video files. What a file is, its content says; its name only says whether a folder offers it.

    The id is the key and the second at which the unit starts, `drive.mp4#12.480`. Second 0 is the first frame.
    """

    name: str = "video"
    extensions: frozenset[str] = frozenset(_EXTENSIONS.split())
    media: frozenset[MediumKind] = frozenset({"frame_pair", "clip"})
    opens: bool = True
    options: SourceOptions = field(default_factory=lambda: SourceOptions(medium="frame_pair"))

    def configured(self, options: SourceOptions) -> VideoSource:
        """For pairs or for clips; video files have no columns."""
        refuse_columns(self.name, options)
        if options.medium == "clip" and options.clip is None:
            raise ValueError("medium is clip, but how a clip is made is not said")
        if options.medium == "clip" and options.fps is not None:
            raise ValueError(f"fps ({options.fps:g}) means nothing to clips: their head says how many frames a second")
        if options.medium != "clip" and options.clip_stride is not None:
            raise ValueError(f"clip_stride ({options.clip_stride:g}) means nothing to pairs of frames")
        if options.medium != "clip" and options.short_clip != "pad":
            raise ValueError(f"short_clip ({options.short_clip}) means nothing to pairs of frames")
        for name in ("fps", "clip_stride"):
            if (value := getattr(options, name)) is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} ({value:g}) must be greater than 0")
        if options.fps is not None and options.fps > _MOST_FPS:
            raise ValueError(f"fps ({options.fps:g}) must be at most {_MOST_FPS}")
        if options.clip_stride is not None and options.clip_stride < 1 / _MOST_FPS:
            raise ValueError(f"clip_stride ({options.clip_stride:g}) must be at least {1 / _MOST_FPS} seconds")
        return VideoSource(options=options)

    def pieces(self, store: Store, entry: Entry) -> Iterator[Piece]:
        """Parts of the film by time, from its headers alone; the last one has no end. A file that is no film is one
        piece, whose unit says so when it is loaded."""
        from pipeline.sources.video.video_file import open_film

        whole = Piece(key=entry.key, version=entry.version, size=entry.size, units=1)
        try:
            with open_film(store, entry.key, entry.version) as film:
                pieces = list(self._parts(film, entry.size))
        except (AccessError, StorageError):
            raise
        except Exception:  # noqa: BLE001  demuxers raise anything at all: the unit says it when it is loaded
            yield whole
            return
        for part, weight in pieces:
            yield replace(whole, units=None, **part._asdict(), weight=part.about * weight)

    def _parts(self, film: Film, size: int) -> Iterator[tuple[piece_planning.Part, int]]:
        """The film's parts, each with the bytes of one of its units once decoded."""
        seconds = film.stored(size)
        if seconds is None:
            seconds = film.expected if film.expected is not None else film.measured()
        seconds, most = piece_planning.likely(seconds, film.rate, size), self.options.piece_units
        height, width = film.video.height, film.video.width
        if (clip := self.options.clip) is not None and self.options.medium == "clip":
            reduced = clip.reduce(np.zeros((height, width, 3), np.uint8))
            parts = piece_planning.clips(seconds, clip, piece_planning.stride_of(self.options, clip), most)
            weight = clip.frames * reduced.nbytes + 4 * clip.samples
        else:
            weight = 2 * 3 * height * width
            fps = self.options.fps
            if fps is not None:
                parts = piece_planning.spaced_pairs(seconds, fps, weight, most)
            else:
                parts = piece_planning.own_pairs(seconds, film.rate, weight, most)
        yield from ((part, weight) for part in parts)

    def units(self, store: Store, piece: Piece) -> Iterator[Unit]:
        """The pairs or clips of a piece. A film that ends before the piece does is one unit more, with that error."""
        from pipeline.sources.video.video_file import open_film

        uri, step, at = store.uri_of(piece.key), 1.0, self._seconds(piece.begin or 0)
        try:
            with open_film(store, piece.key, piece.version) as film:
                step = self._step(film)
                for seconds, medium, apart in self._media(store, film, piece):
                    unit = Unit(id=piece_planning.unit_id(piece.key, seconds, apart), uri=uri, version=piece.version)
                    at = seconds + (self._seconds(1) if self._counts else 1 / film.rate)
                    unit.medium, unit.error = (None, medium) if isinstance(medium, Exception) else (medium, None)
                    yield unit
        except AccessError:
            raise
        except Exception as error:  # noqa: BLE001  stores and demuxers raise anything at all: it costs the piece's rest
            name = piece.key if piece.begin is None else piece_planning.unit_id(piece.key, at, step)
            yield Unit(id=name, uri=uri, version=piece.version, error=error)

    def _media(self, store: Store, film: Film, piece: Piece) -> Iterator[tuple[float, Any, float]]:
        """(seconds, medium or error, seconds to the nearest unit) of a piece's units. BadMedium where a whole film has
        none."""
        from pipeline.sources.video.frame_lookup import Player

        if piece.begin is None:
            list(self._parts(film, piece.size))  # raises once more what the plan met
            raise BadMedium("the file could not be read when it was planned")
        player, given = Player(film), False
        for found in self._found(store, film, player, piece):
            given = True
            yield found
        if given or piece.begin:
            return
        if player.end is None:
            raise BadMedium("0 frames: the video stream is empty")
        if self.options.medium == "frame_pair" or self.options.short_clip == "pad":
            what = "pair" if self.options.medium == "frame_pair" else "clip"
            raise BadMedium(f"{player.end:.3f} s long: too short for a {what}")

    def _found(self, store: Store, film: Film, player: Player, piece: Piece) -> Iterator[tuple[float, Any, float]]:
        from pipeline.sources.video.audio import Sound
        from pipeline.sources.video.clip_reader import Clips
        from pipeline.sources.video.pair_reader import own_pairs, spaced_pairs
        from pipeline.sources.video.video_file import open_film

        begin, clip, fps, step = piece.begin or 0, self.options.clip, self.options.fps, self._step(film)
        if clip is None or self.options.medium != "clip":
            if fps is None:
                yield from own_pairs(player, begin, piece.end)
            else:
                yield from ((*pair, step) for pair in spaced_pairs(player, fps, begin, piece.end))
            return
        with ExitStack() as stack:

            @cache
            def sound() -> Sound:
                heard = film if film.sound is None else stack.enter_context(open_film(store, piece.key, piece.version))
                return Sound(heard, clip.sample_rate)

            stride, pad = piece_planning.stride_of(self.options, clip), self.options.short_clip == "pad"
            clips = Clips(player, clip, stride, pad=pad, sound=sound)
            yield from ((*found, step) for found in clips.between(begin, piece.end))

    def _step(self, film: Film) -> float:
        """Seconds between frames or between units, the smaller: ids tell both apart."""
        return min(1 / film.rate, self._seconds(1)) if self._counts else 1 / film.rate

    @property
    def _counts(self) -> bool:
        """Whether a piece's begin and end are numbers of units, and not microseconds."""
        return self.options.medium == "clip" or self.options.fps is not None

    def _seconds(self, begin: int) -> float:
        """When the unit starts that a piece begins with."""
        if self.options.clip is not None and self.options.medium == "clip":
            return begin * piece_planning.stride_of(self.options, self.options.clip)
        return begin / (self.options.fps or 1_000_000)


VIDEO = VideoSource()
