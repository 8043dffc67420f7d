"""URIs with secrets are refused, and secrets in text are redacted."""

from pathlib import Path

import pytest

from pipeline.storage import AccessError, Store, check_uri, redact

CANARY = "c4n4ry/S3cr3t+value"


@pytest.mark.parametrize(
    "uri",
    [
        "/data/in",
        "relative/folder",
        "/data/a?b=c#d@e:f",
        "file:///data/a b",
        "s3://bucket/key",
        "s3://bucket/a#b@c:d",
        "s3://bucket/img?.jpg",  # a wildcard
        "s3://bucket/*/[ab]?/*.jpg",
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/key",
        "gs://bucket/key",
        "az://container/key",
        "abfss://container@account.dfs.core.windows.net/key",
        "hf://datasets/user/name@main/data",
        "https://host:8080/key",
        "https://host/a@b/12:30/c",
        "s3://bucket/12:30@camera/a.jpg",
        "hf://datasets/user/name@refs/convert/parquet/a:b",
        "//server/share/12:30@camera",
        "./user:pw@host",
        "photos@2026",
    ],
)
def test_uri_without_secrets_is_accepted(uri: str) -> None:
    assert check_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://user:{CANARY}@bucket/key",
        f"s3://user:{CANARY}@@bucket/key",
        f"s3://AKIAIOSFODNN7EXAMPLE:{CANARY}/key",
        "s3://AKIAIOSFODNN7EXAMPLE@bucket/key",
        f"https://host/key?X-Amz-Signature={CANARY}",
        f"https://host/key?{CANARY}",
        f"az://container/key?sv=2020&sig={CANARY}",
        f"s3://bucket/key?anything={CANARY}&more=1",
        f"abfss://container:{CANARY}@account.dfs.core.windows.net/key",
        f"simplecache::s3://user:{CANARY}@bucket/key",
        f"https://bucket/mirror/http://user:{CANARY}@host/key",
        f"s3://bucket/mirror/https:/user:{CANARY}@host/key",
        "https://host/user:S3cr3t@other/key",
        "hf://datasets/user:S3cr3t@name/key",
        f"https://user:{CANARY}%40host/key",
        f"https://user:{CANARY}\uff20host/key",
        f"//user:{CANARY}@host/key",
        "user:S3cr3t@host:key",
    ],
)
def test_uri_with_user_password_or_query_is_refused_without_showing_it(uri: str) -> None:
    for refuse in (check_uri, Store):
        with pytest.raises(AccessError) as caught:
            refuse(uri)
        assert not any(part in str(caught.value) for part in (CANARY, "S3cr3t", "AKIAIOSFODNN7EXAMPLE"))
        assert uri.partition("://")[1] == "" or uri.split("://")[0] in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"Could not connect to http://user:{CANARY}@proxy:3128/",
        "Could not connect to https://c4n4ry-S3cr3t-token@host/",
        f"no config.json in /mirror/https:/user:{CANARY}@host",
        f"https:\\\\user:{CANARY}@host cannot be read",
        f"//user:{CANARY}@host cannot be read",
        f"http://user:{CANARY}%40host cannot be read",
        f"GET https://b.s3.amazonaws.com/k?X-Amz-Credential=x%2F2026&X-Amz-Signature={CANARY}&X-Amz-Date=1",
        f"https://x.blob.core.windows.net/c/b?sv=2022&sig={CANARY}",
        f"https://storage.googleapis.com/b/o?X-Goog-Signature={CANARY}",
        f"aws_secret_access_key = {CANARY}",
        f"AWS_SESSION_TOKEN={CANARY}",
        f'{{"SecretAccessKey": "{CANARY}", "x": 1}}',
        f"{{'secret': '{CANARY}'}}",
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={CANARY};EndpointSuffix=core.windows.net",
        f"Authorization: Bearer {CANARY}",
        f"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261123, Signature={CANARY}",
        f"HF_TOKEN: {CANARY}",
        f"password={CANARY}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
        "The key AKIAIOSFODNN7EXAMPLE does not exist",
        "invalid user token hf_c4n4ryc4n4ryc4n4ryc4n4ry",
        "ya29.c4n4ryc4n4ryc4n4ry is expired",
        "eyJhbGciOiJIUzI1NiJ9.c4n4ryc4n4ry.c4n4ryc4n4ry",
    ],
)
def test_secrets_are_redacted(text: str) -> None:
    found = redact(f"failed: {text}")
    assert found.startswith("failed: ")
    assert "***" in found
    assert not any(part in found for part in ("c4n4ry", "S3cr3t", "AKIAIOSFODNN7EXAMPLE"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, CANARY) for name in ("AWS_SECRET_ACCESS_KEY", "hf_token", "AZURE_STORAGE_KEY", "DATABASE_PASSWORD")),
        ("HTTPS_PROXY", f"http://user:{CANARY.replace('/', '%2F')}@proxy:3128"),
    ],
)
def test_secrets_of_the_environment_are_redacted_by_value(monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    secret = CANARY.replace("/", "%2F") if "%" in value else CANARY
    assert redact(f"the string {secret} was signed") == "the string *** was signed"


def test_secrets_of_the_profiles_are_redacted_by_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profiles = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profiles))
    assert redact(f"the string {CANARY} was signed") == f"the string {CANARY} was signed"
    profiles.write_text(
        f"[one]\naws_secret_access_key = other-secret\n[two]\naws_session_token = {CANARY}\nregion = x\n"
    )
    assert redact(f"the string {CANARY} was signed") == "the string *** was signed"
    assert redact("the string other-secret was signed") == "the string *** was signed"
    profiles.write_text("no profiles at all")
    assert redact("nothing is wrong") == "nothing is wrong"


def test_secret_with_another_as_prefix_is_redacted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", CANARY)
    monkeypatch.setenv("B_TOKEN", CANARY + "-and-more")
    assert redact(f"{CANARY}-and-more") == "***"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/cats/a b#1?.jpg: no file found",
        "http://127.0.0.1:9000/bucket is not reachable",
        "/data/tokens/a.jpg is truncated: 12 of 20 bytes",
        "token 5 of 2048; max_tokens: 2048",
        "abfss://container@account.dfs.core.windows.net/key",
        "design: basic layout",
        "hf://datasets/user/name@main/data",
        "/photos/12:30@camera/a.jpg",
        "s3://bucket//12:30@camera/a.jpg",
    ],
)
def test_other_text_is_not_redacted(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("/data/in/", "/data/in"),
        ("file:///data/in", "/data/in"),
        ("/data/a%20b?c#d ", "/data/a%20b?c#d "),
        ("/", "/"),
        ("s3a://bucket/a//b/", "s3://bucket/a//b"),
        ("S3://bucket", "s3://bucket"),
        ("gcs://bucket/a", "gs://bucket/a"),
    ],
)
def test_uri_is_normalized(given: str, normal: str) -> None:
    assert Store(given).uri == normal
    assert Store(Store(given).uri).uri == normal
    assert Store("/data").uri_of("a b#?%2F") == "/data/a b#?%2F"


@pytest.mark.parametrize("uri", ["", "s3://", "s3:///", "file://", "hf://"])
def test_uri_that_names_nothing_is_refused(uri: str) -> None:
    with pytest.raises(AccessError, match="does not name a folder or bucket"):
        Store(uri)
