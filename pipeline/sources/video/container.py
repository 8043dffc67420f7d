"""A video file, opened without trusting it.

FFmpeg follows what a file's content names (playlists, scripts), so it is given a file object and never a name, only the
containers of `_CONTAINERS`, and no protocol to open anything with.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from typing import BinaryIO

import av
from av.container import InputContainer
from av.frame import Frame
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from pipeline.media import BadMedium
from pipeline.sources.file_signatures import describe, video_format

MAX_PIXELS = 2**26
"""Of a frame: 67 megapixels, twice what 8K has. A header of 100 bytes can ask for 268 million."""

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
_TS_M2TS, _TS_SYNC_AT, _TS_SYNC = (188, 192), (0, 4), b"G"  # bytes of a packet, and where in it each one is marked
_VAGUE = (errno.EINVAL, errno.EPERM, errno.EAGAIN)  # FFmpeg means nothing by their names
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}


class Watched:
    """A file as FFmpeg reads it. What its store raises is kept for `Film.check`: to FFmpeg it is the file's end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        if self.error is None:
            try:
                return self._file.read(size)
            except Exception as error:  # noqa: BLE001  stores raise anything; FFmpeg's C code could not pass it on
                self.error = error
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except Exception as error:  # noqa: BLE001
            self.error = self.error or error
            return -1

    def tell(self) -> int:
        return self._file.tell()


def ends_inside_packet(file: Watched) -> bool:
    """Whether a transport stream, whose packets are of one length, ends inside one. False for any other file."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(_TS_M2TS[1] + _TS_SYNC_AT[1] + 1)
    for length, at in zip(_TS_M2TS, _TS_SYNC_AT, strict=True):
        if start[at : at + 1] == _TS_SYNC == start[at + length : at + length + 1]:
            return size % length != 0
    return False


def open_container(file: Watched) -> InputContainer:
    """The opened container; BadMedium where it is none."""
    try:
        return av.open(file, "r", options=dict(_OPTIONS), metadata_errors="replace")
    except Exception as error:
        if file.error is not None:
            raise
        file.seek(0)
        start = file.read(512)
        if (name := video_format(start)) is not None or file.error is not None:
            raise BadMedium(f"truncated or damaged {name or 'video'}: {reason(error, opening=True)}") from error
        raise BadMedium(f"{describe(start)} is no video that is read: {reason(error, opening=True)}") from error


def reason(error: Exception, *, opening: bool = False) -> str:
    """What FFmpeg, or PyAV, means by an error, for a person; BadMedium's own words."""
    if isinstance(error, BadMedium):
        return str(error)
    number = getattr(error, "errno", None)
    if isinstance(error, av.error.EOFError) or number == errno.EIO:
        return "it ends too early, or says wrong lengths of its parts"
    if number in _VAGUE:
        return "its content is of no format that is read" if opening else "the decoder takes nothing of what is there"
    said = getattr(error, "strerror", None)
    return str(said) if said else f"its decoder failed ({': '.join(filter(None, (type(error).__name__, str(error))))})"


def picture_track(container: InputContainer) -> VideoStream:
    """The film's, not the cover of a song. Ready to decode on one thread: load tasks run side by side."""
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
    if not container.streams:
        raise BadMedium("no video stream: the file has no track at all, as where an index at its end was cut off")
    if not tracks:
        raise BadMedium(f"no video stream, only {', '.join(sorted({track.type for track in container.streams}))}")
    best = container.streams.best("video")
    track = best if best in tracks else tracks[0]
    context = track.codec_context
    if context is None:
        raise BadMedium("the video stream is of a kind that cannot be decoded")
    if context.width * context.height == 0:
        raise BadMedium("the video stream does not say how many pixels its frames have")
    if context.width * context.height > MAX_PIXELS:
        raise BadMedium(
            f"{context.width} by {context.height} pixels are too many: {context.width * context.height / 1e6:.1f} "
            f"megapixels, at most {MAX_PIXELS / 1e6:.1f} are decoded"
        )
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return track


def decode(packet: Packet[Stream]) -> Sequence[Frame]:
    """The frames that a packet's decoder gives once it has it. Raises anything; BadMedium where a part is missing."""
    if packet.is_corrupt:
        raise BadMedium("a part of the file is missing")
    return packet.stream.codec_context.decode(packet)  # type: ignore[attr-defined]
