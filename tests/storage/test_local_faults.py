"""A local or network disk with occasional errors."""

import errno
import io
import os
from pathlib import Path

import pytest

from pipeline.storage import StorageError, StorageFull, Store, retry


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)


class Failing:
    """Make a function of `os` fail `times` times with an errno, before or after it takes effect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int, *, after: bool, times: int = 1) -> None:
        self.number, self.after, self.left = number, after, times
        self.function = getattr(os, name)
        monkeypatch.setattr(os, name, self)

    def __call__(self, *given, **named):
        fails, self.left = self.left > 0, self.left - 1
        if not fails or self.after:
            done = self.function(*given, **named)
        if fails:
            raise OSError(self.number, os.strerror(self.number))
        return done


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["link", "fsync"])
def test_local_put_wins_after_an_error(tmp_path: Path, monkeypatch, name: str, after: bool) -> None:
    store = Store(str(tmp_path))
    store.put_if_absent("folder/before", b"")
    Failing(monkeypatch, name, errno.EIO, after=after)
    assert store.put_if_absent("folder/key", b"ours")
    assert not store.put_if_absent("folder/key", b"ours")
    assert store.read("folder/key") == b"ours"
    assert list((tmp_path / "_run/tmp").iterdir()) == []


def test_full_local_disk_is_not_retried(tmp_path: Path, monkeypatch) -> None:
    fsync = Failing(monkeypatch, "fsync", errno.ENOSPC, after=False, times=9)
    store = Store(str(tmp_path))
    (tmp_path / "_run/tmp").mkdir(parents=True)
    with pytest.raises(StorageFull, match=f"{tmp_path}/key: No space left"):
        store.put_if_absent("key", b"content")
    assert fsync.left == 8
    assert list(store.keys()) == []


def test_read_of_a_local_file_continues_after_a_transient_error(tmp_path: Path, monkeypatch) -> None:
    content = os.urandom(1 << 20)
    (tmp_path / "file").write_bytes(content)
    store, failures = Store(str(tmp_path)), [OSError(errno.EIO, "I/O error"), OSError(errno.EAGAIN, "again")] * 3
    original = retry.with_retry

    def sometimes(call):
        def fails():
            if failures:
                raise failures.pop()
            return call()

        return original(fails)

    monkeypatch.setattr("pipeline.storage.local_folder.with_retry", sometimes)
    monkeypatch.setattr("pipeline.storage.local_file.with_retry", sometimes)
    with store.open("file") as file:
        assert failures == []
        failures.extend([OSError(errno.EIO, "I/O error")] * 2)
        file.seek(1000)
        assert file.read(10) == content[1000:1010]
        failures.append(OSError(errno.EIO, "I/O error"))
        file.seek(500_000)
        assert file.read() == content[500_000:]
        assert failures == []
        file.seek(-3, io.SEEK_END)
        assert file.read() == content[-3:]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_unreadable_local_file_is_named(monkeypatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    with Store("/proc/self").open("mem") as file:
        with pytest.raises(StorageError, match=r"reading /proc/self/mem: Input/output error \(3 attempts") as caught:
            file.read(1)
        assert caught.value.transient
