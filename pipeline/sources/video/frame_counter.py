"""Which frame it is that a decoder gives, counted from the packets that it was given."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from av.frame import Frame
from av.packet import Packet
from av.stream import Stream

from pipeline.sources.video.video_file import Film

_REORDERED = 16  # frames: no codec shows one later after it was decoded


class Counter:
    """Counts a film's frames from a key frame on.

    An AVI has no time stamps but numbers of packets, in the order of decoding: there the frames, in the order in which
    the decoder gives them, get these in theirs.
    """

    def __init__(self, film: Film) -> None:
        self._film = film
        self._waiting: list[int] = []  # time stamps of frames that the decoder was given and that are not counted yet
        self._number: int | None = None
        self._leading = False  # whether the decoder may leave out frames, all of which are shown before the next one
        self._delay = film.delay if self._reorders else 0

    @property
    def _reorders(self) -> bool:
        """Whether frames are shown in another order than that of decoding, and the container does not say in which."""
        return self._film.counts_frames and bool(self._film.video.codec_context.has_b_frames)

    @property
    def late(self) -> float:
        """Seconds by which a frame may be shown later than its packet says."""
        return _REORDERED / self._film.rate if self._reorders else 0.0

    def start(self, packet: Packet[Stream]) -> None:
        """Count from this packet on, which comes next."""
        self._number, self._waiting, self._leading = self._film.number_at(packet), [], self._reorders

    def given(self, packet: Packet[Stream]) -> None:
        """The decoder is given this packet, or would be if it were not damaged."""
        ticks = packet.dts if self._film.counts_frames else packet.pts
        if ticks is not None and not packet.is_discard:
            heapq.heappush(self._waiting, ticks)

    def got(self, frames: Sequence[Frame], *, last: bool = False) -> None:
        """The decoder gave these frames, the last ones if there are no more packets.

        Behind the key frame of an AVI it leaves out those that are shown before it but refer to others. How many they
        are shows when the first frame is there: the decoder holds as many as ever, and the rest of them is missing.
        """
        if frames and self._leading:
            self._leading = False
            for _ in range(len(self._waiting) - len(frames) - (0 if last else self._delay)):
                self._count()

    def stamp(self, frame: Frame) -> tuple[int | None, int | None]:
        """The time stamp of the next frame, in ticks, and its number; None where they are not known."""
        if self._film.counts_frames:
            number, ticks = self._number, self._waiting[0] if self._waiting else frame.pts
            if self._waiting:
                self._count()
            return ticks, number
        if frame.pts is not None:
            while self._waiting and self._waiting[0] < frame.pts:
                self._count()
        return frame.pts, self._number

    def _count(self) -> None:
        heapq.heappop(self._waiting)
        if self._number is not None:
            self._number += 1
