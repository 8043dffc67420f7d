"""Listings of OUTPUT that are empty or of an earlier time, and what is no file in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.faults.damaging_proxy import empty_listing
from tests.situations.inputs import bucket_behind_a_proxy, run_over
from tests.situations.situation import Ended, Situation, World

PREDICTIONS, PLAN = "prefix=predictions%2F&encoding-type=url", "prefix=_run%2Fplan%2Fsegment-&encoding-type=url"
OTHERS = tuple(f"prefix={name}%2F&encoding-type=url" for name in ("_run%2Freceipts", "_run%2Fattempts", "quarantine"))


def empty_listings(*endings: str, more: tuple[str, ...] = ()) -> Callable[[World], Ended]:
    """Run twice, the second time with empty listings of the paths with these endings. more: options of that run."""

    def act(world: World) -> Ended:
        output = world.request.getfixturevalue("s3").bucket("out")
        with bucket_behind_a_proxy(world) as (bucket, proxy):
            assert run_over(world, bucket, output).code == 0
            proxy.start(empty_listing, left=10**6, ending=endings)
            return run_over(world, bucket, output, *more)

    return act


def pipe_in_place_of(pattern: str) -> Callable[[World], Ended]:
    """Run, put a named pipe in place of a file of OUTPUT, and run."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(4))
        assert world.run().code == 0
        [path, *_] = sorted(Path(world.output).glob(pattern))
        path.unlink()
        os.mkfifo(path)
        return world.run()

    return act


def refused_pipe(name: str) -> str:
    return (
        f"error: WORLD/out/{name} is a named pipe: only regular files are read: remove it, then run the command again"
    )


LISTINGS = {
    "the listing of the parts is empty": Situation(
        act=empty_listings(PREDICTIONS), code=0, says="resuming: 2 of 2 shards done done: 4 rows and 0 quarantined"
    ),
    "the listing of the plan is empty": Situation(
        act=empty_listings(PLAN), code=0, says="resuming: 2 of 2 shards done done: 4 rows and 0 quarantined"
    ),
    "all listings of OUTPUT are empty": Situation(
        act=empty_listings(PREDICTIONS, PLAN, *OTHERS), code=0, says="done: 4 rows and 0 quarantined, of 4 units"
    ),
    "all listings of the OUTPUT of a run with other settings are empty": Situation(
        act=empty_listings(PREDICTIONS, PLAN, *OTHERS, more=("--top-k", "1")),
        code=2,
        says="contains predictions of a run with other settings: options.top_k was",
    ),
    "a pipe took the place of a part": Situation(
        act=pipe_in_place_of("predictions/*"), code=2, says=refused_pipe("predictions/part-…-00000000.parquet")
    ),
    "a pipe took the place of run.json": Situation(
        act=pipe_in_place_of("_run/run.json"), code=2, says=refused_pipe("_run/run.json")
    ),
    "a pipe took the place of a segment": Situation(
        act=pipe_in_place_of("_run/plan/segment-*"), code=2, says=refused_pipe("_run/plan/segment-00000.json")
    ),
}
