"""Decoding of a video's audio track at its own rate, mixed to mono and placed by time stamps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Stream

from pipeline.media import BadMedium
from pipeline.sources.video.container import decode_packet, reason
from pipeline.sources.video.video_file import VideoFile

_LEAD = Fraction(1, 2)  # seconds decoded before a window
_SEEK_MARGINS = (0, 2, 8, 32)  # seconds before a time at which packets are looked for
_NEVER = Fraction(10**9)  # seconds


class AudioTrack:
    """The audio track as it is stored, mixed to mono. Times are in seconds on the container's clock.

    Attributes:
        rate: samples per second; 0 if the codec is not supported.
    """

    def __init__(self, video: VideoFile) -> None:
        assert video.audio_stream is not None
        self._video, self._stream = video, video.audio_stream
        self.rate = self._stream.codec_context.sample_rate if self._stream.codec_context is not None else 0
        self._tick = self._stream.time_base or Fraction(1, 1000)
        self._packets: Iterator[Packet[Stream]] | None = None
        self._decoded: list[tuple[int, np.ndarray]] = []  # number of the first sample, samples
        self._next: int | None = None  # number of the sample after the last decoded one
        self._damage: list[tuple[Fraction, Fraction, Exception]] = []  # begin, end, error
        self._mixer: av.AudioResampler | None = None
        self._grid: tuple[int, int] | None = None  # first sample of the second frame, samples per frame; (0, 0): none
        self._after_seek = False  # whether the next frame is the first one after a seek

    def read(self, begin: int, end: Fraction) -> np.ndarray:
        """Return float32 mono samples from second `begin` to `end`; zeros where the track has none.

        `begin` must not be earlier than that of the last call.
        """
        if self._grid is None:
            self._grid = self._find_grid()
        first, last = begin * self.rate, math.ceil(end * self.rate)
        self._decoded = [(at, samples) for at, samples in self._decoded if at + len(samples) > first]
        if self._packets is None or (self._next is not None and first - self._next > self.rate):
            self._packets, self._next, self._decoded = self._packets_from(begin), None, []
        while self._next is None or self._next < last:
            packet = self._next_packet(self._packets)
            if packet is None:
                break
            self._decode(packet)
        window = np.zeros(last - first, np.float32)
        for at, samples in self._decoded:
            begin_in, end_in = max(at, first), min(at + len(samples), last)
            if begin_in < end_in:
                window[begin_in - first : end_in - first] = samples[begin_in - at : end_in - at]
        return window

    def raise_damage(self, begin: Fraction, end: Fraction) -> None:
        """Raise BadMedium if the track is damaged between two times."""
        for since, until, error in self._damage:
            if since < end and begin < until:
                where = f"{float(since - self._video.start):.3f} s"
                raise BadMedium(f"the audio is damaged at {where}: {reason(error)}") from error

    def _next_packet(self, packets: Iterator[Packet[Stream]]) -> Packet[Stream] | None:
        """Return the next packet; None at the end, or if the rest of the file cannot be read."""
        try:
            return next(packets, None)
        except Exception as error:  # noqa: BLE001  demuxers raise anything
            self._video.raise_store_error()
            since = Fraction(self._next or 0, self.rate)
            self._damage.append((since, since + _NEVER, error))
            return None

    def _packets_from(self, begin: int) -> Iterator[Packet[Stream]]:
        """Return the packets from half a second before second `begin` on."""

        def is_needed(packet: Packet[Stream]) -> bool:
            return packet.pts is None or (packet.pts + (packet.duration or 0)) * self._tick >= begin - _LEAD

        for margin in _SEEK_MARGINS:
            time = float(begin - margin - self._video.start)
            track_start = (self._stream.start_time or 0) * self._tick
            if begin - margin <= track_start or not self._video.seek(time, self._stream):
                break
            packets = self._video.packets(self._stream)
            first = next(packets, None)
            if first is not None and first.pts is not None and first.pts * self._tick <= begin:
                self._after_seek = True
                return filter(is_needed, chain([first], packets))
        packets = self._packets_from_start()
        first = next(packets, None)
        return iter(()) if first is None else filter(is_needed, chain([first], packets))

    def _packets_from_start(self) -> Iterator[Packet[Stream]]:
        self._video.rewind()
        self._stream, self._after_seek = self._video.audio_stream or self._stream, False
        return self._video.packets(self._stream)

    def _find_grid(self) -> tuple[int, int]:
        """Return the first sample of the second frame and its length: later frames lie on this grid if equally long.

        The first frame is not used, because it is often cut.
        """
        frames: list[AudioFrame] = []
        for packet in self._packets_from_start():
            with suppress(Exception):  # damage is reported when the samples are read
                frames += [frame for frame in decode_packet(packet) if isinstance(frame, AudioFrame)]
            if len(frames) > 1:
                break
        self._packets_from_start()
        if frames:  # some headers declare half of the rate that the decoder outputs
            self.rate = frames[0].sample_rate
        if len(frames) < 2:
            return 0, 0
        return round((frames[0].pts or 0) * self._tick * self.rate) + frames[0].samples, frames[1].samples

    def _decode(self, packet: Packet[Stream]) -> None:
        """Decode a packet and keep its samples with their place."""
        try:
            mixed = [(frame.pts, self._mix(frame)) for frame in decode_packet(packet) if isinstance(frame, AudioFrame)]
        except Exception as error:  # noqa: BLE001  decoders raise anything: only the clips at this time are lost
            begin = (packet.pts or 0) * self._tick
            self._damage.append((begin, begin + max(packet.duration or 0, 1) * self._tick, error))
            return
        for ticks, samples in mixed:
            if self._after_seek and len(samples) < self.rate * _LEAD / 2:
                self._after_seek = False  # decoders cut this frame, or reconstruct it without its predecessor
                continue
            at = self._first_sample(ticks, len(samples))
            self._decoded.append((at, samples))
            self._next = at + len(samples)

    def _first_sample(self, ticks: int | None, count: int) -> int:
        """Return the number of the first of a frame's `count` samples.

        Containers round time stamps, some to milliseconds. So a frame follows the last one unless its time stamp is
        further away than rounding explains, and one after a gap lies on the grid of all frames.
        """
        if ticks is None:
            return self._next or 0
        stamped = ticks * self._tick * self.rate
        slack = max(Fraction(2), self._tick * self.rate * 3 / 2)
        if self._next is not None and abs(stamped - self._next) <= slack:
            return self._next
        start, length = self._grid or (0, 0)
        if length and count == length:
            on_grid = Fraction(start + round((stamped - start) / length) * length)
            stamped = on_grid if abs(stamped - on_grid) <= slack else stamped
        return round(stamped)

    def _mix(self, frame: AudioFrame) -> np.ndarray:
        """Mix a decoded frame to mono, float32 [n]: the weighted mean of its channels."""
        if frame.sample_rate != self.rate:
            raise BadMedium(f"the sample rate changes from {self.rate} to {frame.sample_rate}")
        frame.pts = None
        try:
            return join_mono((self._mixer or self._new_mixer()).resample(frame))
        except ValueError:  # the channels differ from those before
            return join_mono(self._new_mixer().resample(frame))

    def _new_mixer(self) -> av.AudioResampler:
        self._mixer = av.AudioResampler("fltp", "mono", self.rate, options={"rematrix_maxval": "1.0"})
        return self._mixer


def join_mono(frames: list[AudioFrame]) -> np.ndarray:
    """Concatenate mono frames to float32 [n]."""
    return np.concatenate([np.zeros(0, np.float32), *(frame.to_ndarray().reshape(-1) for frame in frames)])
