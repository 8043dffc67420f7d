"""The settings of S3 that the documentation shows have the effect that it tells, in the requests that are sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from pipeline.storage import Store

PAGE = Path(__file__).parents[2] / "docs/usage/command-line.md"
DOCUMENTED = dict(re.findall(r"`((?:AWS|FSSPEC)_\w+)=([^`]+)`", PAGE.read_text()))


@pytest.fixture
def headers(s3, s3_proxy, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict[str, str]]]:
    """`headers(name)`: those of all requests of a store, listed and read (and written) with a documented setting."""
    bucket = s3.bucket("settings")
    s3.client.put_object(Bucket=bucket.removeprefix("s3://"), Key="in/a", Body=b"content", ACL="public-read-write")

    def requests(name: str) -> list[dict[str, str]]:
        monkeypatch.setenv(name, DOCUMENTED[name])
        monkeypatch.setitem(fsspec.config.conf, "s3", {})
        fsspec.config.set_conf_env(fsspec.config.conf, {name: DOCUMENTED[name]} if name.startswith("FSSPEC") else {})
        before, store = len(s3_proxy.seen), Store(f"{bucket}/in")
        assert [entry.key for entry in store.entries()] == ["a"]
        with store.open("a") as file:
            assert file.read() == store.read("a") == b"content"
        if name != "FSSPEC_S3_ANON":
            store.put("b", b"more")
            store.put_if_absent("b", b"other")
        return [headers for _, _, headers, _ in s3_proxy.seen[before:]]

    return requests


def test_every_documented_setting_is_tested() -> None:
    tests = Path(__file__).read_text()
    assert len(DOCUMENTED) == 5
    assert all(f'"{name}"' in tests for name in DOCUMENTED)


def test_public_buckets_are_read_without_credentials(headers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert all("authorization" not in sent for sent in headers("FSSPEC_S3_ANON"))


def test_requester_pays_for_every_request(headers) -> None:
    assert all(sent["x-amz-request-payer"] == "requester" for sent in headers("FSSPEC_S3_REQUESTER_PAYS"))


def test_requests_are_signed_for_the_region(headers, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = f"/{DOCUMENTED['AWS_DEFAULT_REGION']}/s3/aws4_request"
    assert all(scope in sent["authorization"] for sent in headers("AWS_DEFAULT_REGION"))


def test_requests_are_signed_with_the_credentials_of_the_profile(
    headers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        f"[{DOCUMENTED['AWS_PROFILE']}]\naws_access_key_id = id-of-the-profile\naws_secret_access_key = secret\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert all("Credential=id-of-the-profile/" in sent["authorization"] for sent in headers("AWS_PROFILE"))


def test_requests_go_to_the_endpoint(s3, s3_proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"https://[\w.]+:\d+", DOCUMENTED["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_proxy.endpoint)
    uri = s3.bucket("elsewhere")
    Store(uri).put("a", b"content")
    assert [path for _, path, *_ in s3_proxy.seen] == [f"/{uri.removeprefix('s3://')}/a"]
