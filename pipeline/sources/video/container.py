"""Opening of untrusted video files with FFmpeg, and readable reasons for its errors.

FFmpeg opens other files and URLs that a file names (playlists, scripts). It is therefore given a file object and never
a name, only the container formats of `CODECS`, and no protocol.
"""

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
from pipeline.sources.listing.file_signatures import describe, is_unsupported_video, video_format
from pipeline.sources.video.cut_short import START_BYTES, cut_short

MAX_PIXELS = 2**26
"""Maximum pixels per frame: 67 megapixels, twice 8K. A header of 100 bytes can declare 268 million."""

CODECS: dict[str, frozenset[str] | None] = {
    "mov,mp4,m4a,3gp,3g2,mj2": None,
    "matroska,webm": None,
    "avi": None,
    "mpegts": None,
    "flv": frozenset({"flv1", "h264", "hevc"}),
    "asf": frozenset({"wmv1", "wmv2", "msmpeg4v2", "msmpeg4v3"}),
    "mxf": frozenset({"mpeg2video", "dnxhd", "prores", "dvvideo"}),
}
"""The containers that are read, by FFmpeg's names, and the codecs in them; None is any codec.

All are self-contained: none refers to other files or addresses. With other codecs the time stamps of the last three do
not tell the order in which frames are shown.
"""

MAX_OFFSET = 1 << 43
"""Offset in a file to which nothing seeks: 8 TiB. File systems raise an error for the offsets of damaged files."""

_VAGUE_ERRNOS = (errno.EINVAL, errno.EPERM, errno.EAGAIN)  # FFmpeg's messages for these say nothing about the file


class MonitoredFile:
    """The file object given to FFmpeg. It keeps an error of the store, which FFmpeg takes for the end of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        if self.error is None:
            try:
                return self._file.read(size)
            except Exception as error:  # noqa: BLE001  stores raise anything, and FFmpeg's C code cannot pass it on
                self.error = error
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == io.SEEK_SET and not 0 <= offset < MAX_OFFSET:  # in damaged files; it is no error of the store
            return -1
        try:
            return self._file.seek(offset, whence)
        except Exception as error:  # noqa: BLE001
            self.error = self.error or error
            return -1

    def tell(self) -> int:
        return self._file.tell()

    def cut_short(self) -> str | None:
        """Return how the file shows that its end is missing, see `cut_short`."""
        size = self.seek(0, io.SEEK_END)
        self.seek(0)
        return cut_short(self.read(START_BYTES), size)


def open_container(file: MonitoredFile) -> InputContainer:
    """Open a container. Raise BadMedium if it is damaged or not a supported video file."""
    try:
        options = {"format_whitelist": ",".join(CODECS), "protocol_whitelist": "none"}
        return av.open(file, "r", options=options, metadata_errors="replace")
    except Exception as error:
        if file.error is not None:
            raise
        file.seek(0)
        start = file.read(512)
        if (name := video_format(start)) is not None or file.error is not None:
            raise BadMedium(f"truncated or damaged {name or 'video'}: {reason(error, opening=True)}") from error
        remedy = "; convert it to MP4" if is_unsupported_video(start) else ""
        raise BadMedium(
            f"{describe(start)} is not a supported video file: {reason(error, opening=True)}{remedy}"
        ) from error


def reason(error: Exception, *, opening: bool = False) -> str:
    """Describe an error of FFmpeg or PyAV in plain words. A BadMedium keeps its own message."""
    if isinstance(error, BadMedium):
        return str(error)
    number = getattr(error, "errno", None)
    if isinstance(error, av.error.EOFError) or number == errno.EIO:
        return "the data ends too early or declares wrong lengths"
    if number in _VAGUE_ERRNOS:
        return "the content is not in a supported format" if opening else "the decoder accepts none of the data"
    message = getattr(error, "strerror", None)
    details = ": ".join(filter(None, (type(error).__name__, str(error))))
    return str(message) if message else f"the decoder failed ({details})"


def main_video_stream(container: InputContainer) -> VideoStream:
    """Return the video stream, set to decode on one thread, since load tasks are parallel. Ignore cover images.

    Raise BadMedium if there is no stream that can be decoded, or its frames have more than `MAX_PIXELS` pixels.
    """
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not container.streams:
        raise BadMedium("no video stream: the file has no streams, possibly because an index at its end was cut off")
    if not streams:
        raise BadMedium(f"no video stream, only {', '.join(sorted({each.type for each in container.streams}))}")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    context = stream.codec_context
    if context is None:
        raise BadMedium("the codec of the video stream is not supported")
    codecs, codec = CODECS[container.format.name], context.codec.canonical_name
    if codecs is not None and codec not in codecs:
        raise BadMedium(
            f"{codec} video in {container.format.long_name} is not read, only {', '.join(sorted(codecs))}: convert "
            "it to MP4"
        )
    pixels = context.width * context.height
    if pixels == 0:
        raise BadMedium("the video stream does not declare the size of its frames")
    if pixels > MAX_PIXELS:
        raise BadMedium(
            f"{context.width} by {context.height} pixels are too many: {pixels / 1e6:.1f} megapixels, "
            f"at most {MAX_PIXELS / 1e6:.1f} are decoded"
        )
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def decode_packet(packet: "Packet[Stream]") -> Sequence[Frame]:
    """Return the frames that the packet's decoder outputs after receiving it.

    Raise anything that the decoder raises, and BadMedium if a part of the packet is missing.
    """
    if packet.is_corrupt:
        raise BadMedium("a part of the file is missing")
    return packet.stream.codec_context.decode(packet)  # type: ignore[attr-defined]
