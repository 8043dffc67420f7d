"""What a file is by its first bytes, for error messages: names can be wrong, and a decoder only says that it failed."""

from __future__ import annotations

# Offset, bytes, and the usual name of such a file.
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
_SYNC_OFFSETS = ((0, 188), (4, 196))  # where the first two packets of a transport stream have their sync byte, a G
_MARKUP = ((0, b"<!doctype html", "HTML"), (0, b"<html", "HTML"), (0, b"<svg", "SVG"), (0, b"<?xml", "XML"))
_WITH_AN = frozenset({"AVI", "MP4", "HTML", "SVG", "XML"})
_TEXT_BYTES = bytes({7, 8, 9, 10, 12, 13, 27, *range(0x20, 0x7F)})


def image_format(data: bytes) -> str | None:
    """Return the supported image format that a file starts like; None if there is none."""
    return _first_match(data, _IMAGES)


def video_format(data: bytes) -> str | None:
    """Return the supported video format that a file starts like; None if there is none."""
    if any(data[first : first + 1] == b"G" == data[second : second + 1] for first, second in _SYNC_OFFSETS):
        return "MPEG transport stream"
    return None if _first_match(data, (*_IMAGES, *_OTHERS)) else _first_match(data, _VIDEOS)  # AVIF starts like MP4


def describe(data: bytes) -> str:
    """Return what an unexpected file seems to be: "an HTML file", "an empty file (0 bytes)"."""
    if not data:
        return "an empty file (0 bytes)"
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if name := _first_match(data, (*_OTHERS, *_VIDEOS)) or _first_match(start, _MARKUP):
        return f"{'an' if name in _WITH_AN else 'a'} {name} file"
    if not start.translate(None, _TEXT_BYTES):
        return "a text file"
    return f"a file that starts with {data[:8].hex(' ')}"


def _first_match(data: bytes, signatures: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for offset, magic, name in signatures if data.startswith(magic, offset)), None)
