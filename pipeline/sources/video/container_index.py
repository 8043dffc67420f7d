"""What a container's own index tells of a film's packets, without reading them."""

from __future__ import annotations

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream


class Index:
    """The index of a picture track. Entries lie in the order of decoding, by the time of decoding, in ticks.

    container: the name of the format. MP4 and AVI list every frame, Matroska some key frames; a transport stream has no
    index, what FFmpeg then keeps is no list of key frames.
    """

    def __init__(self, container: str, track: VideoStream) -> None:
        self._entries, self._frames = track.index_entries, track.frames
        self._all = "mov" in container or "avi" in container
        self._any = "mpegts" not in container

    def keyframe_within(self, after: int, until: int) -> bool:
        """Whether there is a key frame behind one time and not behind the other; False where there is no index."""
        if not self._any or not len(self._entries):
            return False
        at = self._entries.search_timestamp(until, backward=True, any_frame=False)
        return at >= 0 and self._entries[at].timestamp > after

    def number_at(self, packet: Packet[Stream]) -> int | None:
        """How many frames come before the packet in the order of decoding; None where not every frame is listed."""
        entries = self._entries
        # More entries than frames are those of fragments, of which only some may be known.
        if not self._all or packet.dts is None or not 0 < len(entries) <= self._frames:
            return None
        at = entries.search_timestamp(packet.dts, backward=True, any_frame=True)
        if at < 0 or entries[at].timestamp != packet.dts:
            return None
        return at - sum(entry.is_discard for entry in entries[:at])

    def missing_from(self, size: int) -> int | None:
        """The time from which on frames are listed that do not lie in a file of that many bytes: one that was cut short
        may still have the whole index. None where all do, or not every frame is listed."""
        at = len(self._entries) if self._all else 0
        while at and self._entries[at - 1].pos + self._entries[at - 1].size > size:
            at -= 1
        return self._entries[at].timestamp if self._all and at < len(self._entries) else None
