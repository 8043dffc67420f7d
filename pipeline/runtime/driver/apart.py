"""Check that INPUT and OUTPUT are apart: a run must not read its own predictions."""

from collections.abc import Iterator
from contextlib import suppress

from pipeline.runtime.errors import UsageError
from pipeline.runtime.records.run_file import find_run
from pipeline.sources.listing.outputs_in_input import location, own_folders
from pipeline.storage import AccessError, StorageError, Store
from pipeline.storage.uris import split_scheme


def check_apart(uri: str, output: Store) -> None:
    """Raise UsageError if INPUT is OUTPUT, however it is spelled, or lies in a folder that the run writes to.

    An OUTPUT below INPUT is left out when INPUT is listed.
    """
    inputs = Store(uri)
    if location(inputs.uri) == location(output.uri) or _hold_one_run(inputs, output):
        raise UsageError(
            f"INPUT ({inputs.uri}) and OUTPUT ({output.uri}) are the same folder, so that the next run would read its "
            "own predictions: give another OUTPUT"
        )
    own = {location(folder) for folder in own_folders(output)}
    for folder in _with_parents(inputs.uri):
        if location(folder) in own:
            raise UsageError(
                f"INPUT ({inputs.uri}) lies in {folder}, which this run writes to: give another OUTPUT than "
                f"{output.uri}"
            )


def _with_parents(uri: str) -> Iterator[str]:
    """Yield the URI of a folder and those of the folders above it."""
    scheme, rest = split_scheme(uri)
    names = rest.split("/")
    for count in range(len(names), 0, -1):
        path = "/".join(names[:count]) or "/"
        yield path if scheme is None else f"{scheme}://{path}"


def _hold_one_run(inputs: Store, output: Store) -> bool:
    """Return whether both hold the run.json of one run: an access point and its bucket, for example."""
    with suppress(AccessError, StorageError):  # most inputs hold none, and the listing reports denied access
        found, own = find_run(inputs), find_run(output)
        return found is not None and own is not None and found.run == own.run
    return False
