"""What can go wrong with a store, told apart by what becomes of the unit or the run."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.storage.redaction import redact
from pipeline.storage.wait_hook import waiting_for_storage


class AccessError(Exception):
    """What the user named cannot be used: a wrong URI, nothing there, no permission. The message names the URI."""


class StorageError(OSError):
    """A store did not do what it was asked. `transient`: the same call may succeed when it is made again."""

    transient: bool = False

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class Missing(StorageError):  # noqa: N818 - these say what happened
    """Nothing is stored under the key (any more)."""


class Changed(StorageError):  # noqa: N818
    """What is stored under the key is not the version that was asked for."""


class StorageFull(StorageError):  # noqa: N818
    """No space, or a quota or size limit reached. The message names the path and the bytes."""


_TRANSIENT_ERRNO = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "EREMOTEIO", "EAGAIN", "EBUSY", "EINTR", "ESTALE", "ETIMEDOUT", "ENETDOWN", "ENETUNREACH"),
        *("ENETRESET", "ECONNABORTED", "ECONNRESET", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EPIPE"),
        *("EMFILE", "ENFILE", "ENOLCK"),
    )
    if hasattr(errno, name)
)
_FULL_ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})

_NEVER_STATUS = frozenset({501, 505})  # what such a server does not know today it will not know tomorrow
_TRANSIENT_CODES = frozenset({"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"})  # 400s

# Classes of back ends that need not be installed, by name: botocore, aiohttp, requests, httpx, azure-core, google-auth.
_TRANSIENT_NAMES = frozenset(
    {
        *("ConnectionError", "ConnectTimeout", "HTTPClientError", "IncompleteRead", "IncompleteReadError"),
        *("ResponseStreamingError", "ResponseParserError", "ClientConnectionError", "ClientPayloadError"),
        *("ServiceRequestError", "ServiceResponseError", "TransportError", "Timeout"),
        *("ChecksumError", "ChunkedEncodingError", "ContentDecodingError"),
    }
)
_DENIED_NAMES = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        *("SSOError", "NoRegionError", "ProfileNotFound", "ParamValidationError"),
        *("DefaultCredentialsError", "RefreshError"),
        *("ClientAuthenticationError", "GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError"),
    }
)
_DENIED_CODES = frozenset(
    {
        *("InvalidToken", "ExpiredToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
        *("AuthorizationHeaderMalformed", "AccessDenied", "NoSuchBucket", "InvalidBucketName", "PermanentRedirect"),
        "400",  # a HEAD has no body, so S3 tells no reason: an expired token or a wrong region
    }
)


def translate(error: Exception, uri: str, doing: str) -> Exception:
    """The error of this module, or AccessError, that `error` of a file system means; `error` itself if it is no fault
    of the store. Messages are redacted and say what was done with which URI: `doing` is "reading", for example."""
    if isinstance(error, StorageError | AccessError):
        return error
    status, code, names = http_status(error), _code(error), _names(error)
    number = error.errno if isinstance(error, OSError) else None
    words = _words(error, uri)
    notes = [code] if code and code not in words else []  # behind: `redact` takes what follows `ExpiredToken:` for one
    notes += getattr(error, "__notes__", ())
    message = redact(f"{doing} {uri}: {words}{''.join(f' ({note})' for note in notes)}")
    forbidden = words.startswith("Forbidden")  # gcsfs has no class for 403
    denied = isinstance(error, PermissionError) or number == errno.EROFS or status in (401, 403) or forbidden
    if denied or code in _DENIED_CODES or names & _DENIED_NAMES:
        return AccessError(f"no access when {message}")
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError) or status == 404:
        return Missing(f"nothing there when {message}")
    if number in _FULL_ERRNO:
        return StorageFull(f"no room when {message}")
    transient = isinstance(error, TimeoutError | ConnectionError) or bool(names & _TRANSIENT_NAMES)
    if status is None:
        transient = transient or number in _TRANSIENT_ERRNO
    else:  # s3fs has EIO for whatever it does not know
        transient = transient or code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS or status >= 500
    if transient or isinstance(error, OSError) or status is not None:
        return StorageError(f"failed when {message}", transient=transient and status not in _NEVER_STATUS)
    return error


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed when it is made again."""
    found = translate(error, "", "")
    return isinstance(found, StorageError) and found.transient


@contextmanager
def translated_errors(uri: str, doing: str) -> Iterator[None]:
    """Raise what goes wrong inside as `translate` says. The original is dropped: its text is not redacted."""
    try:
        with waiting_for_storage():
            yield
    except Exception as error:
        explanation = translate(error, uri, doing)
        if explanation is error:
            raise
        raise explanation from None


def http_status(error: BaseException) -> int | None:
    """The HTTP status that a store's client reports somewhere along the causes of the error."""
    for cause in _causes(error):
        response: Any = getattr(cause, "response", None)
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
        for value in (found, getattr(response, "status_code", None), *_own_status(cause)):
            if str(value).isdecimal() and 400 <= int(str(value)) < 600:
                return int(str(value))
    return None


def _own_status(error: BaseException) -> Iterator[object]:
    yield from (getattr(error, name, None) for name in ("status_code", "status", "code"))


def _words(error: Exception, uri: str) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        silent = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        return str(error) or silent
    elsewhere = error.filename is not None and os.fsdecode(error.filename) not in uri
    return f"{error.strerror} ({os.fsdecode(error.filename)})" if elsewhere else error.strerror


def _code(error: BaseException) -> str | None:
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return str(response["Error"].get("Code", "")) or None
    return None


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(5):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__
