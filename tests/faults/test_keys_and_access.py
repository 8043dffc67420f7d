"""Objects with unusual keys, and a bucket that is deleted between plan and load."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.driver.run import Driver, execute
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.options import RunOptions
from pipeline.storage import Store
from tests.faults.conftest import Outcome
from tests.runtime.test_every_task import parquet, photograph, png
from tests.sources.test_webdataset_source import tar

Run = Callable[..., Outcome]

NAMES = (
    *(
        "with space.png",
        "With Space.png",
        " .png",
        "a#b.png",
        "what?.png",
        "100%.png",
        "%20%2F.png",
        "größe 🙂.png",
        "a//b.png",
    ),
    *("up/../x.png", "./y.png", "a+b&c=d.png", "quote'\".png", "back\\slash.png", "[a]*.png"),
)


def put(client: Any, bucket: str, files: dict[str, bytes]) -> None:
    client.create_bucket(Bucket=bucket)
    for key, data in files.items():
        client.put_object(Bucket=bucket, Key=f"in put/{key}", Body=data)


def delete_bucket(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=found["Key"])
    client.delete_bucket(Bucket=bucket)


def test_unusual_keys_are_read_and_do_not_name_output_files(
    run: Run, s3: Any, checkpoint: Path, tmp_path: Path
) -> None:
    image = png(photograph(1))
    files = dict.fromkeys(NAMES, image) | {
        "größe #1?.tar": tar([("0.png", image), ("1 #?.png", image)]),
        "b//c%.parquet": parquet({"image": [{"bytes": image, "path": None}, {"bytes": b"", "path": None}]}),
        "what?/d #.csv": "image\ngröße 🙂 #?.png\n".encode(),
        "what?/größe 🙂 #?.png": image,
    }
    uri = s3.bucket("odd")
    put(s3.client, uri.removeprefix("s3://"), files)
    output = Store(f"{uri}/out put #?")
    found = run("image-classification", checkpoint, f"{uri}/in put", output=output.uri, shard_size=4)
    units = [*NAMES, "größe #1?.tar#0", "größe #1?.tar#1 #?", "b//c%.parquet#0", "what?/d #.csv#6"]
    assert found.rows.keys() == {*units, "what?/größe 🙂 #?.png"}
    named = {f"{uri}/in put/{key}" for key in files if not key.endswith(".csv")}  # its row names another file
    assert {row["uri"] for row in found.rows.values()} == named
    assert found.rows["what?/d #.csv#6"]["uri"] == f"{uri}/in put/what?/größe 🙂 #?.png"
    assert list(found.quarantined) == ["b//c%.parquet#1"]
    assert len({row["score"] for row in found.rows.values()}) == 1, "the same image each time"
    name = re.compile(r"(predictions|quarantine)/part-[0-9a-f]+-\d{8}\.parquet|_run/[\w./-]+|README\.md")
    assert all(name.fullmatch(key) for key in output.keys(""))


def test_archived_images_are_quarantined_and_predicted_once_restored(
    run: Run, s3: Any, checkpoint: Path, tmp_path: Path
) -> None:
    bucket = s3.bucket("cold").removeprefix("s3://")
    put(s3.client, bucket, {f"{number}.png": png(photograph(number)) for number in range(4)})
    cold = {"Bucket": bucket, "Key": "in put/0.png"}
    s3.client.put_object(**cold, Body=png(photograph(0)), StorageClass="GLACIER")
    found = run("image-classification", checkpoint, f"s3://{bucket}/in put", shard_size=2)
    assert found.rows.keys() == {"1.png", "2.png", "3.png"}
    assert found.quarantined["0.png"]["error"] == "Archived"
    assert "archived and must be restored first" in found.quarantined["0.png"]["message"]
    s3.client.restore_object(**cold, RestoreRequest={"Days": 1})
    places = {"input": f"s3://{bucket}/in put", "output": str(tmp_path / "out"), "checkpoint": str(checkpoint)}
    options = RunOptions(task="image-classification", shard_size=2, max_quarantine=1, retry_quarantined=True, **places)
    summary = execute(options, console=Console(file=io.StringIO()))
    assert (summary.units, summary.rows, summary.quarantined) == (4, 4, 0)


def test_deleted_bucket_fails_the_run_which_resumes_once_it_is_back(
    run: Run, s3: Any, checkpoint: Path, tmp_path: Path
) -> None:
    bucket = s3.bucket("lost").removeprefix("s3://")
    files = {f"{number}.png": png(photograph(number)) for number in range(6)}
    put(s3.client, bucket, files)
    places = {"input": f"s3://{bucket}/in put", "output": str(tmp_path / "out"), "checkpoint": str(checkpoint)}
    with prepare_run(RunOptions(task="image-classification", shard_size=2, **places)) as ready:
        delete_bucket(s3.client, bucket)
        driver = Driver(ready, Display(quiet=True))
        driver.resume()
        pattern = rf"no access when reading s3://{bucket}/in put/\d\.png: .*; 3 of 3 shards are left; the same command"
        with pytest.raises(RunFailed, match=pattern):
            driver.work()
    assert not list(Store(str(tmp_path / "out")).keys("quarantine/")), "no unit is quarantined for it"
    put(s3.client, bucket, files)
    found = run("image-classification", checkpoint, f"s3://{bucket}/in put", shard_size=2)
    assert found.rows.keys() == files.keys()
    assert found.summary.segments == 1
