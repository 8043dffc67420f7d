"""Folders of local disks and object stores: listed, read, and written once, by key."""

from pipeline.storage.errors import AccessError, Changed, Missing, StorageError, StorageFull
from pipeline.storage.redaction import redact
from pipeline.storage.store import Entry, Store
from pipeline.storage.uris import check_uri

__all__ = ["AccessError", "Changed", "Entry", "Missing", "StorageError", "StorageFull", "Store", "check_uri", "redact"]
