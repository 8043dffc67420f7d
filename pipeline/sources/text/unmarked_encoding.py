"""Texts in UTF-16 or UTF-32 without a byte order mark, which can be valid UTF-8: every other byte is then a NUL."""

import unicodedata
from contextlib import suppress

_SAMPLE_BYTES = 1 << 12
_MIN_NULS = 2
_NULS_PER_BYTE = 1 / 32  # at least: letters of other alphabets have none, spaces and line breaks between them have
_LOWER_NULS = 1 / 10  # of all NULs, at most: few characters have a NUL as their lower byte
_NOT_IN_TEXTS = frozenset({"Cc", "Cn", "Co", "Cs"})  # controls, and code points without a character
_CONTROLS = frozenset("\t\n\r\f")


def unmarked_encoding(start: bytes) -> str | None:
    """Return "UTF-16" or "UTF-32" if the first bytes of a text are in it, without a byte order mark; None otherwise."""
    sample = start[:_SAMPLE_BYTES]
    nuls = sample.count(0)
    if nuls < max(_MIN_NULS, len(sample) * _NULS_PER_BYTE):
        return None
    for encoding, highest in (("utf-32-le", sample[3::4]), ("utf-32-be", sample[0::4])):
        if not any(highest) and _is_text(sample, encoding):
            return "UTF-32"
    for encoding, lower in (("utf-16-le", sample[0::2]), ("utf-16-be", sample[1::2])):
        if lower.count(0) <= nuls * _LOWER_NULS and _is_text(sample, encoding):
            return "UTF-16"
    return None


def _is_text(sample: bytes, encoding: str) -> bool:
    """Return whether the bytes are characters in an encoding, none of which is missing in texts."""
    width = 4 if "32" in encoding else 2
    whole = len(sample) - len(sample) % width
    for end in (whole, whole - 2):  # a sample may end between the halves of a character
        with suppress(UnicodeDecodeError):
            text = sample[:end].decode(encoding)
            return all(char in _CONTROLS or unicodedata.category(char) not in _NOT_IN_TEXTS for char in text)
    return False
