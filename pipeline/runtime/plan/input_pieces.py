"""From inputs to their pieces: files are opened several at a time, and what is left out of them is counted."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from pipeline.sinks.schema import with_plain_types
from pipeline.sources.listing.discovery import Listing
from pipeline.sources.source import ColumnMismatch, Piece, Source
from pipeline.storage import Entry, Reason, Store

OPENED = 16  # files open at the same time during planning, because opening waits for the store


def pieces_of_entries(
    source: Source,
    store: Store,
    entries: Iterable[Entry],
    kept: pa.Schema | None = None,
    found: Listing | None = None,
) -> Iterator[Piece]:
    """Yield the pieces of the entries in their order; files that must be opened are opened several at a time.

    Tables without the columns that the run needs are left out of `found` as it says, unless no file remains.
    """

    def split(entry: Entry) -> list[Piece]:
        if kept is not None and len(kept):
            _check_kept(store, entry, kept, with_plain_types(source.kept(store, entry)))
        return list(source.pieces(store, entry))

    with ThreadPoolExecutor(OPENED) as pool:
        ahead: deque[tuple[Entry, Future[list[Piece]]]] = deque()

        def finished() -> list[Piece]:
            entry, future = ahead.popleft()
            try:
                return future.result()
            except ColumnMismatch as error:
                reason = None if found is None else found.reason_without_column(entry, error)
                if found is None or reason is None:
                    raise
                found.leave_out(entry.key, reason)
                if found.read == 0 and found.complete and not ahead:  # no file is left to read
                    raise
                return []

        try:
            for entry in entries:
                while ahead and (len(ahead) >= 2 * OPENED or ahead[0][1].done()):
                    yield from finished()
                if ahead or source.opens_file(entry):
                    ahead.append((entry, pool.submit(split, entry)))
                else:  # without the overhead of a thread: there may be a million images
                    yield from split(entry)
            while ahead:
                yield from finished()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _check_kept(store: Store, entry: Entry, wanted: pa.Schema, found: pa.Schema) -> None:
    for field_ in wanted if len(found) else ():  # a damaged file has no columns, and gives no rows
        kind = found.field(field_.name).type
        if kind != field_.type and not pa.types.is_null(kind):  # as pandas writes a column of nulls
            raise ColumnMismatch(
                f"{store.uri_of(entry.key)}: column {field_.name!r} has the type {kind}, in the first file "
                f"{field_.type}: a kept column must have one type in all files"
            )


def count_left_out(pieces: Iterable[Piece], found: Listing) -> Iterator[Piece]:
    """Yield the pieces, and count files without units and members of archives as left out; the plan keeps both."""
    for piece in pieces:
        if piece.end == 0:
            found.leave_out(piece.key, Reason.NO_UNITS)
        found.leave_out_members(piece.key, piece.left_out or ())
        yield piece
