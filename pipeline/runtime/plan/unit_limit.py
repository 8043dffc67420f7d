"""The limit on the units of a plan: it may cut an input, and a later plan continues with the rest of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from pipeline.runtime.plan.plan_files import Segment, last_piece, planned_pieces
from pipeline.sources.source import Piece, Source
from pipeline.storage import Store, is_same_version


@dataclass(frozen=True, kw_only=True)
class PartlyPlanned:
    """An input that a limit may have cut: its version, and how many of its first units are planned."""

    version: str
    units: int


def partly_planned(output: Store, segments: Iterable[Segment]) -> dict[str, PartlyPlanned]:
    """Return, by key, the inputs that ended a limited segment and whose rest no later segment planned."""
    found: dict[str, PartlyPlanned] = {}
    for segment in (each for each in segments if not each.is_retry and not each.is_rebuilt):
        last = last_piece(output, segment)
        cut = {last.key} if last.most is not None else set()
        pieces: dict[str, list[Piece]] = {}
        for piece in planned_pieces(output, segment, found.keys() | cut):
            pieces.setdefault(piece.key, []).append(piece)
        for key, some in pieces.items():
            before = found.pop(key, None)
            if key in cut:
                units = sum(piece.units or piece.about or 0 for piece in some)
                if before is not None and some[0].skip is not None:
                    units += before.units
                found[key] = PartlyPlanned(version=last.version, units=units)
    return found


def skip_planned_units(
    pieces: Iterable[Piece], partly_planned: Mapping[str, PartlyPlanned], source: Source, store: Store
) -> Iterator[Piece]:
    """Yield the pieces without the units that are planned already."""
    left: dict[str, int | None] = {}
    for piece in pieces:
        planned = partly_planned.get(piece.key)
        skip = (
            left.get(piece.key, planned.units) if planned and is_same_version(planned.version, piece.version) else None
        )
        if skip is None:
            yield piece
            continue
        count = piece.units if piece.units is not None else count_units(source, store, piece, skip + 1)
        if count <= skip:
            left[piece.key] = skip - count
        else:
            left[piece.key] = None
            yield _skip_units(piece, skip)


def limit_units(pieces: Iterable[Piece], remaining: int | None, source: Source, store: Store) -> Iterator[Piece]:
    """Yield the pieces of the first `remaining` units (at least 1, None: all); open those with unknown units."""
    if remaining is None:
        yield from pieces
        return
    for piece in pieces:
        if piece.units is None:
            count = count_units(source, store, piece, remaining)
            yield replace(piece, about=count, most=remaining)
        else:
            count = min(piece.units, remaining)
            yield replace(piece, units=count, most=count)
        remaining -= count
        if remaining <= 0:
            return


def count_units(source: Source, store: Store, piece: Piece, most: int) -> int:
    """Count the units of a piece by opening it, up to `most`."""
    skip = piece.skip or 0
    return sum(1 for _ in islice(source.units(store, piece), skip, skip + most))


def _skip_units(piece: Piece, skip: int) -> Piece:
    """Return the piece without its first `skip` units."""
    known = {name: getattr(piece, name) for name in ("units", "about")}
    return replace(piece, skip=skip, **{name: max(1, n - skip) for name, n in known.items() if n is not None})
