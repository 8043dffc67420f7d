"""Texts of users made visible: control characters and marks that turn the direction of writing as escapes."""

import re
import shlex

_DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_HIDDEN = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufeff\u2028\u2029{_DIRECTION}]")
_HIDDEN_IN_TEXTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def visible_line(text: str) -> str:
    """Return a text in one line: whatever would break, hide or reorder it is written as \\n, \\x1b or \\u202e."""
    return _HIDDEN.sub(_escaped, text)


def visible_text(text: str) -> str:
    """Return a text whose control characters, but for tabs and line breaks, are written as \\x1b."""
    return _HIDDEN_IN_TEXTS.sub(_escaped, text.replace("\r\n", "\n"))


def shell_command(words: list[str]) -> str:
    """Return a command in one line. A word with hidden characters is written as bash reads it: $'a\\nb'."""
    return " ".join(map(_shell_word, words))


def _shell_word(word: str) -> str:
    if not _HIDDEN.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{visible_line(escaped)}'"


def _escaped(found: re.Match[str]) -> str:
    """Return the escape of a character. Surrogates of bytes that are not UTF-8 are written as the bytes: \\xe9."""
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode() if code < 0x80 else f"\\u{code:04x}"
