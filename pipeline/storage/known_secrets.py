"""Values of secrets known to this process: from its environment and from the AWS credentials file."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_MIN_LENGTH = 8  # characters; the value of a shorter one also occurs in ordinary words
_SECRET_NAME = re.compile(
    r"(?:SECRET|TOKEN|PASSWORD|PASSPHRASE|(?:ACCESS|ACCOUNT|API|STORAGE|S3|PRIVATE)_KEY|CONNECTION_STRING)(?:_ID)?$"
)
_URL_PASSWORD = re.compile(r"://[^\s/@:]*:([^\s/@]+)@")


def known_secrets() -> list[str]:
    """Return the values, longest first: one that begins with another is then replaced as a whole."""
    return sorted({value for value in _values() if len(value) >= _MIN_LENGTH}, key=len, reverse=True)


def _values() -> Iterator[str]:
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name.upper()):
            yield value
        yield from _URL_PASSWORD.findall(value)  # of a proxy or a database
    path = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    try:
        path = path.expanduser()
        yield from _in_profiles(path, path.stat().st_mtime_ns)
    except (OSError, RuntimeError):  # no such file, or no home folder
        return


@lru_cache(maxsize=2)
def _in_profiles(path: Path, modified: int) -> tuple[str, ...]:  # noqa: ARG001 - a cache key: read again once modified
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text())
    except (configparser.Error, ValueError):  # botocore cannot read it either
        return ()
    options = [option for section in parser.sections() for option in parser.items(section)]
    return tuple(value for name, value in options if _SECRET_NAME.search(name.upper()))
