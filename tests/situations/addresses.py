"""Addresses that must not be asked, secrets that must not be shown, and connections that are cut."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.storage import retry
from tests.checkpoints.test_download import Outage
from tests.checkpoints.test_web_checkpoints import WebServer
from tests.situations.situation import Ended, Situation, World

SECRET = "c4n4ryS3cr3t"
REFUSED = "error: a URI must not contain a user, password or query string; … "
LIKE_URI = "looks like a URI, but does not begin with a scheme and ://"
OUT_OF_INPUT = "only files in INPUT are read, by paths relative to the table"


@contextmanager
def unasked() -> Iterator[str]:
    """Yield host and port of a server that must not be connected to during the block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.settimeout(0.1)
        try:
            connection, _ = server.accept()
        except TimeoutError:
            return
        connection.close()
        raise AssertionError("it was connected to")


def with_address(place: str, uri: str) -> Callable[[World], Ended]:
    """Run with a URI, in which HOST is a server that must not be asked, as INPUT, OUTPUT or the checkpoint."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(1))
        with unasked() as host:
            places = {"INPUT": str(world.input), "OUTPUT": str(world.output), "checkpoint": str(world.checkpoint)}
            places[place] = uri.replace("HOST", host)
            flags = ("--checkpoint", places["checkpoint"], "--no-report", "--trusted-inputs")
            ended = world.command("run", "image-classification", places["INPUT"], places["OUTPUT"], *flags)
        assert SECRET not in ended.printed
        assert not world.output.exists()
        return Ended(ended.code, ended.printed.replace(host, "HOST"))

    return act


def manifest(world: World, host: str, other: str) -> None:
    """Write an image to INPUT, and a table that names it and files elsewhere: on the disk, a host, another bucket."""
    world.write_images(world.input, [1])
    world.write_images(world.folder, [7])
    outside = world.folder / "0007.png"
    paths = [
        "0001.png",
        str(outside),
        f"file://{outside}",
        "../0007.png",
        f"http://{host}/a.png",
        f"//{host}/a.png",
        other,
    ]
    lines = [json.dumps({"image": path}) for path in paths]
    (world.input / "labels.jsonl").write_text("\n".join(lines) + "\n")


def manifest_in_a_bucket(world: World) -> Ended:
    s3 = world.request.getfixturevalue("s3")
    bucket, other = (s3.bucket(name) for name in ("images", "others"))
    with unasked() as host:
        manifest(world, host, f"{other}/0001.png")
        for path in world.input.iterdir():
            for each in (bucket, other):
                s3.client.upload_file(str(path), each.removeprefix("s3://"), path.name)
        return predict(world, bucket)


def manifest_on_a_web_server(world: World) -> Ended:
    with unasked() as host, served(world.folder) as web:
        manifest(world, host, "s3://others/0001.png")
        return predict(world, f"{web}/in")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yield the URI of a web server of a folder."""
    with WebServer(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.uri.rpartition("/")[0]
        server.shutdown()


def predict(world: World, uri: str) -> Ended:
    flags = ("--checkpoint", str(world.checkpoint), "--no-report", "--trusted-inputs", "--max-quarantine", "1")
    return world.command("run", "image-classification", uri, str(world.output), *flags)


def cut_download(world: World) -> Ended:
    """Run over one image with a checkpoint in a bucket, whose download is cut; then nobody answers for a second."""
    world.write_images(world.input, range(1))
    s3, patch = (world.request.getfixturevalue(name) for name in ("s3", "monkeypatch"))
    patch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    patch.setenv("PERCEIVER_CACHE", str(world.folder / "cache"))
    bucket = s3.bucket("models")
    for path in world.checkpoint.iterdir():
        s3.client.upload_file(str(path), bucket.removeprefix("s3://"), path.name)
    with Outage(s3.endpoint, 1.0, cut=2) as outage:
        patch.setenv("AWS_ENDPOINT_URL", outage.endpoint)
        flags = ("--checkpoint", bucket, "--no-report", "--trusted-inputs")
        ended = world.command("run", "image-classification", str(world.input), str(world.output), *flags)
    assert outage.resets > 1
    return ended


ADDRESSES = {
    "a manifest in a bucket names files elsewhere": Situation(
        act=manifest_in_a_bucket,
        code=0,
        says=f"done: 2 rows and 6 quarantined … is an absolute path: {OUT_OF_INPUT}",
    ),
    "a manifest on a web server names files elsewhere": Situation(
        act=manifest_on_a_web_server,
        code=0,
        says=f"done: 2 rows and 6 quarantined … is an absolute path: {OUT_OF_INPUT}",
    ),
    **{
        f"{place} with a password": Situation(
            act=with_address(place, f"http://user:{SECRET}@HOST/x"),
            code=2,
            says=f"{REFUSED}http://***@HOST/x",
        )
        for place in ("INPUT", "OUTPUT", "checkpoint")
    },
    "a password further on in a URI": Situation(
        act=with_address("INPUT", f"http://HOST/mirror/https:/user:{SECRET}@example.com/x"),
        code=2,
        says=f"{REFUSED}http://***@example.com/x",
    ),
    "a password without a scheme": Situation(
        act=with_address("INPUT", f"//user:{SECRET}@HOST/x"),
        code=2,
        says=f"{REFUSED}***@HOST/x; to name a local path, put ./ before it",
    ),
    "a chain of addresses": Situation(
        act=with_address("INPUT", f"zip://a.txt::http://user:{SECRET}@HOST/a.zip"),
        code=2,
        says="error: chained URIs are not supported: zip://***@HOST/a.zip; unpack or copy the files",
    ),
    "OUTPUT that looks like a URI": Situation(
        act=with_address("OUTPUT", "s3:/bucket/out"), code=2, says=f"error: 's3:/bucket/out' {LIKE_URI}"
    ),
    "OUTPUT on a web server": Situation(
        act=with_address("OUTPUT", "http://HOST/out"),
        code=2,
        says="error: http://HOST/out: http:// cannot be written to; use a folder, s3://, gs:// or az://",
    ),
    "no repository on the Hub": Situation(
        act=with_address("INPUT", "hf://photos"),
        code=2,
        says="error: hf://photos does not name a repository: use hf://datasets/USER/NAME or hf://USER/NAME",
    ),
    "the download of the checkpoint is cut": Situation(act=cut_download, code=0, says="done: 1 row"),
}
