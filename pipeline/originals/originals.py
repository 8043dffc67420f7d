"""What a unit was before it was predicted: a small image, frames, a clip or a text, read again from INPUT.

Inputs are untrusted, and may be gone. They are read in a sandbox with limits, and whatever goes wrong with one of them
is the reason that the page shows in its place.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Event, Timer
from typing import TypeAlias

from pipeline.originals.preview import InputReader, Preview, read_previews
from pipeline.originals.source import input_reader
from pipeline.runtime.plan.plan_files import pieces_in_row, planned_rows, read_segments
from pipeline.runtime.records.origins import Origins
from pipeline.runtime.records.run_file import Run
from pipeline.sandbox import Died, Failed, ResourceLimits, Sandbox, run_items
from pipeline.sources.source import Piece
from pipeline.storage import Store, redact

UNIT_SECONDS = 20.0  # time limit of reading one unit
UNIT_MEMORY = 2 << 30
TOTAL_SECONDS = 60.0  # time limit of reading all of them, with waits for storage
MAX_ORIGINALS = 80


@dataclass(frozen=True)
class Absent:
    """Why the original of a unit is not shown."""

    reason: str


Original: TypeAlias = Preview | Absent


@dataclass(frozen=True)
class UnitRef:
    """A unit whose original is wanted, and the shard that read it."""

    id: str
    uri: str
    shard: int


def read_originals(output: Store, run: Run, units: Iterable[UnitRef]) -> dict[str, Original]:
    """Return the original of each unit, by id; at most MAX_ORIGINALS of them are read."""
    wanted = {unit.id: unit for unit in units}
    if not wanted:
        return {}
    found: dict[str, Original] = {}
    try:
        reader = input_reader(run)
        if isinstance(reader, str):
            return {unit_id: Absent(reader) for unit_id in wanted}
        chosen = dict(list(wanted.items())[:MAX_ORIGINALS])
        places = _places(output, Origins.of(run), chosen.values())
        found = _read(reader, places)
    except Exception as error:  # noqa: BLE001 - a page without images is better than none
        return {unit_id: found.get(unit_id, Absent(_reason(error))) for unit_id in wanted}
    missing = Absent("it is not in INPUT as the run planned it")
    more = Absent(f"a report shows at most {MAX_ORIGINALS} originals")
    return {unit_id: found.get(unit_id, missing if unit_id in chosen else more) for unit_id in wanted}


@dataclass(frozen=True)
class _Place:
    """A piece of INPUT, the folder that its key is relative to, and the units wanted of it."""

    folder: str
    piece: Piece
    ids: tuple[str, ...]


def _places(output: Store, origins: Origins, units: Iterable[UnitRef]) -> list[_Place]:
    """Return the pieces of their shards that may hold the units."""
    by_shard: dict[int, list[UnitRef]] = defaultdict(list)
    for unit in units:
        by_shard[unit.shard].append(unit)
    places = []
    for shard, row in planned_rows(output, read_segments(output), by_shard, ["pieces"]):
        pieces = pieces_in_row(row)
        keys = {piece.key for piece in pieces}
        wanted: dict[tuple[str, str | None], list[str]] = defaultdict(list)
        for unit in by_shard[shard]:
            folder, _ = origins.place(unit.uri)
            wanted[folder, origins.planned_key(unit.id, unit.uri, keys)].append(unit.id)
        for piece in pieces:
            places += [
                _Place(folder, piece, tuple(ids)) for (folder, key), ids in wanted.items() if key in (None, piece.key)
            ]
    return places


def _read(reader: InputReader, places: Sequence[_Place]) -> dict[str, Original]:
    """Read the units of each place in a sandbox, one after another, until the time is over."""
    found: dict[str, Original] = {}
    expired = Event()
    sandbox = Sandbox(ResourceLimits(seconds=UNIT_SECONDS, memory_bytes=UNIT_MEMORY))

    def expire() -> None:
        expired.set()
        sandbox.close()

    timer = Timer(TOTAL_SECONDS, expire)
    timer.daemon = True
    timer.start()
    try:
        with closing(sandbox):
            for place in places:
                wanted = frozenset(unit_id for unit_id in place.ids if unit_id not in found)
                if wanted and not expired.is_set():
                    found |= _read_place(sandbox, reader, place, wanted, expired)
    finally:
        timer.cancel()
    if expired.is_set():
        late = Absent(f"reading originals took more than {TOTAL_SECONDS:.0f} s, the limit of a report")
        found = {unit_id: late for place in places for unit_id in place.ids} | {
            unit_id: each for unit_id, each in found.items() if isinstance(each, Preview)
        }
    return found


def _read_place(
    sandbox: Sandbox, reader: InputReader, place: _Place, wanted: frozenset[str], expired: Event
) -> dict[str, Original]:
    """Return what the wanted units of a piece are, as far as they are in it."""
    call = partial(read_previews, reader, place.folder, place.piece, wanted)
    found: dict[str, Original] = {}
    try:
        for step in run_items(lambda done: sandbox.run(call, done), attempts=1):
            if isinstance(step, Failed):
                if step.item not in wanted or expired.is_set():  # the source crashed, or the process was ended
                    found |= {unit_id: Absent(_reason(step.error)) for unit_id in wanted - found.keys()}
                    break
                found[step.item] = Absent(_reason(step.error))
            else:
                unit_id, preview, reason = step
                found[unit_id] = Absent(reason) if preview is None else preview
    except (Died, MemoryError) as error:  # before the first unit
        return {unit_id: Absent(_reason(error)) for unit_id in wanted} | found
    except Exception as error:  # noqa: BLE001 - of a source, which raises anything
        return {unit_id: Absent(_reason(error)) for unit_id in wanted} | found
    return found


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {redact(str(error)) or 'no reason was given'}"
