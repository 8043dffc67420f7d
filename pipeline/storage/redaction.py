"""Removal of secrets from text that is shown or stored."""

import configparser
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_VALUE = r"""[^\s"'&,;<>]+"""
_NAME = (
    r"signature|token|secret|passw(?:or)?d|pwd|credentials?|api[_-]?key|secret[_-]?key|sig"
    r"|access[_-]?key(?:[_-]?id)?|account[_-]?key|shared[_-]?access[_-]?signature"
)
_RULES = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), "***"),
    (  # user:password@host; a path may have lost a slash, and an @ may be percent-encoded or of full width
        re.compile(r"""(:[/\\]+|(?<![\w/:])//)[^\s/\\@:"']*:(?!\d+(?:[/\s"']|$))[^\s"'<>]*(?:@|%40|\uff20)"""),
        r"\1***@",
    ),
    (
        re.compile(r"""(?<!abfs)(?<!abfss)(?<!az)(?<!hf)(://)[^\s/@:"'?]+@"""),
        r"\1***@",
    ),  # a token; or container@account
    (re.compile(r"\b(bearer|sharedkey)\s+[\w.~+/:=-]{12,}", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"""(authorization["']?\s*[=:]\s*["']?basic)\s+\S+""", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(rf"""(?<![A-Za-z0-9])([\w.-]*?(?:{_NAME})["']?\s*[=:]\s*["']?)(?!\d+\b){_VALUE}""", re.IGNORECASE),
        r"\1***",
    ),
    (re.compile(r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,}\b"), "***"),
    (re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_\w{20,}|ya29\.[\w-]{10,}|AIza[\w-]{30,})"), "***"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "***"),
)
_MIN_LENGTH = 8  # characters; the value of a shorter one also occurs in ordinary words
_SECRET_NAME = re.compile(
    r"(?:SECRET|TOKEN|PASSWORD|PASSPHRASE|(?:ACCESS|ACCOUNT|API|STORAGE|S3|PRIVATE)_KEY|CONNECTION_STRING)(?:_ID)?$"
)
_URL_PASSWORD = re.compile(r"://[^\s/@:]*:([^\s/@]+)@")


def redact(text: str) -> str:
    """Return the text with `***` for each password, token, signature and key.

    They are found by the names before them, by their formats, and by the values known to this process.
    """
    values = {value for value in _known_secrets() if len(value) >= _MIN_LENGTH}
    for value in sorted(values, key=len, reverse=True):  # one that begins with another is then replaced as a whole
        text = text.replace(value, "***")
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _known_secrets() -> Iterator[str]:
    """Yield the values of secrets in the environment and in the AWS credentials file."""
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
