"""Decoding of a video stream in order, with its damage found and reported.

Damaged packets give one frame with an error: from the end of the last intact frame to the next key frame, since the
frames in between refer to what was lost.
"""

from collections.abc import Iterator

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from pipeline.media import BadMedium
from pipeline.sources.video.container import decode_packet, reason
from pipeline.sources.video.frame import DisplayMatrix, TimedFrame, display_matrix
from pipeline.sources.video.frame_counter import FrameCounter
from pipeline.sources.video.seek import PacketReader
from pipeline.sources.video.video_file import VideoFile

_MAX_STEP_BACK = 1.0  # seconds by which time stamps may go back; a late frame is dropped, a later one ends the video


class DecodePass:
    """One pass through a video, from the last key frame shown at or before a time to the end.

    Attributes:
        reader: of the packets. Its `keyframe_time` is known from the first frame on.
        end: end of the last frame in seconds; None without a frame. Final after the last frame.
        early_end_error: why the video ends too early; None if it does not. Set after the last frame.
    """

    def __init__(self, video: VideoFile, time: float) -> None:
        self.end: float | None = None
        self.early_end_error: Exception | None = None
        self._video, self._time = video, time
        self._counter = FrameCounter(video)
        self.reader = PacketReader(video, self._counter.reorder_delay)
        self._earliest = -0.5 / video.frame_rate  # frames before this time refer to frames that were not read
        self._last: float | None = None  # presentation time of the last frame
        self._matrix: DisplayMatrix | None = None
        self._matrix_read = False
        self._awaits_keyframe = False  # after damage
        self._damage: Exception | None = None  # why there are no frames since the last one

    def frames(self) -> Iterator[TimedFrame]:
        """Decode the frames in order of time."""
        demux_error = None
        try:
            for number, packet in enumerate(self.reader.read_from(self._time)):
                if number == 0:
                    self._counter.restart(packet)
                    if self.reader.keyframe_time is not None:
                        self._earliest = self.reader.keyframe_time
                for frame in self._decode(packet):
                    yield from self._timed(frame)
            for frame in self._flush():
                yield from self._timed(frame)
        except Exception as error:  # noqa: BLE001  demuxers raise anything: it is the end of the video
            self._video.raise_store_error()
            demux_error = _damaged(self.end, error)
        self._video.raise_store_error()
        self.early_end_error = self._find_early_end(demux_error)
        if self._damage is not None and self.early_end_error is None and self.end is not None:
            yield self._missing_frame(self.end)

    def _decode(self, packet: "Packet[Stream]") -> list[VideoFrame]:
        """Return the frames that the decoder outputs for a packet; none from damage to the next key frame."""
        time = self.reader.presentation_time(packet)
        if self._awaits_keyframe and packet.is_keyframe and time is not None:
            self._awaits_keyframe, self._earliest = False, time
            self._video.video_stream.codec_context.flush_buffers()
            self._counter.restart(packet)
        self._counter.add_packet(packet)
        if self._awaits_keyframe:
            return []
        try:
            frames = [frame for frame in decode_packet(packet) if isinstance(frame, VideoFrame)]
        except Exception as error:  # noqa: BLE001  decoders raise anything: only these frames are lost
            self._awaits_keyframe, self._damage = True, self._damage or _damaged(time, error)
            return []
        self._counter.add_frames(frames)
        return frames

    def _flush(self) -> list[VideoFrame]:
        """Return the frames that the decoder still holds after the last packet."""
        if self._awaits_keyframe:
            return []
        try:
            frames = self._video.video_stream.codec_context.decode(None)
        except Exception as error:  # noqa: BLE001
            self._damage = self._damage or _damaged(self.end, error)
            return []
        self._counter.add_frames(frames, last=True)
        return frames

    def _timed(self, frame: VideoFrame) -> Iterator[TimedFrame]:
        """Yield a frame with its time, after an error for damage before it; nothing if the frame is not shown."""
        ticks, number = self._counter.timestamp_and_number(frame)
        if ticks is None:
            self._damage = self._damage or BadMedium("a frame has no time stamp")
            return
        time = self._video.seconds(ticks)
        if frame.is_corrupt:
            self._damage = self._damage or _damaged(time, None)
            return
        if not self._is_next(time):
            return
        since = self._earliest if self.end is None else self.end
        if self._damage is not None and since < time:
            yield self._missing_frame(max(since, 0.0))
        self._damage, self._last, self.end = None, time, time + self._duration(frame)
        if not self._matrix_read:
            self._matrix, self._matrix_read = display_matrix(frame), True
        yield TimedFrame(time, self._estimate_number(time) if number is None else number, frame, self._matrix)

    def _is_next(self, time: float) -> bool:
        """Whether a frame is shown after the last one. Raise BadMedium if time stamps jump back."""
        last = 0.0 if self._last is None else self._last
        if time < -_MAX_STEP_BACK or (self._last is not None and last - time > _MAX_STEP_BACK):
            raise BadMedium(f"time stamps go back from {last:.3f} s to {time:.3f} s")
        return time >= self._earliest and (self._last is None or time > last)

    def _missing_frame(self, since: float) -> TimedFrame:
        return TimedFrame(since, self._estimate_number(since), error=self._damage)

    def _estimate_number(self, time: float) -> int:
        return max(0, round(time * self._video.frame_rate))

    def _duration(self, frame: VideoFrame) -> float:
        """Seconds for which a frame is shown if no other follows."""
        if frame.duration and frame.time_base:
            return float(frame.duration * frame.time_base)
        return 1 / self._video.frame_rate

    def _find_early_end(self, demux_error: Exception | None) -> Exception | None:
        """Return why the video ends before its declared end, if it does."""
        video = self._video
        end = max(self.end or 0.0, self.reader.packets_end if video.declares_longest_stream else 0.0)
        if video.declared_end is not None and video.declared_end - end > video.end_tolerance:
            return BadMedium(f"the video ends at {end:.1f} s, but declares {video.declared_end:.1f} s")
        if video.cut_short is not None:
            return BadMedium(f"the video ends at {end:.1f} s {video.cut_short}: the file was cut short")
        return demux_error or (self._damage if self.end is None else None)


def _damaged(time: float | None, error: Exception | None) -> BadMedium:
    where = "" if time is None else f" at {time:.3f} s"
    damaged = BadMedium(f"damaged{where}: {reason(error) if error else 'the decoder could only guess the frame'}")
    damaged.__cause__ = error  # callers tell a lack of memory from damage by it
    return damaged
