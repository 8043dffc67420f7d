"""Time stamps in the packet headers of an MPEG program stream (.mpg, .vob).

Not every frame has one: FFmpeg counts the others on from the last one that it read, and after a seek it has read none.
"""

HEADER_BYTES = 48
"""First bytes of a packet that `presentation_ticks` needs."""

WRAP = 1 << 33
"""Ticks after which time stamps start again at 0."""

_PREFIX, _VIDEO_STREAMS = b"\0\0\x01", range(0xE0, 0xF0)


def presentation_ticks(header: bytes) -> int | None:
    """Return the presentation time in the header of a packet of video, in ticks of 1/90,000 s; None without one."""
    if len(header) < HEADER_BYTES or not header.startswith(_PREFIX) or header[3] not in _VIDEO_STREAMS:
        return None
    at = 6  # after the start code and the length
    if header[at] >> 6 == 0b10:  # MPEG-2: two bytes of flags, and the length of what follows
        return _ticks(header[at + 3 : at + 8]) if header[at + 1] & 0x80 else None
    while header[at] == 0xFF and at < HEADER_BYTES - 8:  # MPEG-1: stuffing
        at += 1
    if header[at] >> 6 == 0b01:  # the size of a buffer
        at += 2
    return _ticks(header[at : at + 5]) if header[at] >> 4 in (0b0010, 0b0011) else None


def _ticks(field: bytes) -> int:
    """Return 33 bits that are stored in five bytes: 3, 15 and 15 bits, each followed by a marker bit."""
    high, middle, low = (
        field[0] >> 1 & 7,
        int.from_bytes(field[1:3], "big") >> 1,
        int.from_bytes(field[3:5], "big") >> 1,
    )
    return high << 30 | middle << 15 | low
