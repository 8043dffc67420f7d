"""The size that the header of a JPEG XL file declares: Pillow's plugin decodes all pixels before it tells the size."""

_RATIOS = {1: (1, 1), 2: (6, 5), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width to height
_SIZE_BITS = (9, 13, 18, 30)


def jxl_size(data: bytes) -> tuple[int, int]:
    """Return the width and height of a JPEG XL file in pixels. Raise ValueError if the header is damaged."""
    codestream = _codestream(data)
    if codestream[:2] != b"\xff\x0a" or len(codestream) < 12:
        raise ValueError("the header ends too early")
    number, place = int.from_bytes(codestream[2:12], "little"), 0

    def bits(count: int) -> int:
        nonlocal place
        place += count
        return number >> (place - count) & ((1 << count) - 1)

    small = bits(1)

    def side() -> int:
        return 8 * (bits(5) + 1) if small else bits(_SIZE_BITS[bits(2)]) + 1

    height = side()
    ratio = bits(3)
    if ratio == 0:
        return side(), height
    width, of_height = _RATIOS[ratio]
    return height * width // of_height, height


def _codestream(data: bytes) -> bytes:
    """Return the beginning of the codestream, which a container holds in a box."""
    if data.startswith(b"\xff\x0a"):
        return data[:64]
    at = 0
    while at + 8 <= len(data):
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            begin = at + head + (4 if kind == b"jxlp" else 0)  # a part has its number first
            return data[begin : begin + 64]
        if size < head:
            break
        at += size
    raise ValueError("the container holds no image")
