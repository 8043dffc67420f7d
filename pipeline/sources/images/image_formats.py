"""The image formats that are read: those of Pillow, and those of its plugins if they are installed."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from PIL import Image

# Pillow's names. Pillow would try forty more; EPS would start Ghostscript.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "AVIF", "JPEG2000", "HEIF", "JXL")
_USUAL_NAMES = {"MPO": "JPEG", "WEBP": "WebP", "DIB": "BMP", "JPEG2000": "JPEG 2000", "HEIF": "HEIC", "JXL": "JPEG XL"}
PLUGINS = {"HEIF": ("pillow_heif", "heic"), "JXL": ("pillow_jxl", "jxl")}  # module, and our extra that installs it


@cache
def readable_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that can be read here, plugins registered."""
    Image.init()
    for module, _ in PLUGINS.values():
        if find_spec(module) is not None:
            plugin = import_module(module)
            getattr(plugin, "register_heif_opener", lambda: None)()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def usual_name(name: str) -> str:
    """Return what people call a format of Pillow's: "WebP" for "WEBP"."""
    return _USUAL_NAMES.get(name, name)


def readable_names() -> str:
    """Return the usual names of the formats that can be read here, each once, with commas between."""
    return ", ".join(dict.fromkeys(map(usual_name, readable_formats())))


def missing_plugin(usual: str) -> str | None:
    """Return what to install to read a format, by its usual name; None if nothing is missing."""
    for name, (module, extra) in PLUGINS.items():
        if usual_name(name) == usual and name not in readable_formats():
            return f"a {usual} file needs {module}, which the extra {extra!r} installs: perceiver-pipeline[{extra}]"
    return None
