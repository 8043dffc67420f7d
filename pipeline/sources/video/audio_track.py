"""A film's sound track as it is stored, by the container's clock, mixed to mono."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Stream

from pipeline.media import BadMedium
from pipeline.sources.video.container import decode, reason
from pipeline.sources.video.video_file import Film

_EARLY = Fraction(1, 2)  # seconds that are decoded before a stretch
_RUN_UPS = (0, 2, 8, 32)  # seconds before a time at which packets are looked for
_FOR_EVER = Fraction(10**9)


class Track:
    """The track as it is stored, mixed to mono. Times are seconds on the container's clock.

    rate: samples a second.
    """

    def __init__(self, film: Film) -> None:
        assert film.sound is not None
        self._film, self._stream = film, film.sound
        self.rate = self._stream.codec_context.sample_rate if self._stream.codec_context is not None else 0
        self._tick = self._stream.time_base or Fraction(1, 1000)
        self._packets: Iterator[Packet[Stream]] | None = None
        self._held: list[tuple[int, np.ndarray]] = []  # decoded: number of the first sample, samples
        self._next: int | None = None  # number of the sample behind the last one
        self._damage: list[tuple[Fraction, Fraction, Exception]] = []
        self._mixer: av.AudioResampler | None = None
        self._grid: tuple[int, int] | None = None  # number of a frame's first sample, and samples of all such frames
        self._first = False  # whether the next frame is the first one after a seek

    def between(self, begin: int, end: Fraction) -> np.ndarray:
        """float32 mono samples of a stretch, zeros where there are none."""
        self._grid = self._grid or self._found_grid()
        first, last = begin * self.rate, math.ceil(end * self.rate)
        self._held = [(at, samples) for at, samples in self._held if at + len(samples) > first]
        if self._packets is None or (self._next is not None and first - self._next > self.rate):
            self._packets, self._next, self._held = self._run_up(begin), None, []
        while self._next is None or self._next < last:
            packet = self._packet(self._packets)
            if packet is None:
                break
            self._hold(packet)
        stretch = np.zeros(last - first, np.float32)
        for at, samples in self._held:
            begin_in, end_in = max(at, first), min(at + len(samples), last)
            if begin_in < end_in:
                stretch[begin_in - first : end_in - first] = samples[begin_in - at : end_in - at]
        return stretch

    def _packet(self, packets: Iterator[Packet[Stream]]) -> Packet[Stream] | None:
        """The next one; None at the end, and where the rest cannot be read."""
        try:
            return next(packets, None)
        except Exception as error:  # noqa: BLE001  demuxers raise anything at all
            self._film.check()
            since = Fraction(self._next or 0, self.rate)
            self._damage.append((since, since + _FOR_EVER, error))
            return None

    def check(self, begin: Fraction, end: Fraction) -> None:
        """BadMedium where the track is damaged between two times."""
        for since, until, error in self._damage:
            if since < end and begin < until:
                where = f"{float(since - self._film.start):.3f} s"
                raise BadMedium(f"the sound is damaged at {where}: {reason(error)}") from error

    def _run_up(self, begin: int) -> Iterator[Packet[Stream]]:
        """The packets from a second on, and a little before it."""
        for margin in _RUN_UPS:
            wanted = float(begin - margin - self._film.start)
            if begin - margin <= self._started() or not self._film.seek(wanted, self._stream):
                break
            packets = self._film.packets(self._stream)
            first = next(packets, None)
            if first is not None and first.pts is not None and first.pts * self._tick <= begin:
                self._first = True
                return self._from(begin, first, packets)
        packets = self._from_start()
        first = next(packets, None)
        return iter(()) if first is None else self._from(begin, first, packets)

    def _from_start(self) -> Iterator[Packet[Stream]]:
        self._film.rewind()
        self._stream, self._first = self._film.sound or self._stream, False
        return self._film.packets(self._stream)

    def _found_grid(self) -> tuple[int, int]:
        """Where the frames behind the first one lie, which is often cut, as long as all have one length."""
        frames: list[AudioFrame] = []
        for packet in self._from_start():
            with suppress(Exception):  # what is damaged is found when it is read
                frames += [frame for frame in decode(packet) if isinstance(frame, AudioFrame)]
            if len(frames) > 1:
                break
        self._from_start()
        if frames:  # some headers tell half the rate, which the decoder doubles
            self.rate = frames[0].sample_rate
        if len(frames) < 2:
            return 0, 0
        return round((frames[0].pts or 0) * self._tick * self.rate) + frames[0].samples, frames[1].samples

    def _from(self, begin: int, first: Packet[Stream], packets: Iterator[Packet[Stream]]) -> Iterator[Packet[Stream]]:
        """Without the packets that end more than half a second early."""
        yield from (packet for packet in (first,) if not self._early(packet, begin))
        yield from (packet for packet in packets if not self._early(packet, begin))

    def _early(self, packet: Packet[Stream], begin: int) -> bool:
        return packet.pts is not None and (packet.pts + (packet.duration or 0)) * self._tick < begin - _EARLY

    def _started(self) -> Fraction:
        return (self._stream.start_time or 0) * self._tick

    def _hold(self, packet: Packet[Stream]) -> None:
        """Decode a packet and put what it gives in its place."""
        try:
            mixed = [(frame.pts, self._mix(frame)) for frame in decode(packet) if isinstance(frame, AudioFrame)]
        except Exception as error:  # noqa: BLE001  decoders raise anything at all: it costs the clips that lie there
            begin = (packet.pts or 0) * self._tick
            self._damage.append((begin, begin + max(packet.duration or 0, 1) * self._tick, error))
            return
        for ticks, samples in mixed:
            if self._first and len(samples) < self.rate * _EARLY / 2:
                self._first = False  # decoders cut it, or fill it from nothing
                continue
            at = self._placed(ticks, len(samples))
            self._held.append((at, samples))
            self._next = at + len(samples)

    def _placed(self, ticks: int | None, count: int) -> int:
        """Number of a frame's first sample. Containers round time stamps, some to milliseconds: a frame follows the
        last one unless its time stamp says more than that, and one behind a gap lies on the grid of all frames."""
        if ticks is None:
            return self._next or 0
        said = ticks * self._tick * self.rate
        slack = max(Fraction(2), self._tick * self.rate * 3 / 2)
        if self._next is not None and abs(said - self._next) <= slack:
            return self._next
        start, length = self._grid or (0, 0)
        if length and count == length:
            on_grid = Fraction(start + round((said - start) / length) * length)
            said = on_grid if abs(said - on_grid) <= slack else said
        return round(said)

    def _mix(self, frame: AudioFrame) -> np.ndarray:
        """float32 [n] of a decoded frame: its channels' weighted mean."""
        if frame.sample_rate != self.rate:
            raise BadMedium(f"the rate changes from {self.rate} to {frame.sample_rate}")
        frame.pts = None
        try:
            return joined((self._mixer or self._new_mixer()).resample(frame))
        except ValueError:  # other channels than before
            return joined(self._new_mixer().resample(frame))

    def _new_mixer(self) -> av.AudioResampler:
        self._mixer = av.AudioResampler("fltp", "mono", self.rate, options={"rematrix_maxval": "1.0"})
        return self._mixer


def joined(frames: list[AudioFrame]) -> np.ndarray:
    """float32 [n] of mono frames, one behind the other."""
    return np.concatenate([np.zeros(0, np.float32), *(frame.to_ndarray().reshape(-1) for frame in frames)])
