"""Authentication: only a Ray cluster on this machine's loopback may be used without a token."""

import os
import re
import secrets
import tempfile
from pathlib import Path

from pipeline.runtime.errors import UsageError


def require_token(address: str | None) -> None:
    """Raise UsageError if `address` is another machine's and no token is configured.

    Anyone who can reach a Ray cluster without a token can run code on it, so RAY_AUTH_MODE must allow it explicitly.
    """
    named = address or ""
    host = re.sub(r"^\w+://", "", named).partition("/")[0].rpartition(":")[0].strip("[]")
    if host in ("", "localhost", "::1") or host.startswith("127.") or os.environ.get("RAY_AUTH_MODE"):
        return
    raise UsageError(
        f"address ({named}) is on another machine, and no token is set: set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN here and on the cluster, or RAY_AUTH_MODE=disabled if the network alone protects the cluster"
    )


def provide_token() -> None:
    """Set a token for a local cluster in the environment, unless Ray can store the one that it makes in HOME."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    try:
        folder = Path.home() / ".ray"
        if not (folder / "auth_token").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # it cannot be written, or there is no HOME
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
