"""Clips of a video: frames at a fixed rate, each reduced as soon as it is decoded, with the audio of the same time."""

import heapq
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.media import Clip, ClipSpec
from pipeline.sources.video.audio_resampling import ResampledAudio
from pipeline.sources.video.frame import TimedFrame
from pipeline.sources.video.frame_lookup import FrameLookup
from pipeline.sources.video.piece_planning import ROUNDING, PieceRange, VideoUnit, numbered_ranges
from pipeline.storage import is_access_lost

PIECE_CLIPS = 32


@dataclass(frozen=True)
class Clips:
    """Clips that start every `stride` seconds. Pieces are in clip numbers.

    Attributes:
        pad: whether a last clip that is too short is padded with its last frame, or else left out.
    """

    spec: ClipSpec
    stride: float
    pad: bool

    def unit_bytes(self, height: int, width: int) -> int:
        """Bytes of a clip with reduced frames and float32 samples."""
        reduced = self.spec.reduce(np.zeros((height, width, 3), np.uint8))
        return self.spec.frames * reduced.nbytes + 4 * self.spec.samples

    def start_seconds(self, begin: int) -> float:
        """Return when the piece that begins with `begin` starts, in seconds."""
        return begin * self.stride

    def first_at(self, seconds: float) -> int:
        """Return the number of the first clip at or after a time."""
        return math.ceil(seconds / self.stride - ROUNDING)

    def piece_ranges(self, seconds: float, rate: float, unit_bytes: int, most: int | None) -> Iterator[PieceRange]:  # noqa: ARG002
        """Cut a video of some length into pieces of at most `most` clips."""
        clips = 1 + max(0, math.ceil((seconds - self.spec.seconds) / self.stride - ROUNDING))
        return numbered_ranges(clips, min(PIECE_CLIPS, most or PIECE_CLIPS))

    def read(self, lookup: FrameLookup, begin: int, end: int | None) -> Iterator[VideoUnit]:
        """Read clips `begin` to `end`, exclusive. A video that ends too early gives one error more.

        The audio is read through a second handle, opened with the first clip.
        """
        with ExitStack() as stack:

            @cache
            def audio() -> ResampledAudio:
                video = lookup.video
                if video.audio_stream is not None:
                    video = stack.enter_context(video.open_again())
                return ResampledAudio(video, self.spec.sample_rate)

            spacing = min(1 / lookup.video.frame_rate, self.stride)
            for number, content in _ClipAssembly(self, lookup, audio).clips(begin, end):
                yield VideoUnit(number * self.stride, content, spacing)

    def frame_times(self, begin: int, end: int | None) -> Iterator[tuple[float, int]]:
        """Yield (seconds, clip number) of every frame from clip `begin` on, by time; endless if `end` is None."""
        due = [(begin * self.stride, begin, 0)]
        while due:
            time, number, frame = heapq.heappop(due)
            if frame == 0 and (end is None or number + 1 < end):  # clips may overlap
                heapq.heappush(due, ((number + 1) * self.stride, number + 1, 0))
            if frame + 1 < self.spec.frames:
                heapq.heappush(due, (number * self.stride + (frame + 1) / self.spec.fps, number, frame + 1))
            yield time, number


class _ClipAssembly:
    """Collects the reduced frames of overlapping clips until each is complete."""

    def __init__(self, options: Clips, lookup: FrameLookup, audio: Callable[[], ResampledAudio]) -> None:
        self._options, self._spec, self._lookup, self._audio = options, options.spec, lookup, audio
        self._incomplete: dict[int, list[np.ndarray | Exception]] = {}  # frames by clip number
        self._last: tuple[TimedFrame | None, np.ndarray | Exception] = None, np.empty(0)

    def clips(self, begin: int, end: int | None) -> Iterator[tuple[int, Clip | Exception]]:
        """Yield (number, clip or error) of clips `begin` to `end`, exclusive."""
        following = begin
        for time, number in self._options.frame_times(begin, end):
            frame = self._lookup.frame_at(time)
            if frame is None:
                yield from self._short_clip(following)
                return
            frames = self._incomplete.setdefault(number, [])
            frames.append(self._reduce(frame))
            if len(frames) == self._spec.frames:
                following = number + 1
                yield number, self._assemble(number, self._incomplete.pop(number))

    def _short_clip(self, number: int) -> Iterator[tuple[int, Clip | Exception]]:
        """Yield the first clip for which the video is too short: an error, a padded clip, or nothing."""
        if self._lookup.early_end_error is not None:
            yield number, self._lookup.early_end_error
        elif self._options.pad and (frames := self._incomplete.get(number)) and not self._reaches_end(number - 1):
            yield number, self._assemble(number, frames)

    def _reaches_end(self, number: int) -> bool:
        """Whether a clip extends to the end of the video."""
        end = self._lookup.end or 0.0
        return number >= 0 and number * self._options.stride + self._spec.seconds >= end - self._lookup.tolerance

    def _reduce(self, frame: TimedFrame) -> np.ndarray | Exception:
        """Return the reduced frame or its error; a frame that is shown several times in a row is reduced once."""
        if self._last[0] is not frame:
            try:
                self._last = frame, self._spec.reduce(frame.to_rgb())
            except Exception as error:  # noqa: BLE001  conversions raise anything: only clips with this frame are lost
                self._last = frame, error
        return self._last[1]

    def _assemble(self, number: int, frames: list[np.ndarray | Exception]) -> Clip | Exception:
        """Return the clip, its last frame repeated if frames are missing, or the error of a frame or of the audio."""
        if error := next((frame for frame in frames if isinstance(frame, Exception)), None):
            return error
        images = [frame for frame in frames if isinstance(frame, np.ndarray)]
        start, padded = number * self._options.stride, self._spec.frames - len(frames)
        end = self._lookup.end if padded and self._lookup.end is not None else start + self._spec.seconds
        try:
            audio = self._audio()
            return Clip(
                frames=np.stack(images + [images[-1]] * padded),
                samples=audio.read(start, self._spec.samples),
                has_audio=audio.has_track,
                clip_index=number,
                start_seconds=start,
                end_seconds=end,
                padded_frames=padded,
            )
        except Exception as error:  # audio decoders raise anything: only this clip is lost
            if is_access_lost(error):
                raise
            return error
