"""Files of `_run/` that somebody deleted, cut or changed, or that another version wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.situations.parts import REPAIRED, after, assert_exact, cut, finish, part
from tests.situations.situation import Ended, Situation, World


def the(pattern: str) -> Callable[[Path], Path]:
    """Return what finds the first file of OUTPUT with this name."""
    return lambda output: min(output.glob(pattern))


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00garbage")


def of_a_later_version(path: Path) -> None:
    """Add a field that this version does not know to the objects of a file."""
    values = json.loads(path.read_bytes())
    values.get("files", [values])[0]["quality"] = 3
    path.write_text(json.dumps(values))


def of_another_kind(path: Path) -> None:
    path.write_text("[]")


def half(path: Path) -> None:
    cut(path, path.stat().st_size // 2, path.stat().st_size)


FILES = {
    "run.json": "_run/run.json",
    "a segment": "_run/plan/segment-00000.json",
    "a plan file": "_run/plan/*[0-9a-f].parquet",
    "a receipts file": "_run/receipts/*",
    "the listing": "_run/listing.json",
    "a crash count": "_run/attempts/x.json",
    "a driver's marker": "_run/drivers/x.json",
}
JSON = ("run.json", "a segment", "the listing", "a driver's marker")
HARMS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "is garbage": (garbage, tuple(FILES)),
    "was cut": (half, ("run.json", "a segment", "a receipts file")),
    "is of a later version": (of_a_later_version, ("a segment", "a driver's marker")),
    "is of another kind": (of_another_kind, JSON),
}


def harmed(file: str, harm: Callable[[Path], object], *more: str) -> Callable[[World], Ended]:
    is_new = file.endswith("x.json")

    def change(output: Path) -> None:
        if is_new:
            path = output / file
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        harm(the(file)(output))

    def act(world: World) -> Ended:
        ended = after(change, *more)(world)
        if is_new and ended.code != 0:
            (world.output / file).unlink()
        return ended

    return act


def shown(file: str, harm: Callable[[Path], object]) -> Callable[[World], Ended]:
    """Finish a run, change a file of OUTPUT, and return what `status` says."""

    def act(world: World) -> Ended:
        finish(world)
        path = world.output / file
        if file.endswith("x.json"):
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        harm(the(file)(world.output))
        ended = world.command("status", str(world.output))
        if file.startswith("_run/drivers/"):
            path.unlink()
        return ended

    return act


def planned_later(change: Callable[[Path], object], *more: str) -> Callable[[World], Ended]:
    """Run a second time, over more images; then change OUTPUT and run again."""

    def act(world: World) -> Ended:
        finish(world)
        world.write_images(world.input, range(6, 11))
        second = world.run("--max-quarantine", "1")
        assert second.code == 0, second.printed
        change(world.output)
        world.write_images(world.input, range(11, 13))
        ended = world.run("--max-quarantine", "1", *more)
        if ended.code == 0:
            assert_exact(world)
        return ended

    return act


PLAN_LOST: dict[str, tuple[Callable[[Path], object], str]] = {
    "the plan was deleted": (
        lambda output: shutil.rmtree(output / "_run/plan"),
        "WORLD/out/_run/plan/ is not the whole plan: predictions/part- … is not in it",
    ),
    "the plan's first segment was deleted": (
        lambda output: the("_run/plan/segment-00000.json")(output).unlink(),
        "WORLD/out/_run/plan/segment-00000.json is missing, although _run/plan/segment-00001.json exists",
    ),
    "the plan's last segment was deleted": (
        lambda output: the("_run/plan/segment-00001.json")(output).unlink(),
        "WORLD/out/_run/plan/ is not the whole plan: predictions/part- … is not in it",
    ),
    "a plan file was deleted": (
        lambda output: the("_run/plan/*[0-9a-f].parquet")(output).unlink(),
        "is missing, although the plan names it",
    ),
    "a part and the plan were deleted": (
        lambda output: [part(output, 1).unlink(), shutil.rmtree(output / "_run/plan")],
        "WORLD/out/_run/plan/ is not the whole plan",
    ),
    "all parts but the first, and the plan, were deleted": (
        lambda output: [*(part(output, shard).unlink() for shard in range(1, 6)), shutil.rmtree(output / "_run/plan")],
        "WORLD/out/_run/plan/ is not the whole plan",
    ),
    "all of _run was deleted": (
        lambda output: shutil.rmtree(output / "_run"),
        "WORLD/out/predictions/ holds 6 parts of another run … _run/run.json was lost, give it with --repair",
    ),
}

RECORDS = {
    **{
        f"{name} {words}": Situation(
            act=harmed(FILES[name], harm), code=2, says="WORLD/out/_run/ … is damaged, or of another version of"
        )
        for words, (harm, names) in HARMS.items()
        for name in names
        if name != "a plan file"
    },
    **{
        f"{name} {words}, --repair": Situation(
            act=harmed(FILES[name], harm, "--repair"),
            code=0,
            says=f"set aside: … to WORLD/out/_run/set-aside/ … {REPAIRED}",
        )
        for words, (harm, names) in HARMS.items()
        for name in names
    },
    **{
        f"{name} {words}, status": Situation(act=shown(FILES[name], harm), code=2, says="WORLD/out/_run/")
        for words, (harm, names) in HARMS.items()
        for name in names
    },
    **{
        f"{name}, status": Situation(
            act=shown("_run/run.json", lambda path, change=change: change(path.parents[1])), code=2, says=says
        )
        for name, (change, says) in PLAN_LOST.items()
        if "all" not in name and "segment" not in name
    },
    "a plan file is garbage": Situation(
        act=harmed(FILES["a plan file"], garbage), code=2, says="changed: its digest is"
    ),
    **{name: Situation(act=planned_later(change), code=2, says=says) for name, (change, says) in PLAN_LOST.items()},
    **{
        f"{name}, --repair": Situation(
            act=planned_later(change, "--repair"), code=0, says="rebuilt … done: 12 rows and 1 quarantined, of 13 units"
        )
        for name, (change, _) in PLAN_LOST.items()
    },
}
