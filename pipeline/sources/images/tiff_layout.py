"""What a sound TIFF file holds that Pillow cannot read: its bands, bits and kind of numbers, for the reason."""

import io

from PIL import TiffImagePlugin

from pipeline.formatting import counted

_NUMBERS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 4: "undefined values", 5: "complex integers"}
_NUMBERS |= {6: "complex floats"}


def describe_tiff(data: bytes) -> str | None:
    """Return "3 bands of 32-bit floats" of a TIFF file's first page; None if its tags cannot be read.

    A method of compression that is not read is named as well.
    """
    try:
        tags = _first_tags(data)
        bits = sorted(set(tags[TiffImagePlugin.BITSPERSAMPLE]))
        kinds = {
            _NUMBERS.get(kind, f"values of format {kind}") for kind in tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        }
        bands = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, len(tags[TiffImagePlugin.BITSPERSAMPLE])))
        compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
        width, height = tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
    except Exception:  # noqa: BLE001  the parser raises anything for damaged tags
        return None
    if not (0 < bands < 2**16 and bits[0] > 0 and width > 0 and height > 0):
        return None
    named = counted(bands, "band")
    layout = f"{named} of {' or '.join(map(str, bits))}-bit {' or '.join(sorted(kinds))}"
    is_known = compression in TiffImagePlugin.COMPRESSION_INFO
    return layout if is_known else f"{layout}, compressed by method {compression},"


def _first_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return the tags of the first page."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2:3] == b"+" else 8])  # a + marks BigTIFF
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags
