"""Nothing is lost or duplicated on a store that fails every fifth request."""

import json
import random
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.storage import Missing, Store, retry
from tests.faults.faulty_proxy import COUNTS, KINDS

THREADS = 8


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retry, "MAX_PAUSE_SECONDS", 0.05)


def operate(store: Store, thread: int, operations: int) -> dict[str, bytes]:
    """Run random operations on keys of this thread, check each result, and return the expected final contents."""
    chance, there = random.Random(thread), {}
    for number in range(operations):
        key = f"{thread}/{chance.randrange(6)}"
        content = f"{thread} {number} ".encode() * chance.choice([1, 20_000])
        match chance.choice(["put", "put_if_absent", "read", "open", "size", "delete", "entries"]):
            case "put":
                store.put(key, content)
                there[key] = content
            case "put_if_absent":
                assert store.put_if_absent(key, content) == (key not in there)
                there.setdefault(key, content)
            case "delete":
                store.delete(key)
                there.pop(key, None)
            case "entries":
                found = {entry.key: entry.size for entry in store.entries(f"{thread}/")}
                assert found == {name: len(data) for name, data in there.items()}
            case "size" if key in there:
                assert store.size(key) == len(there[key])
            case "open" if key in there:
                with store.open(key) as file:
                    file.seek(3)
                    assert file.read() == there[key][3:]
            case _ if key in there:
                assert store.read(key) == there[key]
            case _:
                with pytest.raises(Missing):
                    store.read(key)
    return there


def test_five_hundred_operations_lose_nothing(faulty_s3, s3) -> None:
    uri = s3.bucket("operations")
    proxy = faulty_s3(rate=0.2, seed=7, stall=0.1)
    store = Store(uri)
    with ThreadPoolExecutor(THREADS) as threads:
        there = list(threads.map(lambda thread: operate(store, thread, 63), range(THREADS)))
    expected = {key: content for one in there for key, content in one.items()}
    listed = s3.client.list_objects_v2(Bucket=uri.removeprefix("s3://"), MaxKeys=1000)
    assert {item["Key"] for item in listed["Contents"]} == expected.keys()
    for key, content in expected.items():
        assert s3.client.get_object(Bucket=uri.removeprefix("s3://"), Key=key)["Body"].read() == content
    assert proxy.counts["requests"] > 500
    assert proxy.counts["faults"] > 0.15 * proxy.counts["requests"]
    assert all(proxy.counts[str(kind)] for kind in KINDS), "each kind of fault came up"


def test_one_of_eight_writers_wins_and_all_read_its_content(faulty_s3, s3) -> None:
    uri, start, keys = s3.bucket("race"), threading.Barrier(THREADS), [f"{number}" for number in range(10)]
    proxy = faulty_s3(rate=0.6, seed=11, kinds=("lost", "lost", "reset"))  # often twice in a row
    store = Store(uri)

    def put(thread: int) -> tuple[list[bool], list[bytes]]:
        won, seen = [], []
        for key in keys:
            start.wait()
            won.append(store.put_if_absent(key, f"{thread}".encode()))
            seen.append(store.read(key))
        return won, seen

    with ThreadPoolExecutor(THREADS) as threads:
        ends = list(threads.map(put, range(THREADS)))
    for place in range(len(keys)):
        [winner] = [thread for thread, (won, _) in enumerate(ends) if won[place]]
        assert {seen[place] for _, seen in ends} == {f"{winner}".encode()}
    assert proxy.counts["lost"] > 10


def test_check_writable_passes(faulty_s3, s3) -> None:
    uri = s3.bucket("probe")
    proxy = faulty_s3(rate=0.4, seed=3, kinds=("lost", 500, "reset"))
    for _ in range(5):
        Store(f"{uri}/out").check_writable()
    assert proxy.counts["lost"]
    assert "Contents" not in s3.client.list_objects_v2(Bucket=uri.removeprefix("s3://"))


def test_proxy_runs_as_a_process_and_counts(s3, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.faults.faulty_proxy",
        "--upstream",
        s3.endpoint,
        "--rate",
        "0.3",
        "--seed",
        "7",
    ]
    with subprocess.Popen(
        [*command, "--stall", "0.1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as proxy:
        endpoint = f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        uri = s3.bucket("process")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        operate(Store(uri), 0, 40)
        with urllib.request.urlopen(endpoint + COUNTS) as answer:
            counts = json.load(answer)
        proxy.communicate("", timeout=20)  # it ends when its input does
    assert proxy.returncode == 0
    assert counts["requests"] > counts["faults"] > 5
    assert sum(count for kind, count in counts.items() if kind not in ("requests", "faults")) == counts["faults"]
