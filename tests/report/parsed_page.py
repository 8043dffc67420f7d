"""A report as a browser or a screen reader reads it, parsed by Python's own parser."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

from pipeline.report.report import make_report
from pipeline.results import open_run

VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})
INLINE = frozenset({"bdi", "span", "b", "strong", "code"})
HEADINGS = ("h1", "h2", "h3", "h4")
REFERENCES = ("src", "href", "xlink:href", "action", "data", "poster", "srcset", "formaction", "background", "ping")


@dataclass
class Page(HTMLParser):
    """Elements as (tag, attributes) in order, and the text outside of the style sheet."""

    html: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()
        assert self.open_tags == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in INLINE:
            self.words.append(" ")
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag
        if tag not in INLINE:
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open_tags:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text, in one line."""
        return " ".join("".join(self.words).split())

    def all(self, tag: str, name: str = "", value: str = "") -> list[dict[str, str | None]]:
        """Return the attributes of the elements with this tag, and a class or another attribute with this value."""
        found = [attrs for each, attrs in self.elements if each == tag]
        return [attrs for attrs in found if not name or value in (attrs.get(name) or "").split()]


def read_page(html: str) -> Page:
    """Parse a report and assert what holds for all: it is inert, needs no network, and can be read aloud."""
    page = Page(html)
    ids = Counter(attrs["id"] for _, attrs in page.elements if "id" in attrs)
    assert set(ids.values()) <= {1}
    for tag, attrs in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form", "foreignobject")
        assert not [name for name in attrs if name.startswith("on") or name == "style"], attrs
        for name in REFERENCES:
            assert re.match(
                r"data:(image/(jpeg|png)|video/mp4);base64,", attrs.get(name, "data:image/png;base64,") or ""
            )
        for name in ("aria-labelledby", "aria-describedby"):
            assert name not in attrs or attrs[name] in ids
    assert len(page.all("style")) == 1
    assert page.all("html") == [{"lang": "en"}]
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert all(attrs.get("aria-label") for attrs in page.all("video"))
    assert all(attrs.get("scope") for attrs in page.all("th"))
    assert all(attrs.get("aria-hidden") == "true" or attrs.get("aria-label") for attrs in page.all("svg"))
    levels = [HEADINGS.index(tag) for tag, _ in page.elements if tag in HEADINGS]
    assert levels[0] == 0
    assert levels.count(0) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    policy = next(attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    return page


def page_of(output: Path | str) -> Page:
    """Make the report of an OUTPUT and assert what holds for all reports."""
    return read_page(make_report(open_run(output)))
