"""Inputs that are no files, and stores that answer with something else than their objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions
from pipeline.storage import retry
from tests.faults.damaging_proxy import Damage, DamagingProxy, cut, login_page, without_checksums, without_token
from tests.situations.situation import Ended, Situation, World

ALL = ("--max-quarantine", "1")


def replaced_after_planning(make: Callable[[Path], None]) -> Callable[[World], Ended]:
    """Plan four images, make something in place of the second one, and run."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(4))
        plan(world)
        path = world.input / "0001.png"
        path.unlink()
        make(path)
        return world.run(*ALL)

    return act


def plan(world: World) -> None:
    places = {"input": str(world.input), "output": str(world.output), "checkpoint": str(world.checkpoint)}
    with prepare_run(RunOptions(task="image-classification", shard_size=2, **places)):
        pass


def link_outside(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_text("a secret of somebody else")
    path.symlink_to(outside)


def changed_in_the_middle(world: World) -> Ended:
    """Plan two images, one of 6 MB, change a few bytes in the middle of it, and run."""
    world.write_images(world.input, range(1))
    path = world.input / "large.bmp"
    Image.new("RGB", (1500, 1400)).save(path)
    plan(world)
    with path.open("r+b") as file:
        file.seek(3_000_001)  # in none of the samples of its digest
        file.write(b"line")
    return world.run(*ALL)


def row_that_names(path: str) -> Callable[[World], Ended]:
    """Run over a table of two rows, of which the second one names this path."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(1))
        (world.input / "device").symlink_to("/dev/zero")
        table = world.input / "table.csv"
        table.write_text(f"image\n0000.jpg\n{path}\n")
        flags = ("--checkpoint", str(world.checkpoint), "--no-report", "--trusted-inputs", *ALL)
        return world.command("run", "image-classification", str(table), str(world.output), *flags)

    return act


def trickling(world: World) -> Ended:
    """Run over a bucket one of whose objects comes byte by byte."""
    patch = world.request.getfixturevalue("monkeypatch")
    patch.setattr("pipeline.storage.time_limits.MAX_LATENCY_SECONDS", 2.0)
    patch.setattr(retry, "RETRY_SECONDS", 0)
    with bucket_behind_a_proxy(world) as (bucket, proxy):
        proxy.trickles = True
        proxy.start(lambda answer: answer, left=10**6, ending="/0001.png")
        return run_over(world, bucket, str(world.output))


def device_as_input(world: World) -> Ended:
    return world.command(
        "run", "image-classification", "/dev/zero", str(world.output), "--checkpoint", str(world.checkpoint)
    )


def pipe_as_input(world: World) -> Ended:
    os.mkfifo(world.input)
    return world.run()


def damaged(damage: Damage, *, ending: str) -> Callable[[World], Ended]:
    """Run over four images in a bucket, behind a proxy that damages the answers to GET of paths with that ending."""

    def act(world: World) -> Ended:
        with bucket_behind_a_proxy(world) as (bucket, proxy):
            proxy.start(damage, left=10**6, ending=ending)
            return run_over(world, bucket, str(world.output))

    return act


@contextmanager
def bucket_behind_a_proxy(world: World) -> Iterator[tuple[str, DamagingProxy]]:
    """Yield a bucket with four images, and the proxy in front of all buckets."""
    world.write_images(world.input, range(4))
    s3, patch = (world.request.getfixturevalue(name) for name in ("s3", "monkeypatch"))
    patch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    bucket = s3.bucket("images")
    for path in world.input.iterdir():
        s3.client.upload_file(str(path), bucket.removeprefix("s3://"), path.name)
    with DamagingProxy(s3.endpoint) as proxy:
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield bucket, proxy


def run_over(world: World, bucket: str, output: str, *more: str) -> Ended:
    """Run `perceiver run` over a bucket in this process."""
    flags = ("--checkpoint", str(world.checkpoint), "--shard-size", "2", "--no-report", "--trusted-inputs", *ALL)
    return world.command("run", "image-classification", bucket, output, *flags, *more)


INPUTS = {
    "a named pipe took the place of a planned file": Situation(
        act=replaced_after_planning(os.mkfifo),
        code=0,
        says="done: 3 rows and 1 quarantined … quarantined: 0001.png: WORLD/in/0001.png is a named pipe: only regular "
        "files are read",
    ),
    "a link to a device took the place of a planned file": Situation(
        act=replaced_after_planning(lambda path: path.symlink_to("/dev/zero")),
        code=0,
        says="done: 3 rows and 1 quarantined … quarantined: 0001.png: WORLD/in/0001.png is a device",
    ),
    "a link out of INPUT took the place of a planned file": Situation(
        act=replaced_after_planning(link_outside),
        code=0,
        says="done: 3 rows and 1 quarantined … quarantined: 0001.png: WORLD/in/0001.png changed: its version is",
    ),
    "INPUT is a named pipe": Situation(
        act=pipe_as_input, code=2, says="error: INPUT WORLD/in is a named pipe: only regular files and folders are read"
    ),
    "INPUT is a device": Situation(
        act=device_as_input, code=2, says="error: INPUT /dev/zero is a device: only regular files and folders are read"
    ),
    "a row names a link to a device": Situation(
        act=row_that_names("device"),
        code=0,
        says="done: 1 row and 1 quarantined … quarantined: table.csv#15: WORLD/in/device is a device: only regular",
    ),
    "a row names a file outside of INPUT": Situation(
        act=row_that_names("../outside"),
        code=0,
        says="done: 1 row and 1 quarantined … quarantined: table.csv#15: '../outside' is not a path of a file in the",
    ),
    "a few bytes in the middle of a large file changed": Situation(
        act=changed_in_the_middle,
        code=0,
        says="done: 1 row and 1 quarantined … quarantined: large.bmp: WORLD/in/large.bmp changed: its version is",
    ),
    "a store gives an object byte by byte": Situation(
        act=trickling,
        code=0,
        says="done: 3 rows and 1 quarantined … quarantined: 0001.png: … no response in time (3 attempts",
        is_slow=True,
    ),
    "a store gives an object by half": Situation(
        act=damaged(lambda answer: cut(without_checksums(answer)), ending="/0001.png"),
        code=0,
        says="done: 3 rows and 1 quarantined … quarantined: 0001.png: s3://images… what was received is not the object",
    ),
    "a proxy answers every request with a page": Situation(
        act=damaged(login_page, ending=""),
        code=1,
        says="error: s3://images… the answer has no IsTruncated, so it is not that of an S3 store: something between",
    ),
    "a listing lacks the token to continue": Situation(
        act=damaged(without_token, ending="encoding-type=url"),
        code=1,
        says="error: the listing of s3://images… does not continue after '0003.png', although the store says",
    ),
}
