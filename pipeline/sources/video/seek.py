"""Reading of video packets from the last key frame before a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from av.packet import Packet
from av.stream import Stream

from pipeline.sources.video.video_file import VideoFile

_SEEK_MARGINS = (0.0, 1.0, 3.0, 9.0, 27.0, 81.0, 243.0)  # seconds before a time at which a key frame is looked for
_MAX_HELD_BYTES = 1 << 26  # of packets before a time that are kept while looking for a later key frame


class PacketReader:
    """Seeks in a video file and reads its video packets.

    Attributes:
        keyframe_time: presentation time of the key frame at which reading began. Frames before it refer to frames that
            were not read. None if reading began at the start of the video.
        packets_end: end of all packets read so far, in seconds.
    """

    def __init__(self, video: VideoFile, reorder_delay: float) -> None:
        """`reorder_delay`: seconds by which a frame may be shown later than its packet's time stamp says."""
        self._video, self._reorder_delay = video, reorder_delay
        self.keyframe_time: float | None = None
        self.packets_end = 0.0

    def read_from(self, time: float) -> Iterator[Packet[Stream]]:
        """Return the packets from the last key frame shown at or before `time`, or else from the first packet.

        Raise what FFmpeg raises.
        """
        for margin in _SEEK_MARGINS:
            if time - margin <= 0 or not self._video.seek(time - margin, self._video.video_stream):
                break
            packets = self._skip_to_keyframe(time)
            if packets is not None:
                return packets
        self._video.rewind()
        return self._skip_to_keyframe(time, at_start=True) or iter(())

    def _skip_to_keyframe(self, time: float, *, at_start: bool = False) -> Iterator[Packet[Stream]] | None:
        """Drop the packets before the last key frame shown by `time`. None if there is none and not `at_start`."""
        packets = self._read_packets()
        held: list[Packet[Stream]] = []
        held_bytes, begun = 0, at_start
        for packet in packets:
            shown, decoded = self.presentation_time(packet), self._decoding_time(packet)
            if packet.is_keyframe and shown is not None and shown + self._reorder_delay <= time:
                held, held_bytes, begun, self.keyframe_time = [], 0, True, shown
            if begun:
                held.append(packet)
                held_bytes += packet.size
            if held_bytes > _MAX_HELD_BYTES or (decoded is not None and decoded > time):
                break  # a frame is decoded before it is shown, so no later key frame is shown by `time`
        return chain(held, packets) if begun else None

    def _read_packets(self) -> Iterator[Packet[Stream]]:
        """Read video packets and record the end of all packets read."""
        video = self._video
        streams = list(video.container.streams) if video.declares_longest_stream else [video.video_stream]
        for packet in video.packets(*streams):
            if packet.pts is not None:
                end = video.seconds(packet.pts + (packet.duration or 0), packet.stream)
                self.packets_end = max(self.packets_end, end)
            if packet.stream.index == video.video_stream.index:
                yield packet

    def presentation_time(self, packet: Packet[Stream]) -> float | None:
        """Earliest time at which the packet's frame is shown; at most `reorder_delay` too early."""
        ticks = packet.dts if packet.pts is None or self._video.timestamps_are_frame_numbers else packet.pts
        return None if ticks is None else self._video.seconds(ticks)

    def _decoding_time(self, packet: Packet[Stream]) -> float | None:
        ticks = packet.pts if packet.dts is None else packet.dts
        return None if ticks is None else self._video.seconds(ticks)
