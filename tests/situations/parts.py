"""Files in predictions/ and quarantine/ that somebody else deleted, cut, copied, renamed or added."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import runs_in_process
from tests.situations.situation import Ended, Situation, World

IMAGES, DAMAGED = 6, 3  # in three shards; the second has the damaged one
REPAIRED = "done: 5 rows and 1 quarantined, of 6 units"


def part(output: Path, shard: int) -> Path:
    """Return the part of a shard."""
    return next(output.glob(f"predictions/part-*-{shard:08d}.parquet"))


def quarantine(output: Path) -> Path:
    """Return the only part in quarantine/."""
    return next(output.glob("quarantine/*.parquet"))


def cut(path: Path, begin: int, end: int) -> None:
    """Remove some bytes of a file."""
    data = path.read_bytes()
    path.write_bytes(data[:begin] + data[end:])


def after(change: Callable[[Path], object], *more: str) -> Callable[[World], Ended]:
    """Finish a run, change its OUTPUT, give the same command again, and hold what is there against the images."""

    def act(world: World) -> Ended:
        finish(world)
        change(world.output)
        ended = world.run("--max-quarantine", "1", *more)
        if ended.code == 0:
            assert_exact(world)
        return ended

    return act


def meanwhile(change: Callable[[Path], object]) -> Callable[[World], Ended]:
    """Change OUTPUT when two of three shards are committed; then give the same command with --repair."""

    def act(world: World) -> Ended:
        world.write_images(world.input, range(IMAGES), (DAMAGED,))
        load = runs_in_process.load

        def changed(*arguments: Any, **named: Any) -> Any:
            if len(list(world.output.glob("predictions/*"))) == 2:
                change(world.output)
            return load(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs_in_process, "load", changed)
            ended = world.run("--max-quarantine", "1")
        assert not (world.output / "_run/manifest.json").exists()
        again = world.run("--max-quarantine", "1", "--repair")
        assert again.code == 0, again.printed
        assert_exact(world)
        return ended

    return act


def mended(*flags: str, is_lost: bool = False) -> Callable[[World], Ended]:
    """Mend the damaged image, predict it again with these flags, and return what `status` says, after a check of
    quarantine/. is_lost: the plan is deleted, and rebuilt, after that."""

    def act(world: World) -> Ended:
        finish(world)
        images = sorted(world.input.iterdir())
        images[DAMAGED].write_bytes(images[DAMAGED - 2].read_bytes())
        again = world.run(*flags, "--max-quarantine", "1")
        assert again.code == 0, again.printed
        if is_lost:
            shutil.rmtree(world.output / "_run/plan")
        last = world.run("--repair")
        assert last.code == 0, last.printed
        assert not list(world.output.glob("quarantine/*"))
        assert len(rows_in(world.output / "predictions")) == IMAGES
        return world.command("status", str(world.output))

    return act


def finish(world: World) -> None:
    """Run over six images, one of which is damaged."""
    world.write_images(world.input, range(IMAGES), (DAMAGED,))
    first = world.run("--max-quarantine", "1")
    assert first.code == 0, first.printed


def assert_exact(world: World) -> None:
    """Assert that each image is a row or in quarantine, once, to a reader of both folders."""
    rows, lost = rows_in(world.output / "predictions"), rows_in(world.output / "quarantine")
    names = sorted(path.name for path in world.input.iterdir())
    assert (sorted(rows), lost) == ([name for name in names if name != names[DAMAGED]], [names[DAMAGED]])


def rows_in(folder: Path) -> list[str]:
    """Return the ids in the Parquet files of a folder."""
    files = (pq.read_table(io.BytesIO(path.read_bytes())) for path in folder.rglob("*.parquet"))
    return [row["id"] for file in files for row in file.to_pylist()]


def refused_and_repaired(change: Callable[[Path], object], says: str) -> dict[str, Situation]:
    """Return the situation without and with --repair."""
    remedy = "The same command with --repair moves such files to _run/set-aside/ and predicts their shards again"
    return {
        "": Situation(act=after(change), code=2, says=f"{says} … {remedy}"),
        ", --repair": Situation(
            act=after(change, "--repair"), code=0, says=f"set aside: 1 file … to WORLD/out/_run/set-aside/ … {REPAIRED}"
        ),
    }


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a part was cut": (
        lambda output: cut(part(output, 1), -100, -1),
        "WORLD/out/predictions/ holds a file that is no part of this run: … 00000001.parquet is not a part that this "
        "project wrote",
    ),
    "a part was cut in the middle": (
        lambda output: cut(part(output, 1), 50, 60),
        "00000001.parquet is damaged: bytes of it are missing",
    ),
    "a part is garbage": (lambda output: part(output, 1).write_bytes(b"garbage"), "is not a part that this project"),
    "a part is empty": (lambda output: part(output, 1).write_bytes(b""), "is not a part that this project wrote"),
    "a part was replaced by that of another shard": (
        lambda output: shutil.copy(part(output, 0), part(output, 1)),
        "00000001.parquet is a copy of the part of shard 0 of run",
    ),
    "a part was copied beyond the plan": (
        lambda output: shutil.copy(part(output, 0), str(part(output, 0)).replace("00000000", "00000009")),
        "00000009.parquet is a copy of the part of shard 0",
    ),
    "a part was copied under another name": (
        lambda output: shutil.copy(part(output, 0), output / "predictions/copy.parquet"),
        "WORLD/out/predictions/copy.parquet is not a part of this run",
    ),
    "a part was copied into a folder": (
        lambda output: shutil.copytree(output / "predictions", output / "predictions/old", ignore=lambda *_: _[1][1:]),
        "WORLD/out/predictions/old/part- … is not a part of this run",
    ),
    "a part of another run was copied into predictions": (
        lambda output: shutil.copy(part(output, 1), output / "predictions/part-0123abcd-00000007.parquet"),
        "WORLD/out/predictions/part-0123abcd-00000007.parquet is a part of another run",
    ),
    "a strange file is in quarantine": (
        lambda output: shutil.copy(part(output, 1), output / "quarantine/notes.parquet"),
        "WORLD/out/quarantine/notes.parquet is not a part of this run",
    ),
}

PARTS = {
    **{
        f"{name}{suffix}": situation
        for name, (change, says) in WRONG.items()
        for suffix, situation in refused_and_repaired(change, says).items()
    },
    "a part was deleted while the run worked": Situation(
        act=meanwhile(lambda output: part(output, 0).unlink()),
        code=1,
        says="error: 1 part of WORLD/out deleted while the run worked (predictions/part- … the same command resumes",
    ),
    "a part was cut while the run worked": Situation(
        act=meanwhile(lambda output: cut(part(output, 0), 100, 200)),
        code=1,
        says="error: WORLD/out/predictions/ holds a file that is no part of this run: … bytes of it are missing",
    ),
    "a file was added while the run worked": Situation(
        act=meanwhile(lambda output: shutil.copy(part(output, 0), output / "predictions/copy.parquet")),
        code=1,
        says="error: WORLD/out/predictions/ holds a file that is no part of this run: … copy.parquet is not a part",
    ),
    "a part was deleted": Situation(
        act=after(lambda output: part(output, 1).unlink()),
        code=0,
        says=f"1 part is gone from predictions/ since the last run: predicting again … 2 of 3 shards done … {REPAIRED}",
    ),
    "two parts changed places": Situation(
        act=after(
            lambda output: [
                part(output, 0).rename(output / "x"),
                part(output, 1).rename(str(part(output, 2)).replace("00000002", "00000000")),
                (output / "x").rename(str(part(output, 2)).replace("00000002", "00000001")),
            ]
        ),
        code=2,
        says="holds 2 files that are no parts of this run: … 00000000.parquet is a copy of the part of shard 1",
    ),
    "a part was restored from a backup": Situation(
        act=after(lambda output: part(output, 1).write_bytes(part(output, 1).read_bytes())),
        code=0,
        says=f"resuming: 3 of 3 shards done … {REPAIRED}",
    ),
    "all receipts were deleted": Situation(
        act=after(lambda output: shutil.rmtree(output / "_run/receipts")), code=0, says=REPAIRED
    ),
    "quarantine was deleted": Situation(
        act=after(lambda output: shutil.rmtree(output / "quarantine")), code=0, says=REPAIRED
    ),
    "a quarantine part is garbage": Situation(
        act=after(lambda output: quarantine(output).write_bytes(b"garbage")), code=0, says=REPAIRED
    ),
    "a quarantine part was copied to that of a shard without quarantined units": Situation(
        act=after(
            lambda output: shutil.copy(quarantine(output), str(quarantine(output)).replace("00000001", "00000002"))
        ),
        code=0,
        says=REPAIRED,
    ),
    **{
        f"a quarantined image was mended, {' '.join(flags)}{', and the plan was lost' if is_lost else ''}": Situation(
            act=mended(*flags, is_lost=is_lost), code=0, says="rows │ 6 … quarantined │ 0"
        )
        for flags in (("--retry-quarantined",), ("--changed", "redo"))
        for is_lost in (False, True)
    },
    "notes of a person are in predictions": Situation(
        act=after(lambda output: (output / "predictions/notes.txt").write_text("seen")), code=0, says=REPAIRED
    ),
}
