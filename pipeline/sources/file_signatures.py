"""What a file is by its first bytes, for messages: its name may lie, and a decoder only says that it failed."""

from __future__ import annotations

# Where the bytes lie, the bytes, and what people call such a file.
_IMAGES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"BM", "BMP"),
    (0, b"P4", "PBM"),
    (0, b"P5", "PGM"),
    (0, b"P6", "PPM"),
)
_OTHERS = (
    (0, b"%!PS", "PostScript (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PAR1", "Parquet"),
    (0, b"version https://git-lfs", "Git LFS pointer"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
)
_VIDEOS = (
    (4, b"ftyp", "MP4"),
    (8, b"AVI ", "AVI"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
)
_MARKS = ((0, 188), (4, 196))  # where the first two packets of a transport stream have their mark, a G
_AN = frozenset({"AVI", "MP4"})
_MARKUP = ((b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<svg", "SVG"), (b"<?xml", "XML"))
_TEXT = bytes({7, 8, 9, 10, 12, 13, 27, *range(0x20, 0x7F)})


def image_format(data: bytes) -> str | None:
    """The image format that a file starts like; None where it starts like none that is read."""
    return next((name for at, magic, name in _IMAGES if data.startswith(magic, at)), None)


def video_format(data: bytes) -> str | None:
    """The video format that a file starts like; None where it starts like none that is read."""
    if any(data[one : one + 1] == b"G" == data[other : other + 1] for one, other in _MARKS):
        return "MPEG transport stream"
    if any(data.startswith(magic, at) for at, magic, _ in (*_IMAGES, *_OTHERS)):  # some of them are MP4 files as well
        return None
    return next((name for at, magic, name in _VIDEOS if data.startswith(magic, at)), None)


def describe(data: bytes) -> str:
    """What a file that is not what it should be seems to be: "an HTML file", "an empty file (0 bytes)"."""
    if not data:
        return "an empty file (0 bytes)"
    for at, magic, name in (*_OTHERS, *_VIDEOS):
        if data.startswith(magic, at):
            return f"{'an' if name in _AN else 'a'} {name} file"
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, name in _MARKUP:
        if start.startswith(magic):
            return f"an {name} file"
    if not start.translate(None, _TEXT):
        return "a text file"
    return f"a file that starts with {data[:8].hex(' ')}"
