"""An unsuitable OUTPUT is refused before any work."""

import subprocess
import sys

import pytest

from pipeline.storage import AccessError, Store


def test_writable_folder_passes_and_stays_empty(uri: str, s3) -> None:
    store = Store(uri)
    store.check_writable()
    store.check_writable()
    assert list(store._folder.keys("")) == []


def test_store_without_conditional_put_needs_single_writer(s3_proxy, s3) -> None:
    uri = s3.bucket("unconditional")
    s3_proxy.without_header = "If-None-Match"
    with pytest.raises(AccessError, match=f"{uri} does not support conditional writes"):
        Store(uri).check_writable()
    Store(uri, single_writer=True).check_writable()
    assert s3.client.list_objects_v2(Bucket=uri.removeprefix("s3://"))["KeyCount"] == 0


@pytest.mark.parametrize("uri", ["memory://folder", "hf://datasets/user/name", "https://host/folder"])
@pytest.mark.parametrize("single_writer", [False, True])
def test_read_only_schemes_are_refused(uri: str, single_writer: bool) -> None:
    with pytest.raises(AccessError, match=f"{uri}.*cannot be written to"):
        Store(uri, single_writer=single_writer).check_writable()


def test_missing_bucket_and_file_as_folder_are_refused(s3, tmp_path) -> None:
    with pytest.raises(AccessError, match="s3://no-such-bucket-here"):
        Store("s3://no-such-bucket-here/out").check_writable()
    (tmp_path / "file").touch()
    with pytest.raises(AccessError, match=f"{tmp_path}/file/below"):
        Store(str(tmp_path / "file/below")).check_writable()


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [("gs://bucket/a", "gcsfs", "gcs"), ("az://box/a", "adlfs", "azure"), ("s3://bucket/a", "s3fs", "s3")],
)
def test_missing_package_is_named(uri: str, package: str, extra: str) -> None:
    script = (
        f"import sys; sys.modules[{package!r}] = None; from pipeline.storage import *\n"  # None: cannot be imported
        f"try: Store({uri!r}).read('key')\nexcept AccessError as error: print(error)"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output == f"{uri} needs the package {package}: pip install 'perceiver-pipeline[{extra}]'\n"


def test_unknown_scheme_is_named() -> None:
    with pytest.raises(AccessError, match="nonsense://a/b: nonsense:// is not supported; use a folder, s3://"):
        Store("nonsense://a/b").read("key")
