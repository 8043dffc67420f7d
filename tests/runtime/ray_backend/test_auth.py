"""A Ray cluster on another machine needs a token; a local cluster gets one."""

import os
import re
from pathlib import Path

import pytest

from pipeline.runtime.errors import UsageError
from pipeline.runtime.ray_backend.auth import provide_token, require_token


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "ray://head:10001", "http://head.example:8265", "[fd00::7]:6379"])
def test_cluster_on_another_machine_without_a_token_is_refused(address, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UsageError, match="no token is set: set RAY_AUTH_MODE=token"):
        require_token(address)
    for mode in ("token", "disabled"):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        require_token(address)


@pytest.mark.parametrize("address", [None, "auto", "local", "127.0.0.1:6379", "localhost:6379", "http://[::1]:8265"])
def test_cluster_on_this_machine_needs_no_token(address, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    require_token(address)


@pytest.fixture
def token_in(monkeypatch: pytest.MonkeyPatch):
    """`token_in(home)`: the token in the environment of a local cluster that is about to start."""

    def provide(home: Path) -> str:
        monkeypatch.setenv("HOME", str(home))
        provide_token()
        return os.environ.get("RAY_AUTH_TOKEN", "")

    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    return provide


def test_ray_makes_the_token_of_a_local_cluster_where_home_can_be_written(token_in, tmp_path):
    assert token_in(tmp_path) == ""
    (tmp_path / ".ray/auth_token").write_text("made earlier")
    assert token_in(tmp_path) == ""
    assert [path.name for path in tmp_path.rglob("*")] == [".ray", "auth_token"]


def test_local_cluster_gets_a_token_where_home_cannot_be_written(token_in, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    token = token_in(tmp_path / "file/home")
    assert re.fullmatch("[0-9a-f]{64}", token)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the user's own")
    assert token_in(tmp_path / "file/home") == "the user's own"
