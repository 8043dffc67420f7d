"""Inputs that are no files, and stores that answer with something else than their objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.runtime.driver.prepare import prepare_run
from pipeline.runtime.options import RunOptions
from pipeline.storage import retry
from tests.faults.damaging_proxy import Damage, DamagingProxy, cut, login_page, without_checksums, without_token
from tests.situations.situation import Ended, Situation, World

ALL = ("--max-quarantine", "1")


def changed_after_planning(change: Callable[[Path], None]) -> Callable[[World], Ended]:
    """Plan four images, change the second one, and run."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(4))
        places = {"input": str(world.input), "output": str(world.output), "checkpoint": str(world.checkpoint)}
        with prepare_run(RunOptions(task="image-classification", shard_size=2, **places)):
            pass
        path = world.input / "0001.png"
        path.unlink()
        change(path)
        return world.run(*ALL)

    return act


def link_outside(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_text("a secret of somebody else")
    path.symlink_to(outside)


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
        act=changed_after_planning(os.mkfifo),
        code=0,
        says="done: 3 rows and 1 quarantined … quarantined: 0001.png: WORLD/in/0001.png is a named pipe: only regular "
        "files are read",
    ),
    "a link to a device took the place of a planned file": Situation(
        act=changed_after_planning(lambda path: path.symlink_to("/dev/zero")),
        code=0,
        says="done: 3 rows and 1 quarantined … quarantined: 0001.png: WORLD/in/0001.png is a device",
    ),
    "a link out of INPUT took the place of a planned file": Situation(
        act=changed_after_planning(link_outside),
        code=0,
        says="done: 3 rows and 1 quarantined … quarantined: 0001.png: WORLD/in/0001.png changed: its version is",
    ),
    "INPUT is a named pipe": Situation(
        act=pipe_as_input, code=2, says="error: INPUT WORLD/in is a named pipe: only regular files and folders are read"
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
