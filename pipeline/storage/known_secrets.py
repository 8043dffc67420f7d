"""The secrets that this process holds by value: in its environment, and in the user's file of AWS profiles."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_LEAST = 8  # characters of a secret; a shorter one would be taken out of ordinary words
_NAMED = re.compile(
    r"(?:SECRET|TOKEN|PASSWORD|PASSPHRASE|(?:ACCESS|ACCOUNT|API|STORAGE|S3|PRIVATE)_KEY|CONNECTION_STRING)(?:_ID)?$"
)
_IN_URL = re.compile(r"://[^\s/@:]*:([^\s/@]+)@")


def known_secrets() -> list[str]:
    """All of them, the longest first, so that none is left in part where another is the beginning of it."""
    return sorted({value for value in _all() if len(value) >= _LEAST}, key=len, reverse=True)


def _all() -> Iterator[str]:
    for name, value in os.environ.items():
        if _NAMED.search(name.upper()):
            yield value
        yield from _IN_URL.findall(value)  # a proxy's, a data base's
    path = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    try:
        path = path.expanduser()
        yield from _in_profiles(path, path.stat().st_mtime_ns)
    except (OSError, RuntimeError):  # no such file, no home
        return


@lru_cache(maxsize=2)
def _in_profiles(path: Path, changed: int) -> tuple[str, ...]:  # noqa: ARG001 - read again once it has changed
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text())
    except (configparser.Error, ValueError):  # botocore cannot read it either
        return ()
    options = [option for section in parser.sections() for option in parser.items(section)]
    return tuple(value for name, value in options if _NAMED.search(name.upper()))
