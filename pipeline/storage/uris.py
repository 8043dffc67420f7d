"""Validation and normalization of the URIs that users give."""

import os
import re
from pathlib import Path

from pipeline.storage.errors import AccessError
from pipeline.storage.left_out import valid_unicode
from pipeline.storage.redaction import redact

LOCAL = frozenset({"file", "local"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_CHAIN = re.compile(r"\s*[A-Za-z][\w+.-]*::|.*::[A-Za-z][\w+.-]*:/", re.DOTALL)
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_WITH_AT = frozenset({"abfs", "abfss", "az", "hf"})  # container@account, repository@revision
_WITH_PORT = frozenset({"http", "https", "ftp", "sftp", "ssh", "hdfs", "webhdfs", "smb"})
_STRICT = frozenset({"http", "https", "hf"})
_QUERY = re.compile(r"\?[^/?=]+=")
_PASSWORD_FURTHER_ON = re.compile(r":/+(?:[^/@]*:[^@]*|[^/]*)@")  # a path may have lost one of the two slashes
_PASSWORD_IN_PATH = re.compile(r"(?:^|/)[^/:]*:[^/]*@")  # in stores whose paths have no such names
_PASSWORD_WITHOUT_SCHEME = re.compile(r"(?://[^/:]+:[^@]*|[^/:]+:[^/]*)@[^/]")
# What is meant as a URI and is none: a wrong number of slashes, spaces before it, an invalid scheme, a Windows path.
_LIKE_URI = re.compile(r".*://|\s*[A-Za-z][\w+.-]*:/|\s*(?:s3a?|gc?s|az|abfss?|hf|https?|file)(?::|//)", re.DOTALL)
_BEFORE_AUTHORITY = re.compile(r"(?:[\w+.-]+::)*(?:[\w+.-]*:/*)?")


def check_uri(uri: str) -> str:
    """Return the URI. AccessError if it holds a user, a password or a query string, which may be secrets.

    So does one that chains file systems (`zip::s3://…`), and a relative path that looks like a URI. Local paths, and
    `?` as a wildcard (not followed by `name=value`), are accepted.
    """
    scheme, rest = split_scheme(uri)
    if scheme is None and uri.startswith(("/", ".", "~")) and not uri.startswith("//"):
        return uri
    local = "; to name a local path, put ./ before it" if scheme is None else ""
    if is_chain(uri):
        raise AccessError(
            f"chained URIs are not supported: {_without_secrets(uri)}; unpack or copy the files and name their "
            f"folder{local}"
        )
    if _PASSWORD_WITHOUT_SCHEME.match(uri) if scheme is None else _holds_secret(scheme, rest):
        raise AccessError(
            "a URI must not contain a user, password or query string; credentials come from the environment or a "
            f"profile: {_without_secrets(uri)}{local}"
        )
    if scheme is None and _LIKE_URI.match(uri):
        raise AccessError(
            f"{_without_secrets(uri)!r} looks like a URI, but does not begin with a scheme and ://, such as s3://{local}"
        )
    if scheme in LOCAL and rest and not rest.startswith(("/", "~")):
        raise AccessError(f"{uri} must be {scheme}:// and an absolute path, such as {scheme}:///data")
    return uri


def is_chain(uri: str) -> bool:
    """Return whether a URI chains several file systems in fsspec's way: `zip::s3://…`, `zip://a.txt::s3://…`."""
    return _CHAIN.match(uri) is not None


def split_scheme(uri: str) -> tuple[str | None, str]:
    """Split `s3://bucket/key` into (`s3`, `bucket/key`), a local path into (None, path), without percent-decoding."""
    match = _SCHEME.match(uri)
    if match is None:
        return None, uri
    scheme = match[1].lower()
    return _ALIASES.get(scheme, scheme), match[2]


def normalise_uri(uri: str) -> str:
    """Return an absolute path for a local folder, else `scheme://…`, without a trailing slash.

    AccessError if `check_uri` refuses the URI, or it names no folder or bucket.
    """
    scheme, rest = split_scheme(check_uri(uri))
    if not rest.strip("/") and not (rest and (scheme is None or scheme in LOCAL)):
        raise AccessError(f"{uri!r} does not name a folder or bucket")
    if scheme is None or scheme in LOCAL:
        path = os.path.abspath(os.path.expanduser(rest))  # noqa: PTH100, PTH111 - Path drops a leading "//" otherwise
        if (plain := valid_unicode(path)) != path:
            raise AccessError(f"{plain}: the path is not valid UTF-8; rename it")
        return path
    return f"{scheme}://{rest.strip('/')}"


def is_inside(uri: str, folder: str) -> bool:
    """Return whether a path or URI is a folder or lies in it, whatever links lead there."""
    paths = [str(Path(one).resolve()) if split_scheme(one)[0] is None else one.rstrip("/") for one in (uri, folder)]
    return f"{paths[0]}/".startswith(f"{paths[1].rstrip('/')}/")


def _holds_secret(scheme: str, rest: str) -> bool:
    """Return whether a URI has a user, a password or a query string, anywhere in it."""
    authority = rest.split("/", 1)[0]
    named = "@" in authority and scheme not in _WITH_AT
    # A bucket has no colon, but a secret key may have slashes: this also finds `s3://user:pass/word@bucket`.
    colon = ":" in authority and not authority.startswith("arn:")
    port = scheme in _WITH_PORT and re.fullmatch(r"[^:@]+:\d+", authority)
    query = _QUERY.search(rest) or (scheme.startswith("http") and "?" in rest)
    further_on = _PASSWORD_FURTHER_ON.search(rest) or (scheme in _STRICT and _PASSWORD_IN_PATH.search(rest))
    return bool(named or (colon and not port) or query or further_on)


def _without_secrets(uri: str) -> str:
    """Return a URI with *** in place of all that may be a user, a password or a query string."""
    path, mark, _ = uri.partition("?")
    start = _BEFORE_AUTHORITY.match(path.lstrip())
    scheme = "" if start is None else start[0]
    authority = path.lstrip()[len(scheme) :].split("/", 1)[0]
    if "@" in path:
        path = f"{scheme}***@{path.rpartition('@')[2]}"
    elif ":" in authority and not authority.endswith(":"):
        path = f"{scheme}***"
    return redact(f"{path}{'?***' if mark else ''}")
