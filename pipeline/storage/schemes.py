"""Which schemes of URIs can be read, and which can be written to."""

import fsspec

from pipeline.storage.errors import AccessError
from pipeline.storage.uris import LOCAL, split_scheme

# Stores whose clients have an atomic put-if-absent.
CONDITIONAL_PUT_SCHEMES = frozenset({"s3", "gs", "az", "abfs", "abfss"})
WRITABLE = "a folder, s3://, gs:// or az://"
READABLE = "a folder, s3://, gs://, az://, hf:// or https://"
_OF_ONE_PROCESS = frozenset({"memory", "data"})
# Views of another file system or of one archive, which fsspec opens in a chain, and others that are no folder of files.
_VIEWS = frozenset({"zip", "tar", "libarchive", "dir", "reference", "generic", "cached", "async_wrapper"})
_VIEWS |= {"asyncwrapper", "asynclocal", "blockcache", "filecache", "simplecache"}
_KINDS_ON_THE_HUB = frozenset({"datasets", "spaces", "models", "buckets"})


def require_known(uri: str) -> None:
    """Raise AccessError, with those that work, if a URI has a scheme that nobody implements or that is only a view."""
    scheme, _ = split_scheme(uri)
    if scheme is not None and (scheme in _VIEWS or scheme not in fsspec.available_protocols()):
        raise AccessError(f"{uri}: {scheme}:// is not supported; use {READABLE}")


def require_readable(uri: str) -> None:
    """Raise AccessError, with the schemes that work, unless every worker can read from a URI of this scheme.

    So does a URI of the Hugging Face Hub that names no repository.
    """
    require_known(uri)
    scheme, rest = split_scheme(uri)
    if scheme == "hf":
        names = [name for name in rest.split("/") if name]
        if len(names) < (3 if names and names[0] in _KINDS_ON_THE_HUB else 2):
            raise AccessError(f"{uri} does not name a repository: use hf://datasets/USER/NAME or hf://USER/NAME")
    if scheme in _OF_ONE_PROCESS:
        raise AccessError(f"{uri}: {scheme}:// is in the memory of one process; use {READABLE}")


def require_writable(uri: str) -> None:
    """Raise AccessError, with the schemes that work, unless a URI of this scheme can be an OUTPUT."""
    scheme, _ = split_scheme(uri)
    if scheme is not None and scheme not in {*CONDITIONAL_PUT_SCHEMES, *LOCAL}:
        raise AccessError(f"{uri}: {scheme}:// cannot be written to; use {WRITABLE}")


def is_web(uri: str) -> bool:
    """Return whether a URI is one of a web server, whose folders are pages with links."""
    return split_scheme(uri)[0] in ("http", "https")
