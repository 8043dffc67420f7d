"""What a container's own index says about the packets of a video stream, without reading them."""

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream


class ContainerIndex:
    """The index of a video stream: entries in decoding order, by decoding time in ticks of the stream.

    MP4 and AVI list every frame, Matroska some key frames. For a transport stream, which has no index, FFmpeg keeps
    entries that are not reliably key frames; they are not used.
    """

    def __init__(self, container: str, stream: VideoStream) -> None:
        self._entries, self._frames = stream.index_entries, stream.frames
        self._lists_all_frames = "mov" in container or "avi" in container
        self._lists_key_frames = "mpegts" not in container

    def has_keyframe(self, after: int, until: int) -> bool:
        """Whether there is a key frame in (after, until]; False without an index."""
        if not self._lists_key_frames or not len(self._entries):
            return False
        at = self._entries.search_timestamp(until, backward=True, any_frame=False)
        return at >= 0 and self._entries[at].timestamp > after

    def frame_number(self, packet: "Packet[Stream]") -> int | None:
        """Number of frames before the packet in decoding order; None if the index does not list every frame."""
        entries = self._entries
        # More entries than frames come from fragments, of which only some may be known.
        if not self._lists_all_frames or packet.dts is None or not 0 < len(entries) <= self._frames:
            return None
        at = entries.search_timestamp(packet.dts, backward=True, any_frame=True)
        if at < 0 or entries[at].timestamp != packet.dts:
            return None
        return at - sum(entry.is_discard for entry in entries[:at])

    def missing_from(self, size: int) -> int | None:
        """Time of the first of the last frames that lie beyond the end of a file of `size` bytes.

        A file that was cut short may still have its whole index. None if no listed frame is missing, or the index does
        not list every frame.
        """
        at = len(self._entries) if self._lists_all_frames else 0
        while at and self._entries[at - 1].pos + self._entries[at - 1].size > size:
            at -= 1
        return self._entries[at].timestamp if self._lists_all_frames and at < len(self._entries) else None
