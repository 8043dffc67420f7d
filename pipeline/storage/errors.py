"""Errors of storage, classified by their consequence: retry, fail the unit, or end the run."""

import errno
import os
from collections.abc import Iterator
from itertools import chain
from typing import Any

from pipeline.storage.redaction import redact
from pipeline.storage.wait_hook import wait_hook


class AccessError(Exception):
    """The URI is wrong, nothing is there, or permission is denied: the user must act.

    The message names the URI, and holds no secrets.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class Denied(AccessError):  # noqa: N818 - like those below, a state of an object
    """Permission to read one object is denied. Others may be readable: the units of this one are quarantined."""


class Archived(Denied):
    """The object is in an archive, such as Glacier, and must be restored before it can be read."""


class StorageError(OSError):
    """A storage request failed. If `transient`, the same request may succeed later. The message holds no secrets."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(redact(message))
        self.transient = transient


class Missing(StorageError):  # noqa: N818 - like the next two, a state and not an error of the program
    """No object has the key, or no longer."""


class NotRegular(Missing):
    """What has the key is no regular file, but a folder, a named pipe, a socket or a device, which is not opened."""


class Changed(StorageError):  # noqa: N818
    """The object under the key has another version than the requested one."""


class Corrupt(StorageError):  # noqa: N818
    """The answer of the store is not whole, has another checksum than the object, or is not the store's at all.

    It is transient, but requested only a few times: something on the way may always do the same.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class StorageFull(StorageError):  # noqa: N818
    """No space is left, or a quota or size limit is reached. The message names the path and the bytes."""


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
_PERMANENT_STATUS = frozenset({501, 505})  # the server does not implement the request
_TRANSIENT_CODES = frozenset({"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"})  # 400s

# Exception classes by name, since their packages are optional: botocore, aiohttp, requests, httpx, azure-core,
# google-auth, huggingface_hub.
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
        *("HfUriError", "HFValidationError"),
    }
)
_DENIED_CODES = frozenset(
    {
        *("InvalidToken", "ExpiredToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
        *("AuthorizationHeaderMalformed", "NoSuchBucket", "InvalidBucketName", "PermanentRedirect"),
        *("RequestTimeTooSkewed", "AccountProblem", "NotSignedUp"),
        "400",  # S3's response to a HEAD has no reason: an expired token or a wrong region
    }
)
_ARCHIVED_CODES = frozenset({"InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"})  # S3, Azure
_READING = frozenset({"reading", "opening", "looking up"})  # actions that concern one object


def translate(error: Exception, uri: str, action: str) -> Exception:
    """Return the AccessError or StorageError for a client's `error`, or `error` itself if it is not one of storage.

    The message names the URI and the action, for example "reading".
    """
    if isinstance(error, StorageError | AccessError):
        return error
    status, code = http_status(error), _store_code(error)
    names = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    number = error.errno if isinstance(error, OSError) else None
    text = _text(error, uri)
    # The code comes last: `redact` would take the text after "ExpiredToken:" for the token.
    notes = [code] if code and code not in text else []
    notes += getattr(error, "__notes__", ())
    message = f"{action} {uri}: {text}{''.join(f' ({note})' for note in notes)}"
    forbidden = text.startswith("Forbidden")  # gcsfs has no exception class for 403
    if code in _ARCHIVED_CODES:
        advice = "restore it, then predict it with --retry-quarantined"
        return Archived(f"the object is archived and must be restored first: {message}; {advice}")
    lost = number == errno.EROFS or status == 401 or code in _DENIED_CODES or bool(names & _DENIED_NAMES)
    if lost or isinstance(error, PermissionError) or status == 403 or forbidden:
        kind = Denied if action in _READING and not lost else AccessError
        return kind(f"no access when {message}")
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError) or status == 404:
        return Missing(f"no file found when {message}")
    if number in _FULL_ERRNO:
        return StorageFull(f"no space when {message}")
    transient = isinstance(error, TimeoutError | ConnectionError) or bool(names & _TRANSIENT_NAMES)
    if status is None:
        transient = transient or number in _TRANSIENT_ERRNO
    else:  # not by errno: s3fs raises EIO for any status that it does not know
        transient = transient or code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS or status >= 500
    if transient or isinstance(error, OSError) or status is not None:
        return StorageError(f"error when {message}", transient=transient and status not in _PERMANENT_STATUS)
    return error


def is_access_lost(error: Exception) -> bool:
    """Whether the user must act before anything can be read, as opposed to a fault of one object."""
    return isinstance(error, AccessError) and not isinstance(error, Denied)


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    translated = translate(error, "", "")
    return isinstance(translated, StorageError) and translated.transient


class translated_errors:  # noqa: N801  used as `with translated_errors(...)`
    """Raise errors of the block as `translate` returns them, without their cause, whose text is not redacted.

    The time of the block is reported to the `wait_hook` as a wait for storage. It can be entered again and again, which
    a listing does for each of its items: in a third of the time that a generator with `contextmanager` takes.
    """

    def __init__(self, uri: str, action: str) -> None:
        self._uri, self._action = uri, action

    def __enter__(self) -> None:
        self._hook = wait_hook.get()
        self._hook(True)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._hook(False)
        if isinstance(error, Exception) and (translated := translate(error, self._uri, self._action)) is not error:
            raise translated from None


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that the error, or one of its causes, reports; None if there is none."""
    for cause in _causes(error):
        response: Any = getattr(cause, "response", None)
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
        attributes = (getattr(cause, name, None) for name in ("status_code", "status", "code"))
        for value in chain((status, getattr(response, "status_code", None)), attributes):
            if str(value).isdecimal() and 400 <= int(str(value)) < 600:
                return int(str(value))
    return None


def _text(error: Exception, uri: str) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or ("no response in time" if isinstance(error, TimeoutError) else type(error).__name__)
    elsewhere = error.filename is not None and os.fsdecode(error.filename) not in uri
    return f"{error.strerror} ({os.fsdecode(error.filename)})" if elsewhere else error.strerror


def _store_code(error: BaseException) -> str | None:
    """Return the reason that S3 or Azure reports in one word; None if there is none."""
    for cause in _causes(error):
        if code := getattr(cause, "error_code", None):  # azure-core
            return str(getattr(code, "value", code))
        response = getattr(cause, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return str(response["Error"].get("Code", "")) or None
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, at most five."""
    cause: BaseException | None = error
    for _ in range(5):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__
