"""A Ray cluster on another machine needs a token; this machine does not."""

import pytest

from pipeline.runtime.errors import UsageError
from pipeline.runtime.ray_backend.auth import require_token


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
