"""Make a drawing of matplotlib part of a page: its colors, its font, and no style that the page's policy forbids."""

import xml.etree.ElementTree as ET
from enum import StrEnum


class Color(StrEnum):
    """Stand-ins for the colors of the page, which matplotlib cannot name. No other color may be used."""

    INK = "#010101"
    MUTED = "#020202"
    LINE = "#030303"
    ACCENT = "#040404"
    ACCENT_SOFT = "#050505"


_ON_PAGE = {
    Color.INK: "var(--ink)",
    Color.MUTED: "var(--muted)",
    Color.LINE: "var(--line)",
    Color.ACCENT: "var(--accent)",
    Color.ACCENT_SOFT: "var(--accent-soft)",
}
_SVG = "{http://www.w3.org/2000/svg}"
_KEPT = frozenset({"fill", "stroke", "stroke-width", "stroke-linecap", "text-anchor", "fill-opacity", "opacity"})


def page_svg(drawing: str) -> str:
    """Return matplotlib's SVG as an element of a page, drawn with attributes instead of inline styles, without ids."""
    root = ET.fromstring(drawing)  # noqa: S314 - matplotlib's own output
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}defs", f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        style = element.attrib.pop("style", "")
        element.attrib.pop("id", None)
        element.attrib.pop("clip-path", None)
        for name, value in filter(None, (_attribute(one) for one in style.split(";"))):
            element.set(name, value)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")  # the figure around it has the words
    root.set("class", "plot")
    return ET.tostring(root, encoding="unicode")


def _attribute(declaration: str) -> tuple[str, str] | None:
    """Return the attribute that does what a declaration of a style does; None for those that the page decides."""
    name, _, value = (part.strip() for part in declaration.partition(":"))
    if name == "font":
        size = next(word for word in value.split() if word.endswith("px"))
        return "font-size", size
    return (name, _ON_PAGE.get(Color(value), value) if value in set(Color) else value) if name in _KEPT else None
