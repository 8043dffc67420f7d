"""Validation and normalization of the URIs that users give."""

import os
import re

from pipeline.storage.errors import AccessError
from pipeline.storage.left_out import valid_unicode
from pipeline.storage.redaction import redact

LOCAL = frozenset({"file", "local"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_WITH_AT = frozenset({"abfs", "abfss", "az", "hf"})  # container@account, repository@revision
_WITH_PORT = frozenset({"http", "https", "ftp", "sftp", "ssh", "hdfs", "webhdfs", "smb"})
_QUERY = re.compile(r"\?[^/?=]+=")


def check_uri(uri: str) -> str:
    """Return the URI. AccessError if it holds a user, a password or a query string, which may be secrets.

    Local paths, and `?` as a wildcard (not followed by `name=value`), are accepted.
    """
    scheme, rest = split_scheme(uri)
    if scheme is None:
        if "::" in uri and "://" in uri and not uri.startswith(("/", ".", "~")):
            raise AccessError(f"chained URIs are not supported: {redact(uri)}")
        return uri
    authority = rest.split("/", 1)[0]
    named = "@" in authority and scheme not in _WITH_AT
    # A bucket has no colon, but a secret key may have slashes: this also finds `s3://user:pass/word@bucket`.
    colon = ":" in authority and not authority.startswith("arn:")
    port = scheme in _WITH_PORT and re.fullmatch(r"[^:@]+:\d+", authority)
    if named or (colon and not port) or _QUERY.search(rest) or (scheme.startswith("http") and "?" in rest):
        raise AccessError(
            "a URI must not contain a user, password or query string; credentials come from the environment or a "
            f"profile: {_without_secrets(scheme, rest)}"
        )
    return uri


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


def _without_secrets(scheme: str, rest: str) -> str:
    path, mark, _ = rest.partition("?")
    if ":" in path.split("/", 1)[0] or "@" in path.split("/", 1)[0]:
        path = "***@" + path.rpartition("@")[2] if "@" in path else "***"
    return redact(f"{scheme}://{path}{'?***' if mark else ''}")
