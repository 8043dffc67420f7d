"""Files in OUTPUT that somebody else changed, deleted, copied or added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.situations.situation import Ended, Situation, World


def changed(change: Callable[[Path], None], *more: str) -> Callable[[World], Ended]:
    """Finish a run over six images in three shards, change its OUTPUT, and give the same command again."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(6), (3,))
        first = world.run("--max-quarantine", "1")
        assert first.code == 0, first.printed
        change(world.output)
        return world.run("--max-quarantine", "1", *more)

    return act


def part(output: Path, shard: int) -> Path:
    """Return the part of a shard."""
    return next(output.glob(f"predictions/part-*-{shard:08d}.parquet"))


PARTS = {
    "a part was deleted": Situation(
        act=changed(lambda output: part(output, 1).unlink()),
        code=0,
        says="resuming: 2 of 3 shards done … done: 5 rows and 1 quarantined",
    ),
    "a part of another run was copied into predictions": Situation(
        act=changed(lambda output: part(output, 1).rename(output / "predictions/part-0123abcd-00000007.parquet")),
        code=2,
        says="WORLD/out/predictions/ holds 1 part of another run (predictions/part-0123abcd-00000007.parquet)",
    ),
}
