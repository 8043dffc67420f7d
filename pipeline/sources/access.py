"""Lost access to INPUT, as opposed to single objects that are denied or archived and cost their own units only."""

from collections.abc import Iterable

from pipeline.storage import AccessError, Archived, Denied, Entry, StorageError, Store

DENIED = frozenset({Denied.__name__, Archived.__name__})
"""Names in quarantine of the errors of objects that may not be read."""

_ALL_TRIED = 64  # of the first files; then those whose number is a power of two


def find_witness(store: Store, entries: Iterable[Entry]) -> str:
    """Return the key of a file that can be read, the witness that INPUT is accessible; "" if stores or files fail.

    Raises AccessError if none can be read for want of permission. Few files are tried, spread over the listing.
    """
    denied: list[Denied] = []
    for number, entry in enumerate(entries):
        if number >= _ALL_TRIED and number.bit_count() != 1:
            continue
        try:
            _read_byte(store, entry.key)
        except Denied as error:
            denied.append(error)
        except StorageError:  # says nothing about access
            continue
        else:
            return entry.key
    if denied:
        raise AccessError(f"{store.uri}: none of the files can be read ({len(denied):,} tried): {denied[0]}")
    return ""


def check_witness(store: Store, witness: str) -> None:
    """Raise AccessError if the witness that could be read when the run began is denied too."""
    if not witness:
        return
    try:
        _read_byte(store, witness)
    except Denied as error:
        raise AccessError(f"INPUT can no longer be read: {error}") from None
    except StorageError:  # it was deleted, or its store is busy: no sign of lost access
        return


def _read_byte(store: Store, key: str) -> None:
    with store.open(key) as file:
        file.read(1)
