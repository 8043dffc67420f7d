"""The packets of a film's picture track from the last key frame on that is shown by a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from av.packet import Packet
from av.stream import Stream

from pipeline.sources.video.video_file import Film

_RUN_UPS = (0.0, 1.0, 3.0, 9.0, 27.0, 81.0, 243.0)  # seconds before a time at which a key frame is looked for
_HELD_BYTES = 1 << 26  # of packets before a time that wait for a later key frame


class Packets:
    """Seeks, and reads on. late: seconds by which a frame may be shown later than its packet says.

    floor: when the key frame is shown, frames before which refer to others that are not there; None where the packets
    are read from the film's beginning. reached: the end of the packets of all tracks that were read so far.
    """

    def __init__(self, film: Film, late: float) -> None:
        self._film, self._late = film, late
        self.floor: float | None = None
        self.reached = 0.0

    def from_(self, time: float) -> Iterator[Packet[Stream]]:
        """The packets from that key frame on; from the first one where there is none. Raises what FFmpeg raises."""
        for run_up in _RUN_UPS:
            if time - run_up <= 0 or not self._film.seek(time - run_up, self._film.video):
                break
            packets = self._from_here(time, begun=False)
            if packets is not None:
                return packets
        self._film.rewind()
        return self._from_here(time, begun=True) or iter(())

    def _from_here(self, time: float, *, begun: bool) -> Iterator[Packet[Stream]] | None:
        """From the last key frame that is shown by the time; None where none lies before it, unless `begun`."""
        packets = self._read()
        held: list[Packet[Stream]] = []
        size = 0
        for packet in packets:
            at, decoded_at = self.shown_at(packet), self._decoded_at(packet)
            if packet.is_keyframe and at is not None and at + self._late <= time:
                held, size, begun, self.floor = [], 0, True, at
            if begun:
                held.append(packet)
                size += packet.size
            if size > _HELD_BYTES or (decoded_at is not None and decoded_at > time):
                break  # no later key frame is shown by the time, for a frame is decoded before it is shown
        return chain(held, packets) if begun else None

    def _read(self) -> Iterator[Packet[Stream]]:
        """The picture track's, while the ends of all tracks that are read are noted."""
        film = self._film
        for packet in film.packets(*(film.container.streams if film.tracks_end_apart else [film.video])):
            if packet.pts is not None:
                end = film.seconds(packet.pts + (packet.duration or 0), packet.stream)
                self.reached = max(self.reached, end)
            if packet.stream.index == film.video.index:
                yield packet

    def shown_at(self, packet: Packet[Stream]) -> float | None:
        """When the packet's frame is shown, up to `late` later."""
        ticks = packet.dts if packet.pts is None or self._film.counts_frames else packet.pts
        return None if ticks is None else self._film.seconds(ticks)

    def _decoded_at(self, packet: Packet[Stream]) -> float | None:
        ticks = packet.pts if packet.dts is None else packet.dts
        return None if ticks is None else self._film.seconds(ticks)
