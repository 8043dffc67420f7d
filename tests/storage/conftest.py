"""Folders of each writable kind of store."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["local", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder on a local disk, then in a bucket."""
    if request.param == "local":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('s3').bucket('store')}/some/folder"


@pytest.fixture
def forbidden() -> Iterator[Path]:
    """A folder that is read-only, with an unreadable `file`. Root gives up its privileges for the test."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "file").touch(mode=0)
        Path(folder).chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        yield Path(folder)
        os.seteuid(user)
        Path(folder).chmod(0o755)
