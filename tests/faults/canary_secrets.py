"""Canary secrets for the environment of runs, and a search for them in everything a run leaves."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

WORD = b"c4n4ryS3cr3t"
"""The prefix of every canary and the text that is searched for, so that parts of a secret are found too."""


def canary(of: str) -> str:
    """Return the secret for a purpose: 24 letters and digits, always the same."""
    return WORD.decode() + hashlib.sha256(of.encode()).hexdigest()[:12]


CREDENTIALS = {
    name: canary(name)
    for name in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "RAY_AUTH_TOKEN"),
        *("AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", "GOOGLE_API_KEY", "DATABASE_PASSWORD", "AZURE_CLIENT_SECRET"),
    )
} | {
    "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=https;AccountKey={canary('account')};AccountName=a",
    "DATABASE_URL": f"postgresql://user:{canary('database')}@localhost/db",
}
"""Environment variables as users of pipelines have them."""


def profile(folder: Path) -> dict[str, str]:
    """Write AWS credentials into a file of the folder, and return the variables that name it."""
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    lines = ["[nightly]", *(f"{name} = {canary('file ' + name)}" for name in names)]
    (folder / "credentials").write_text("\n".join(lines) + "\n")
    return {"AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"), "AWS_PROFILE": "nightly"}


def found_in(*folders: Path, **texts: str) -> list[str]:
    """Return where a canary is: paths of files below the folders, and names of texts."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    places = [str(path) for path in files if any(map(_holds, _contents(path)))]
    return places + [name for name, text in texts.items() if _holds(text.encode())]


def _contents(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file; for Parquet, which is compressed, also the decoded values and metadata."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".parquet":
        table = pq.read_table(io.BytesIO(data))
        yield repr((table.to_pylist(), table.schema.metadata)).encode()


def _holds(data: bytes) -> bool:
    return WORD in data or any(form in data for form in _ENCODED)


# WORD in base64 at each of the three offsets in a group, without the letters that depend on neighbouring bytes.
_ENCODED = [base64.b64encode(bytes(at) + WORD + bytes(-len(WORD + bytes(at)) % 3))[2 * at : -4] for at in range(3)]
