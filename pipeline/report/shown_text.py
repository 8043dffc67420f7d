"""Text of users, made fit to be shown: one that is long is cut, one that could mislead is made visible.

Escaping for HTML is the template's. What is done here is for people: control characters and marks that turn the
direction of writing are written as their names, so that a file name is read as it is stored.
"""

from dataclasses import dataclass

from pipeline.formatting import counted
from pipeline.visible import visible_line, visible_text

NAME_LETTERS = 120
TEXT_LETTERS = 400


@dataclass(frozen=True)
class ShownText:
    """A text as the page shows it. `letters`: of the whole text, None if all of it is shown."""

    text: str
    letters: int | None = None

    def __str__(self) -> str:
        return (self.blank or self.text) + self.note

    @property
    def blank(self) -> str:
        """Return what the page shows in place of a text without visible characters; nothing for others."""
        if self.text.strip():
            return ""
        return f"(blank text of {counted(len(self.text), 'character')})" if self.text else "(empty text)"

    @property
    def note(self) -> str:
        """Return what the page says about a text that was cut."""
        return "" if self.letters is None else f" … (cut: {self.letters:,} characters)"


def shown_name(name: object, most: int = NAME_LETTERS) -> str:
    """Return a name, label or id in one line of visible characters. The middle of a long one is cut out, which it says.

    Control characters and marks of direction are written as \\x1b and \\u202e.
    """
    text = str(name)
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]} … {text[-half:]} ({len(text):,} characters)"
    return visible_line(text) if text.strip() else "(empty)"


def shown_text(text: str, most: int = TEXT_LETTERS) -> ShownText:
    """Return the beginning of a text. Marks of direction stay: they belong to it, and the page isolates it."""
    return ShownText(visible_text(text[:most]), len(text) if len(text) > most else None)
