"""Decoding a film's picture track once through, from the last key frame on that is shown by a time.

Where packets are damaged there is a shot without a frame: from the end of the last sound frame to the next key frame,
since what lies between refers to what was lost.
"""

from __future__ import annotations

from collections.abc import Iterator

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from pipeline.media import BadMedium
from pipeline.sources.video.container import decode, reason
from pipeline.sources.video.frame import Matrix, Shot, display_matrix
from pipeline.sources.video.frame_counter import Counter
from pipeline.sources.video.seek import Packets
from pipeline.sources.video.video_file import Film

_BACK = 1.0  # seconds by which time stamps may go back; a frame that comes late is left out


class Decoding:
    """One way through the film.

    end: the second at which it ends, None without a frame; cut: why it ends before it should. Known once all is played.
    """

    def __init__(self, film: Film, time: float) -> None:
        self.end: float | None = None
        self.cut: Exception | None = None
        self._film, self._time = film, time
        self._counter = Counter(film)
        self._packets = Packets(film, self._counter.late)
        self._floor = -0.5 / film.rate  # frames before this time refer to others that are not there
        self._last: float | None = None  # when the last frame is shown; until `end` at least
        self._matrix: Matrix | None = None  # of all frames
        self._oriented = False
        self._lost = False  # whether a key frame is waited for
        self._hole: Exception | None = None  # what took the frames since the last one

    @property
    def began(self) -> float | None:
        """When the key frame is shown that it begins with; None where that is the film's beginning, or not known yet:
        once the first shot is there it is."""
        return self._packets.floor

    def shots(self) -> Iterator[Shot]:
        """In order of time."""
        broken = None
        try:
            for packet in self._run_up():
                for frame in self._decoded(packet):
                    yield from self._shot(frame)
            for frame in self._rest():
                yield from self._shot(frame)
        except Exception as error:  # noqa: BLE001  demuxers raise anything at all: it is the film's end
            self._film.check()
            broken = _damaged(self.end, error)
        self._film.check()
        self._find_cut(broken)
        if self._hole is not None and self.cut is None and self.end is not None:
            yield self._missing(self.end)

    def _run_up(self) -> Iterator[Packet[Stream]]:
        packets = self._packets.from_(self._time)
        for number, packet in enumerate(packets):
            if number == 0:
                self._counter.start(packet)
                self._floor = self._floor if self._packets.floor is None else self._packets.floor
            yield packet

    def _decoded(self, packet: Packet[Stream]) -> list[VideoFrame]:
        """The frames that the decoder gives once it has the packet; none from damage to the next key frame."""
        at = self._packets.shown_at(packet)
        if self._lost and packet.is_keyframe and at is not None:
            self._lost, self._floor = False, at
            self._film.video.codec_context.flush_buffers()
            self._counter.start(packet)
        self._counter.given(packet)
        if self._lost:
            return []
        try:
            frames = [frame for frame in decode(packet) if isinstance(frame, VideoFrame)]
        except Exception as error:  # noqa: BLE001  decoders raise anything at all as well: it costs these frames only
            self._lost, self._hole = True, self._hole or _damaged(at, error)
            return []
        self._counter.got(frames)
        return frames

    def _rest(self) -> list[VideoFrame]:
        """What the decoder still holds at the end."""
        if self._lost:
            return []
        try:
            frames = self._film.video.codec_context.decode(None)
        except Exception as error:  # noqa: BLE001
            self._hole = self._hole or _damaged(self.end, error)
            return []
        self._counter.got(frames, last=True)
        return frames

    def _shot(self, frame: VideoFrame) -> Iterator[Shot]:
        """The frame's shot, behind one of what is missing before it; nothing where the frame is not shown."""
        ticks, number = self._counter.stamp(frame)
        if ticks is None:
            self._hole = self._hole or BadMedium("a frame without a time stamp")
            return
        time = self._film.seconds(ticks)
        if frame.is_corrupt:
            self._hole = self._hole or _damaged(time, None)
            return
        if not self._is_next(time):
            return
        since = self._floor if self.end is None else self.end
        if self._hole is not None and since < time:
            yield self._missing(max(since, 0.0))
        self._hole, self._last, self.end = None, time, time + self._length(frame)
        if not self._oriented:
            self._matrix, self._oriented = display_matrix(frame), True
        yield Shot(time, self._estimate(time) if number is None else number, frame, self._matrix)

    def _is_next(self, time: float) -> bool:
        """Whether a frame is shown behind the last one. BadMedium where time stamps start anew."""
        last = 0.0 if self._last is None else self._last
        if time < -_BACK or (self._last is not None and last - time > _BACK):
            raise BadMedium(f"time stamps go back from {last:.3f} s to {time:.3f} s")
        return time >= self._floor and (self._last is None or time > last)

    def _missing(self, since: float) -> Shot:
        return Shot(since, self._estimate(since), error=self._hole)

    def _estimate(self, time: float) -> int:
        return max(0, round(time * self._film.rate))

    def _length(self, frame: VideoFrame) -> float:
        """How long a frame is shown at least, in seconds, as far as is known without the next one."""
        if frame.duration and frame.time_base:
            return float(frame.duration * frame.time_base)
        return 1 / self._film.rate

    def _find_cut(self, broken: Exception | None) -> None:
        """Whether the film's end is one. Containers declare lengths a little off."""
        declared = self._film.declared
        reached = max(self.end or 0.0, self._packets.reached if self._film.tracks_end_apart else 0.0)
        if declared is not None and declared - reached > max(2 / self._film.rate, 0.1):
            self.cut = BadMedium(f"ends at {reached:.1f} s, declares {declared:.1f} s")
        elif self._film.ragged:
            self.cut = BadMedium(f"ends at {reached:.1f} s inside a packet: the file was cut short")
        else:
            self.cut = broken or (self._hole if self.end is None else None)


def _damaged(time: float | None, error: Exception | None) -> BadMedium:
    where = "" if time is None else f" at {time:.3f} s"
    damaged = BadMedium(f"damaged{where}: {reason(error) if error else 'the decoder could only guess the frame'}")
    damaged.__cause__ = error  # which tells a lack of memory from a damage
    return damaged
