"""Numbers and time stamps of decoded frames, counted from the packets that were given to the decoder."""

import heapq
from collections.abc import Sequence

from av.frame import Frame
from av.packet import Packet
from av.stream import Stream

from pipeline.sources.video.video_file import VideoFile

_MAX_REORDERED = 16  # frames: no codec shows a frame later than this after decoding it


class FrameCounter:
    """Counts the frames of a video from a key frame on.

    An AVI has no time stamps but packet numbers in decoding order. The frames, in the order in which the decoder
    outputs them, get these numbers in ascending order.

    Attributes:
        reorder_delay: seconds by which a frame may be shown later than its packet's time stamp says.
    """

    def __init__(self, video: VideoFile) -> None:
        self._video = video
        self._pending: list[int] = []  # heap: time stamps of packets whose frames are not counted yet
        self._number: int | None = None
        self._skips_leading = False  # whether the decoder may drop frames that are shown before the next one it outputs
        # Whether frames are shown in another order than decoded, and the container does not say in which.
        self._reorders = video.timestamps_are_frame_numbers and bool(video.video_stream.codec_context.has_b_frames)
        self.reorder_delay = _MAX_REORDERED / video.frame_rate if self._reorders else 0.0
        self._decoder_delay = video.measure_decoder_delay() if self._reorders else 0

    def restart(self, packet: "Packet[Stream]") -> None:
        """Count from this packet on, which is the next one to be decoded."""
        self._number, self._pending, self._skips_leading = self._video.index.frame_number(packet), [], self._reorders

    def add_packet(self, packet: "Packet[Stream]") -> None:
        """Record a packet that is given to the decoder, or would be if it were not damaged."""
        ticks = packet.dts if self._video.timestamps_are_frame_numbers else packet.pts
        if ticks is not None and not packet.is_discard:
            heapq.heappush(self._pending, ticks)

    def add_frames(self, frames: Sequence[Frame], *, last: bool = False) -> None:
        """Record the frames that the decoder output; `last` if there are no more packets.

        After the key frame of an AVI, the decoder drops frames that are shown before it but refer to missing frames.
        Their number is known once the first frame is output: all packets but those that the decoder still holds.
        """
        if frames and self._skips_leading:
            self._skips_leading = False
            for _ in range(len(self._pending) - len(frames) - (0 if last else self._decoder_delay)):
                self._count()

    def timestamp_and_number(self, frame: Frame) -> tuple[int | None, int | None]:
        """Return the time stamp in ticks and the number of the next frame; None if unknown."""
        if self._video.timestamps_are_frame_numbers:
            number, ticks = self._number, self._pending[0] if self._pending else frame.pts
            if self._pending:
                self._count()
            return ticks, number
        if frame.pts is not None:
            while self._pending and self._pending[0] < frame.pts:
                self._count()
        return frame.pts, self._number

    def _count(self) -> None:
        heapq.heappop(self._pending)
        if self._number is not None:
            self._number += 1
