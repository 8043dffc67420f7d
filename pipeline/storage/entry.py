"""A stored object as a listing shows it, and the keys that no listing shows."""

import re
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


def is_same_version(planned: str, found: str) -> bool:
    """Return whether what is found now is the planned version of a file, or of a pair of files, joined by a plus.

    Earlier releases planned large local files, and those of web servers without ETags, without their modification time:
    then it does not count.
    """
    if planned == found:
        return True
    both = planned.split("+"), found.split("+")
    return len(both[0]) == len(both[1]) and all(
        one in (other, _TIME.sub("", other)) or (one.endswith("-") and other.startswith(one))
        for one, other in zip(*both, strict=True)
    )


_TIME = re.compile(r"(?<=-[0-9a-f]{32})-\d+$")  # at the end of the version of a large local file
