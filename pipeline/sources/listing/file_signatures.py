"""What a file is by its first bytes, for error messages: names can be wrong, and a decoder only says that it failed."""

import re

# First bytes of a file, by the usual name of such a file.
_IMAGES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG",
    "GIF": rb"GIF8",
    "WebP": rb".{8}WEBP",
    "AVIF": rb".{4}ftyp(avi[fs]|mif1.{4}(.{4})*?avif)",
    "HEIC": rb".{4}ftyp(hei|hev|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "JPEG 2000": rb".{4}jP  |\xff\x4f\xff\x51",
    "BMP": rb"BM.{4}\0{4}",
    "PBM": rb"P4\s",
    "PGM": rb"P5\s",
    "PPM": rb"P6\s",
}
_OTHERS = {
    "PostScript (EPS)": rb"%!PS|\xc5\xd0\xd3\xc6",
    "PDF": rb"%PDF",
    "Photoshop": rb"8BPS",
    "ZIP": rb"PK\x03\x04",
    "gzip": rb"\x1f\x8b",
    "Parquet": rb"PAR1",
    "Arrow": rb"ARROW1\0\0|\xff\xff\xff\xff.{3}\0",
    "Feather version 1": rb"FEA1",
    "tar": rb".{257}ustar",
    "zstd": rb"\x28\xb5\x2f\xfd",
    "xz": rb"\xfd7zXZ\0",
    "SQLite": rb"SQLite format 3\0",
    "HDF5": rb"\x89HDF\r\n",
    "Ogg": rb"OggS",
    "MPEG program stream": rb"\0\0\x01\xba",
    "MPEG elementary stream": rb"\0\0\x01\xb3",
    "Git LFS pointer": rb"version https://git-lfs",
}
_VIDEOS = {
    "MP4": rb".{4}ftyp",
    "AVI": rb".{8}AVI ",
    "Matroska or WebM": rb"\x1a\x45\xdf\xa3",
    "FLV": rb"FLV\x01",
    "WMV or ASF": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "MXF": rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02",
}
_UNSUPPORTED_VIDEOS = frozenset({"Ogg", "MPEG program stream", "MPEG elementary stream"})
_MARKUP = {"HTML": rb"<!doctype html|<html", "SVG": rb"<svg", "XML": rb"<\?xml"}
_TRANSPORT_PACKETS = {188: rb"G.{187}G", 192: rb".{4}G.{191}G"}  # TS and M2TS: a packet has a G as its sync byte
_WITH_AN = frozenset(
    {
        "Arrow",
        "AVI",
        "AVIF",
        "HDF5",
        "HTML",
        "MP4",
        "MPEG elementary stream",
        "MPEG program stream",
        "MXF",
        "Ogg",
        "SQLite",
        "SVG",
        "XML",
        "xz",
    }
)
_RECORDS = {"Parquet": "parquet", "Arrow": "dataset", "tar": "webdataset"}
_FORMATS = _RECORDS | dict.fromkeys(_IMAGES, "images") | dict.fromkeys(_VIDEOS, "video")
_TEXT_BYTES = bytes({7, 8, 9, 10, 12, 13, 27, *range(0x20, 0x7F)})


def image_format(data: bytes) -> str | None:
    """Return the supported image format that a file starts like; None if there is none."""
    return _first_match(data, _IMAGES)


def video_format(data: bytes) -> str | None:
    """Return the supported video format that a file starts like; None if there is none."""
    if transport_packet_bytes(data):
        return "MPEG transport stream"
    return None if _first_match(data, _IMAGES | _OTHERS) else _first_match(data, _VIDEOS)  # AVIF starts like MP4


def is_unsupported_video(data: bytes) -> bool:
    """Return whether a file starts like one of a video format that is not read."""
    return _first_match(data, _OTHERS) in _UNSUPPORTED_VIDEOS


def input_format(data: bytes) -> str | None:
    """Return the `--input-format` of what a file starts like; None if it is another file, or text."""
    if not _is_binary(data):
        return None
    if transport_packet_bytes(data):
        return "video"
    return _FORMATS.get(_first_match(data, _IMAGES | _OTHERS | _VIDEOS) or "")


def not_text(data: bytes) -> str | None:
    """Return what a file starts like that holds no text: "a Parquet file"; None if it may be text."""
    name = _first_match(data, _IMAGES | _OTHERS | _VIDEOS)
    return _with_article(name) if name is not None and (_is_binary(data) or name == "Git LFS pointer") else None


def _is_binary(data: bytes) -> bool:
    """Return whether there are control characters. A text may start with BM or P4, but has none."""
    return bool(data.translate(None, _TEXT_BYTES + bytes(range(0x7F, 0x100))))


def transport_packet_bytes(data: bytes) -> int | None:
    """Return the length of the packets of a transport stream by its first 197 bytes; None if it is another file."""
    return next((size for size, pattern in _TRANSPORT_PACKETS.items() if re.match(pattern, data, re.DOTALL)), None)


def describe(data: bytes) -> str:
    """Return what an unexpected file seems to be: "an HTML file", "an empty file (0 bytes)"."""
    if not data:
        return "an empty file (0 bytes)"
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if name := _first_match(data, _IMAGES | _OTHERS | _VIDEOS) or _first_match(start, _MARKUP):
        return _with_article(name)
    if not start.translate(None, _TEXT_BYTES):
        return "a text file"
    return f"a file that starts with {data[:8].hex(' ')}"


def _with_article(name: str) -> str:
    return f"{'an' if name in _WITH_AN else 'a'} {name} file"


def _first_match(data: bytes, patterns: dict[str, bytes]) -> str | None:
    return next((name for name, pattern in patterns.items() if re.match(pattern, data, re.DOTALL)), None)
