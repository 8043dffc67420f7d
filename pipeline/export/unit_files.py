"""Export to a file per unit, whose name comes from its id."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from pipeline.export.destination import INDEX, Destination
from pipeline.export.exported import Exported, Format, Selection
from pipeline.storage import StorageError

Encode: TypeAlias = Callable[[dict[str, Any], Exported], bytes | None]
"""Returns the content of a row's file, None to write none; adds to the notes what it leaves out or changes."""


def unit_file_format(name: str, extension: str, columns: Sequence[str], encode: Encode) -> Format:
    """Return the format with a file per unit, of the values in `columns`; the first one is what a run must have."""

    def write(selection: Selection, destination: Destination) -> Exported:
        return _write(selection, destination, extension, columns, encode)

    return Format(
        name=name, target="folder", check=lambda selection: selection.results.require(columns[0]), write=write
    )


def _write(
    selection: Selection, destination: Destination, extension: str, columns: Sequence[str], encode: Encode
) -> Exported:
    exported = Exported(path=destination.store.uri)
    destination.open_folder()
    for part in selection.each_part():
        # Ids first, so that the large columns of units that are done are not read again.
        units = list(selection.rows(part, ["id", "version"]))
        named = zip(units, destination.name_files(units, extension), strict=True)
        missing = {(unit["id"], unit["version"]): name for unit, name in named if not destination.has(name)}
        exported.rows += len(units)
        exported.present += len(units) - len(missing)
        ids = [unit for unit, _ in missing]
        for row in selection.rows(part, ["id", "version", *columns], ids) if ids else ():
            data = encode(row, exported)
            if data is not None:
                put_file(destination, missing[row["id"], row["version"]], data)
                exported.written += 1
    destination.put_index()
    exported.notes[f"the file of each id: {destination.store.uri_of(INDEX)}"] = 0
    return exported


def put_file(destination: Destination, name: str, data: bytes) -> None:
    """Write a file that `Destination.has` has not found."""
    if not destination.store.put_if_absent(name, data):
        raise StorageError(f"{destination.store.uri_of(name)} was written by another program during the export")
