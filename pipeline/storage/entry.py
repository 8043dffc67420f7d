"""A stored object as a listing shows it, and the keys that no listing shows."""

from dataclasses import dataclass

TEMPORARY_PREFIX = "_run/tmp/"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One stored object. `size` in bytes; `version` (ETag, or size and digest) changes with the content.

    `kept`: JSON of the columns that a metadata file gives it; None in a plain listing.
    """

    key: str
    size: int
    version: str
    kept: str | None = None
