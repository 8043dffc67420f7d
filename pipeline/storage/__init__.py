"""Access by key to a folder on a local disk or in an object store: list, read, and write at most once."""

from pipeline.storage.entry import Entry
from pipeline.storage.errors import (
    AccessError,
    Archived,
    Changed,
    Denied,
    Missing,
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
    "Denied",
    "Entry",
    "LeaveOut",
    "LeftOut",
    "Missing",
    "Reason",
    "StorageError",
    "StorageFull",
    "Store",
    "check_uri",
    "is_access_lost",
    "redact",
    "valid_unicode",
]
