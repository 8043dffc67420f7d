"""Exactly one of several writers of a key wins, and all readers see its content."""

import os
import resource
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.storage import AccessError, StorageError, StorageFull, Store, retry

RACER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pipeline.storage import Store

uri, name = sys.argv[1:]
stores = [Store(uri) for _ in range(4)]
for store in stores:
    assert list(store.keys("")) == []
start = threading.Barrier(4)

def put(number):
    start.wait()
    content = f"{name}.{number} ".encode() * 20_000
    return f"{name}.{number}" if stores[number].put_if_absent("races/one", content) else None

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(4) as threads:
    print(*filter(None, threads.map(put, range(4))), flush=True)
"""


def test_one_of_sixteen_racers_in_four_processes_wins(uri: str) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, uri, f"racer{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    winners = [name for racer in racers for name in racer.communicate(timeout=60)[0].split()]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(winners) == 1
    assert Store(uri).read("races/one") == f"{winners[0]} ".encode() * 20_000


def test_one_writer_wins_even_if_all_write_the_same_content(uri: str) -> None:
    store, start, rounds = Store(uri), threading.Barrier(16), 3 if uri.startswith("s3:") else 100

    def put(_: int) -> list[bool]:
        created = []
        for number in range(rounds):
            start.wait()
            created.append(store.put_if_absent(f"same/{number}", b"the same"))
        return created

    with ThreadPoolExecutor(16) as threads:
        attempts = list(threads.map(put, range(16)))
    assert [sum(created) for created in zip(*attempts, strict=True)] == [1] * rounds


def test_put_replaces_and_deleted_key_is_absent(uri: str) -> None:
    store = Store(uri)
    assert store.put_if_absent("a/key", b"first")
    assert not store.put_if_absent("a/key", b"second")
    store.put("a/key", b"third")
    assert store.read("a/key") == b"third"
    store.delete("a/key")
    store.delete("a/key")  # deleting a missing key is not an error
    assert store.put_if_absent("a/key", b"")
    assert store.read("a/key") == b""


def test_single_writer_puts_without_a_condition(uri: str) -> None:
    store = Store(uri, single_writer=True)
    assert store.put_if_absent("key", b"first")
    assert not store.put_if_absent("key", b"second")
    assert store.read("key") == b"first"


def test_put_with_a_lost_response_wins(s3_proxy, s3) -> None:
    store = Store(s3.bucket("lost"))
    s3_proxy.lose_answers = 1  # the object is stored, and the retry gets 412
    assert store.put_if_absent("key", b"ours")
    assert s3_proxy.lose_answers == 0
    assert not store.put_if_absent("key", b"ours")
    assert store.read("key") == b"ours"


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_temporary_refusal_is_transient(s3_proxy, s3, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    store = Store(s3.bucket("refused"))
    s3_proxy.statuses = [status] * 40
    with pytest.raises(StorageError, match=r"writing 4 bytes to s3://refused.*\(3 attempts in \d s\)") as caught:
        store.put_if_absent("key", b"ours")
    assert caught.value.transient
    assert len(s3_proxy.seen) == 3, "the client library does not retry"
    s3_proxy.statuses = []
    assert store.put_if_absent("key", b"ours")


def test_stalled_request_times_out(s3_proxy, s3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.time_limits.MAX_LATENCY_SECONDS", 0.3)
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0)
    store = Store(s3.bucket("stalled"))
    s3_proxy.stalled = threading.Event()
    with pytest.raises(StorageError, match=r"s3://stalled.*: no response in time \(3 attempts") as caught:
        store.put_if_absent("key", b"ours")
    s3_proxy.stalled.set()
    assert caught.value.transient


def test_local_put_leaves_no_temporary_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put_if_absent("key", b"first")
    store.put_if_absent("key", b"second")
    store.put("key", b"third")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        store.put_if_absent("file/below", b"no folder")
    assert list((tmp_path / "_run/tmp").iterdir()) == []


def test_disk_full_names_path_and_bytes_and_leaves_nothing(tmp_path: Path) -> None:
    store, limits = Store(str(tmp_path)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(StorageFull, match=f"writing 2097152 bytes to {tmp_path}/predictions/part") as caught:
            store.put_if_absent("predictions/part", bytes(2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not caught.value.transient
    assert list((tmp_path / "_run/tmp").iterdir()) == []
    assert list(store.keys("")) == []


def test_partial_file_is_never_visible(tmp_path: Path) -> None:
    """A writer that is killed leaves at most a temporary file, which is never listed."""
    script = (
        "import sys, resource, signal; from pipeline.storage import Store;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
        "Store(sys.argv[1]).put_if_absent('predictions/part', bytes(2 << 20))"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode < 0
    assert len(list((tmp_path / "_run/tmp").iterdir())) == 1
    assert list(Store(str(tmp_path)).keys("")) == []
    assert Store(str(tmp_path)).put_if_absent("predictions/part", b"whole")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_file_system_without_hard_links_is_refused(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if Path(elsewhere).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is the same file system")
        (tmp_path / "_run").mkdir()
        (tmp_path / "_run/tmp").symlink_to(elsewhere)
        with pytest.raises(AccessError, match=f"{tmp_path}.*no hard link .* --single-writer"):
            Store(str(tmp_path)).put_if_absent("key", b"content")
        assert list(Path(elsewhere).iterdir()) == []


def test_local_put_syncs_content_before_the_link_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync, target = [], os.fsync, tmp_path / "predictions/part"

    def spy(handle: int) -> None:
        fsync(handle)
        synced.append((str(Path(f"/proc/self/fd/{handle}").readlink()), target.exists()))

    monkeypatch.setattr("os.fsync", spy)
    assert Store(str(tmp_path)).put_if_absent("predictions/part", b"content")
    files = [(path, visible) for path, visible in synced if path.startswith(f"{tmp_path}/_run/tmp/")]
    assert [visible for _, visible in files] == [False]
    assert synced[-1] == (str(target.parent), True)
    assert (str(tmp_path), False) in synced  # the name of the new folder `predictions`


def test_one_put_is_one_request(s3_proxy, s3) -> None:
    store = Store(s3.bucket("large"))
    assert store.put_if_absent("part", bytes(120 << 20))  # s3fs would use a multipart upload
    assert [method for method, *_ in s3_proxy.seen] == ["PUT"]
