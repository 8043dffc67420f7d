"""Errors of every client are classified alike."""

import errno
import pickle

import pytest

from pipeline.storage import AccessError, Changed, Denied, Missing, StorageError, StorageFull
from pipeline.storage.errors import is_transient, translate, translated_errors


class HttpError(Exception):
    """An error with an HTTP status, as in the clients of several stores."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP status {code}")
        self.code = code


class HfUriError(ValueError):
    """An error of the Hub's client, by the name of its class."""


@pytest.mark.parametrize(
    ("error", "kind", "transient"),
    [
        (OSError(errno.EIO, "conflict"), StorageError, True),
        (OSError(errno.ESTALE, "stale"), StorageError, True),
        (TimeoutError("read timed out"), StorageError, True),
        (ConnectionResetError("reset by peer"), StorageError, True),
        (HttpError(500), StorageError, True),
        (HttpError(503), StorageError, True),
        (HttpError(429), StorageError, True),
        (HttpError(409), StorageError, True),
        (HttpError(400), StorageError, False),
        (HttpError(501), StorageError, False),
        (HttpError(401), AccessError, None),
        (HttpError(403), Denied, None),
        (HfUriError("Invalid HF URI"), AccessError, None),
        (HttpError(404), Missing, False),
        (PermissionError(errno.EACCES, "denied"), Denied, None),
        (OSError(errno.EROFS, "read-only"), AccessError, None),
        (OSError("Forbidden: bucket/key"), Denied, None),
        (FileNotFoundError(errno.ENOENT, "gone"), Missing, False),
        (NotADirectoryError(errno.ENOTDIR, "no folder"), Missing, False),
        (IsADirectoryError(errno.EISDIR, "a folder"), Missing, False),
        (OSError(errno.ENOSPC, "No space left on device"), StorageFull, False),
        (OSError(errno.EDQUOT, "quota"), StorageFull, False),
        (OSError(errno.ENAMETOOLONG, "too long"), StorageError, False),
        (Changed("s3://bucket/key is now b, not a"), Changed, False),
    ],
)
def test_errors_are_classified(error: Exception, kind: type[Exception], transient: bool | None) -> None:
    found = translate(error, "s3://bucket/key", "reading")
    assert type(found) is kind
    assert "s3://bucket/key" in str(found)
    assert getattr(found, "transient", None) is transient
    assert isinstance(found, OSError) or issubclass(kind, AccessError)


@pytest.mark.parametrize("action", ["listing", "deleting", "writing 3 bytes to"])
def test_only_reading_is_denied_for_one_object(action: str) -> None:
    assert type(translate(PermissionError(errno.EACCES, "denied"), "s3://bucket/key", action)) is AccessError


def test_unknown_client_error_of_s3fs_is_permanent() -> None:
    """s3fs raises EIO for it, which is transient if a disk raises it."""
    error = OSError(errno.EIO, "no such method here")
    error.__cause__ = HttpError(405)
    assert not is_transient(error)
    assert is_transient(OSError(errno.EIO, "Input/output error"))


def test_programming_errors_are_not_translated() -> None:
    with pytest.raises(TypeError, match="a mistake"), translated_errors("s3://bucket/key", "reading"):
        raise TypeError("a mistake")


def test_original_error_is_dropped_since_it_may_hold_secrets() -> None:
    with pytest.raises(StorageError) as caught, translated_errors("s3://bucket/key", "reading"):
        raise TimeoutError("https://host/?X-Amz-Signature=canary-secret")
    assert "canary-secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("error", [StorageError("a", transient=True), Missing("b"), Changed("c"), StorageFull("d")])
def test_errors_survive_pickling(error: StorageError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert (str(found), found.transient) == (str(error), error.transient)
