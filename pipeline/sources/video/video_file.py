"""An opened video file: its video and audio streams, its clock, seeking and reading of packets."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from fractions import Fraction
from functools import partial
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Discard, Stream

from pipeline.sources.video.container import MonitoredFile, decode_packet, main_video_stream, open_container
from pipeline.sources.video.container_index import ContainerIndex

_DEFAULT_RATE = 25.0  # frames per second of a file that does not declare a rate


@contextmanager
def open_video(open_file: Callable[[], AbstractContextManager[BinaryIO]]) -> Iterator["VideoFile"]:
    """Open the video in the file that a function opens.

    Raise BadMedium if it is not a supported video file, and the store's own error if reading failed.
    """
    with open_file() as file:
        monitored = MonitoredFile(file)
        try:
            video = VideoFile(monitored, partial(open_video, open_file))
            try:
                yield video
            finally:
                video.container.close()
        except Exception:
            if monitored.error is not None:
                raise monitored.error from None
            raise


class VideoFile:
    """An opened video file. Times are in seconds after its first frame.

    Attributes:
        video_stream: the video stream.
        audio_stream: the audio stream; None if there is none.
        frame_rate: average frames per second; 25 if the file does not declare a plausible rate.
        start: time of the first frame on the container's own clock, in seconds.
        open_again: opens the file once more, as another `VideoFile`.
        index: the container's index of the video stream, in ticks.
        declared_end: end of the video stream according to the container; None if it does not say.
        estimated_end: the same or an estimate, for plans; None if nothing is known.
        declares_longest_stream: whether these are the end of the longest stream instead (Matroska, ASF,
            FLV).
        timestamps_are_frame_numbers: whether time stamps only number the packets in decoding order (AVI).
        end_tolerance: seconds by which the declared end may be wrong.
        cut_short: how the file shows that its end is missing; None if it does not.
    """

    def __init__(self, file: MonitoredFile, open_again: Callable[[], AbstractContextManager["VideoFile"]]) -> None:
        self._file, self.open_again = file, open_again
        cut = file.cut_short()
        self._open()
        self._decoder_delay: int | None = None
        rate = self.video_stream.average_rate or self.video_stream.guessed_rate or self.video_stream.base_rate
        self.frame_rate = float(rate) if rate and 0 < rate < 10_000 else _DEFAULT_RATE
        self.declares_longest_stream = any(map(self._is, ("matroska", "asf", "flv")))
        self.timestamps_are_frame_numbers = self._is("avi")
        self.cut_short = cut if self._is("mpegts") or self._is("asf") else None
        # MXF counts its frames; other declared lengths may be slightly wrong.
        self.end_tolerance = 0.5 / self.frame_rate if self._is("mxf") else max(2 / self.frame_rate, 0.1)
        self.start = self._first_timestamp() * self._tick
        self.estimated_end = self._estimate_end()
        self.declared_end = None if self._is("mpegts") else self.estimated_end
        if self.timestamps_are_frame_numbers:
            # FFmpeg limits the duration to the data it finds; the header still has the frame count.
            self.declared_end = max(self.estimated_end or 0.0, float(self.video_stream.frames * self._tick))

    def _open(self) -> None:
        self._file.seek(0)
        self.container = open_container(self._file)
        try:
            self.video_stream = main_video_stream(self.container)
        except BaseException:
            self.container.close()
            raise
        assert self.video_stream.time_base is not None
        self._tick = self.video_stream.time_base  # seconds per tick of its time stamps
        self.audio_stream: AudioStream | None = self.container.streams.best("audio")  # type: ignore[assignment]
        self.index = ContainerIndex(self.container.format.name, self.video_stream)
        self._moved = False

    def rewind(self) -> None:
        """Go back to the first packet by opening the file again: seeking does not lead there in every container."""
        if self._moved:
            self.container.close()
            self._open()

    def raise_store_error(self) -> None:
        """Raise the error that the store raised while FFmpeg was reading, if any."""
        if self._file.error is not None:
            raise self._file.error

    def packets(self, *streams: Stream) -> Iterator["Packet[Stream]"]:
        """Read the packets of some streams from the current position to the end.

        Raise what FFmpeg raises, and the store's error if reading failed.
        """
        for stream in self.container.streams:
            stream.discard = Discard.default if stream in streams else Discard.all
        self._moved = True
        for packet in self.container.demux(*streams):
            self.raise_store_error()
            if packet.size:  # the last packets are empty, and so are frames that an AVI repeats
                yield packet
        self.raise_store_error()

    def measure_end(self) -> float:
        """Read the whole file, without decoding, and return the end of the last video packet in seconds."""
        packets = self.packets(self.video_stream)
        return max((self.seconds(packet.pts + (packet.duration or 0)) for packet in packets if packet.pts), default=0.0)

    def seek(self, time: float, stream: Stream) -> bool:
        """Seek to about the last key frame at or before a time. Return whether the container can."""
        self._moved = True
        assert stream.time_base is not None
        with suppress(av.FFmpegError, OverflowError):
            self.container.seek(round((time + self.start) / stream.time_base), stream=stream)
            return True
        self.raise_store_error()
        return False

    def seconds(self, ticks: int, stream: Stream | None = None) -> float:
        """Convert a time stamp of a stream, by default of the video stream, to seconds after the first frame."""
        tick = self._tick if stream is None else stream.time_base
        assert tick is not None
        return float(ticks * tick - self.start)

    def measure_decoder_delay(self) -> int:
        """Decode the first frame and return how many packets the decoder needed before it. Rewinds the file."""
        if self._decoder_delay is None:
            self.rewind()
            self._decoder_delay = 0
            for packet in self.packets(self.video_stream):
                with suppress(Exception):  # damage is reported when the frames are read
                    if decode_packet(packet):
                        break
                self._decoder_delay += 1
            self.rewind()
        return self._decoder_delay

    def has_keyframe(self, after: float, until: float) -> bool:
        """Whether the container's index has a key frame in (after, until]; False without an index."""
        first, last = (round((time + self.start) / self._tick) for time in (after, until))
        return self.index.has_keyframe(first, last)

    def stored_until(self, size: int) -> float | None:
        """Time from which the frames in the index lie beyond a file of `size` bytes; None if none are known to."""
        missing = self.index.missing_from(size)
        return None if missing is None else self.seconds(missing)

    def _is(self, container: str) -> bool:
        return container in self.container.format.name

    def _first_timestamp(self) -> int:
        """Time stamp of the first frame, in ticks of the video stream."""
        if self.video_stream.start_time is not None:
            return self.video_stream.start_time
        with suppress(av.FFmpegError):
            first = next(self.packets(self.video_stream), None)
            self.rewind()
            if first is not None and first.pts is not None:
                return first.pts
        self.raise_store_error()
        return 0

    def _estimate_end(self) -> float | None:
        if self.video_stream.duration and not self.declares_longest_stream:
            return float(self.video_stream.duration * self._tick)
        if self.container.duration:
            return max(0.0, float(Fraction(self.container.duration, av.time_base) - self._clock_offset()))
        return None

    def _clock_offset(self) -> float | Fraction:
        """Return the seconds before the first frame that the declared length of the container counts."""
        if self._is("flv"):  # it counts from the time at which the first frame is decoded
            return self.video_stream.codec_context.has_b_frames / self.frame_rate
        return self.start if self.declares_longest_stream else 0  # an end on its own clock, not a length
