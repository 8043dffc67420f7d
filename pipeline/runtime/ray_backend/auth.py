"""Who may be talked to without a token: a Ray cluster on this machine's loopback, and no other."""

from __future__ import annotations

import os
import re

from pipeline.runtime.errors import UsageError
from pipeline.storage import redact


def require_token(address: str | None) -> None:
    """UsageError where a cluster on another machine would be talked to without a token.

    Whoever reaches a Ray cluster without one runs code on it. That it is meant so must have been said.
    """
    named = address or ""
    host = re.sub(r"^\w+://", "", named).partition("/")[0].rpartition(":")[0].strip("[]")
    if host in ("", "localhost", "::1") or host.startswith("127.") or os.environ.get("RAY_AUTH_MODE"):
        return
    raise UsageError(
        f"address ({redact(named)}) is another machine's, and no token is set: set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN here and on the cluster; where the network alone keeps others out, say RAY_AUTH_MODE=disabled"
    )
