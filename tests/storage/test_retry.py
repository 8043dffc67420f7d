"""Transient errors are retried, others are raised at once, and a lost response is recognized."""

import errno
import logging
import logging.handlers
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.storage import AccessError, StorageError, Store, retry
from tests.faults.faulty_proxy import Answer, Connection, Proxy, Request


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)


def failing(times: int, error: Exception) -> Callable[[], int]:
    """Return a call that fails `times` times and then returns the number of calls."""
    made = []

    def call() -> int:
        made.append(True)
        if len(made) <= times:
            raise error
        return len(made)

    return call


@pytest.mark.parametrize("error", [TimeoutError("stalled"), ConnectionRefusedError(), OSError(errno.EIO, "I/O error")])
def test_transient_error_is_retried(error: Exception) -> None:
    assert retry.with_retry(failing(6, error)) == 7


@pytest.mark.parametrize("error", [PermissionError("no"), OSError(errno.ENOSPC, "full"), ValueError("a mistake")])
def test_permanent_error_is_raised_at_once(error: Exception) -> None:
    call = failing(1, error)
    with pytest.raises(type(error)):
        retry.with_retry(call)
    assert call() == 2, "it was called once before"


def test_deadline_allows_at_least_three_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    with pytest.raises(TimeoutError) as caught:
        retry.with_retry(failing(3, TimeoutError("stalled")))
    assert caught.value.__notes__ == ["3 attempts in 0 s"]
    assert retry.with_retry(failing(2, TimeoutError("stalled"))) == 3


def test_pauses_double_up_to_15_seconds_with_jitter() -> None:
    for tries, seconds in [(1, 0.01), (4, 0.08), (40, 15.0)]:
        found = {retry.pause_seconds(tries) for _ in range(100)}
        assert seconds / 2 <= min(found) < max(found) <= seconds
        assert len(found) > 90


def test_retry_is_logged_once_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not caplog: pytest adds its handlers to Ray Data's logger too, and a run in the same process limits those.
    records = logging.handlers.BufferingHandler(capacity=100)
    monkeypatch.setattr(retry._log, "handlers", [records])
    monkeypatch.setattr(retry, "WARN_AFTER_SECONDS", 0)
    retry.with_retry(failing(3, TimeoutError("https://host/?X-Amz-Signature=canary-secret")))
    (record,) = records.buffer
    assert record.levelno == logging.WARNING
    assert "storage failed 1 times, retrying" in record.getMessage()
    assert "canary-secret" not in record.getMessage()


DENIED = [403, 401, (403, "InvalidAccessKeyId"), (400, "ExpiredToken"), (400, "TokenRefreshRequired")]


@pytest.mark.parametrize("denied", DENIED)
@pytest.mark.parametrize(
    "access",
    [
        lambda store: store.read("key"),
        lambda store: list(store.keys("")),
        lambda store: store.put("key", b""),
        lambda store: store.put_if_absent("key", b""),
        lambda store: store.delete("key"),
    ],
)
def test_denied_request_is_not_retried(s3_proxy, s3, access, denied) -> None:
    store = Store(s3.bucket("denied"))
    s3_proxy.statuses = [denied] * 5
    with pytest.raises(AccessError, match=r"no access when .* s3://denied"):
        access(store)
    assert len(s3_proxy.seen) == 1


def test_missing_credentials_send_no_request(s3_proxy, s3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Store(s3.bucket("none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(AccessError, match="redentials"):
        store.read("key")
    assert s3_proxy.seen == []


def test_every_kind_of_request_is_retried(s3_proxy, s3) -> None:
    store = Store(s3.bucket("again"))
    content = os.urandom(3 << 20)
    store.put("key", content)
    for access, found in [
        (lambda: store.read("key"), content),
        (lambda: store.size("key"), len(content)),
        (lambda: store.entry("key").size, len(content)),
        (lambda: [entry.size for entry in store.entries()], [len(content)]),
        (lambda: store.put("other", b""), None),
        (lambda: store.delete("other"), None),
    ]:
        s3_proxy.statuses = [(503, "SlowDown"), 500, (429, "TooManyRequests"), 502, 504]
        assert access() == found
        assert s3_proxy.statuses == []
    with store.open("key") as file:
        for at in (2 << 20, 0):
            s3_proxy.statuses = [(503, "SlowDown"), 500]
            file.seek(at)
            assert file.read(100) == content[at : at + 100]
            assert s3_proxy.statuses == []


def test_each_page_of_a_listing_is_retried(s3_proxy, s3) -> None:
    uri = s3.bucket("pages")
    for number in range(110):
        s3.client.put_object(Bucket=uri.removeprefix("s3://"), Key=f"{number:04d}", Body=b"")
    names, found = Store(uri).keys(), []
    for number, name in enumerate(names):
        found.append(name)
        if number in (0, 50):  # before the second page
            s3_proxy.statuses = [(500, "InternalError")]
    assert found == [f"{number:04d}" for number in range(110)]
    assert s3_proxy.statuses == []


class Forgetful(Proxy):
    """Lose the responses of two PUTs, truncate the first GET, and fail two HEADs.

    Two, since aiohttp itself retries once after a lost connection.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.left = {"PUT": 2, "GET": 1, "HEAD": 2}

    def handle(self, request: Request, connection: Connection) -> None:
        fault = self.left.get(request.method, 0) > 0
        if fault:
            self.left[request.method] -= 1
        if fault and request.method == "HEAD":
            connection.answer(Answer.failed(503))
            return
        answer = self.forward(request)
        if fault and request.method == "PUT":
            connection.reset()
        else:
            connection.answer(answer, cut=fault)


@pytest.fixture
def forgetful(s3, monkeypatch: pytest.MonkeyPatch):
    with Forgetful(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def test_owner_of_an_object_is_looked_up_with_retries(forgetful, s3) -> None:
    """The response of the put is lost, the retry gets 412, and the look-up of the writer fails twice."""
    store = Store(s3.bucket("ours"))
    assert store.put_if_absent("key", b"ours")
    assert forgetful.left == {"PUT": 0, "GET": 1, "HEAD": 0}
    forgetful.left |= {"HEAD": 2}
    assert not store.put_if_absent("key", b"theirs")
    assert store.read("key") == b"ours"
    assert set(forgetful.left.values()) == {0}


def test_body_cut_short_is_read_again(forgetful, s3) -> None:
    store, content = Store(s3.bucket("cut")), os.urandom(2 << 20)
    store.put("key", content)
    assert store.read("key") == content
    forgetful.left["GET"] = 1
    with store.open("key") as file:
        assert file.read() == content
    assert forgetful.left["GET"] == 0


def test_object_deleted_after_the_conflict_is_a_transient_error(s3_proxy, s3) -> None:
    s3_proxy.statuses = [(412, "PreconditionFailed")]
    with pytest.raises(StorageError, match=r"s3://gone.*was deleted during the write") as caught:
        Store(s3.bucket("gone")).put_if_absent("key", b"")
    assert caught.value.transient
