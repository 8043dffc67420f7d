"""The frames of a video by time: each is shown from its time stamp to that of the next one."""

from collections.abc import Iterator
from itertools import chain

from pipeline.media import BadMedium
from pipeline.sources.video.decoder import DecodePass
from pipeline.sources.video.frame import TimedFrame
from pipeline.sources.video.video_file import VideoFile

_TOLERANCE = 1e-3  # seconds: containers round time stamps to milliseconds
_MAX_EARLIER_KEYFRAMES = 3  # key frames tried before decoding begins at the start of the video
_MAX_DECODED_GAP = 5.0  # seconds that are decoded rather than skipped if no index lists key frames
_MAX_FRAME_SECONDS = 3600.0  # one damaged time stamp would otherwise make a billion units of one frame


class FrameLookup:
    """Finds the frames of a video by time, by seeking or by decoding on.

    Attributes:
        video: the file.
        end: end of the video in seconds; None until its last frame was decoded.
        early_end_error: why the video ends too early; None if it does not, or its last frame was not decoded.
        tolerance: seconds by which a frame may be late and still be shown at a time.
    """

    def __init__(self, video: VideoFile) -> None:
        self.video = video
        self.tolerance = min(_TOLERANCE, 0.5 / video.frame_rate)
        self.end: float | None = None
        self.early_end_error: Exception | None = None
        self._frames: Iterator[TimedFrame] = iter(())
        self._now: TimedFrame | None = None
        self._next: TimedFrame | None = None

    def frame_at(self, time: float) -> TimedFrame | None:
        """Return the frame shown at a time, which must not be earlier than that of the last call.

        None after the end, and if the frame would be shown for hours: `early_end_error` then says so.
        """
        if self._now is None or self._is_worth_seeking(time):
            self._frames = self.frames_from(time + self.tolerance)
            self._now, self._next = next(self._frames, None), next(self._frames, None)
        while self._next is not None and self._next.time <= time + self.tolerance:
            self._now, self._next = self._next, next(self._frames, None)
        over = self._next is None and (self.end is None or time >= self.end - self.tolerance)
        return None if over or self._lasts_too_long() else self._now

    def _lasts_too_long(self) -> bool:
        """Whether the current frame is shown for too long; sets `early_end_error` if so."""
        until = self.end if self._next is None else self._next.time
        if self._now is None or until is None or until - self._now.time <= _MAX_FRAME_SECONDS:
            return False
        self.early_end_error = BadMedium(
            f"damaged at {self._now.time:.3f} s: by its time stamps this frame is shown for "
            f"{(until - self._now.time) / 3600:,.1f} hours, at most {_MAX_FRAME_SECONDS / 3600:g} is allowed"
        )
        return True

    def _is_worth_seeking(self, time: float) -> bool:
        """Whether to seek rather than to decode all frames up to a time."""
        if self._next is None or time <= self._next.time:
            return False
        far = time - self._next.time > _MAX_DECODED_GAP
        return far or self.video.has_keyframe(self._next.time + self.tolerance, time)

    def frames_from(self, time: float) -> Iterator[TimedFrame]:
        """Yield the frame shown at a time and all later ones. At the end, `end` and `early_end_error` are set."""
        before: TimedFrame | None = None
        decoding, frames = self._decode_from(time)
        for frame in frames:
            if frame.time <= time:
                before = frame
                continue
            if before is not None:
                yield before
                before = None
            yield frame
        self.end, self.early_end_error = decoding.end, decoding.early_end_error
        if before is not None:
            yield before

    def _decode_from(self, time: float) -> tuple[DecodePass, Iterator[TimedFrame]]:
        """Begin a pass that outputs the frame shown at a time.

        Containers also mark the start of an intra refresh as a key frame. A decoder that begins there outputs nothing
        until the whole image was refreshed, which may be after `time`: earlier key frames are then tried.
        """
        begin = time
        for attempt in range(_MAX_EARLIER_KEYFRAMES + 2):
            decoding = DecodePass(self.video, begin)
            frames = decoding.frames()
            first = next(frames, None)
            if decoding.reader.keyframe_time is None or (first is not None and first.time <= time):
                break
            begin = decoding.reader.keyframe_time - self.tolerance if attempt < _MAX_EARLIER_KEYFRAMES else 0.0
        return decoding, frames if first is None else chain([first], frames)
