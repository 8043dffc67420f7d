"""Access by key to a folder on a local disk or in an object store: list, read, and write at most once."""

from pipeline.storage.entry import Entry, is_same_version
from pipeline.storage.errors import (
    AccessError,
    Archived,
    Changed,
    Corrupt,
    Denied,
    Missing,
    NotRegular,
    StorageError,
    StorageFull,
    is_access_lost,
)
from pipeline.storage.left_out import LeaveOut, LeftOut, Reason, valid_unicode
from pipeline.storage.redaction import redact
from pipeline.storage.store import Store
from pipeline.storage.uris import check_uri

__all__ = [
    "AccessError",
    "Archived",
    "Changed",
    "Corrupt",
    "Denied",
    "Entry",
    "LeaveOut",
    "LeftOut",
    "Missing",
    "NotRegular",
    "Reason",
    "StorageError",
    "StorageFull",
    "Store",
    "check_uri",
    "is_access_lost",
    "is_same_version",
    "redact",
    "valid_unicode",
]
