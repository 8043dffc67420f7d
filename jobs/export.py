"""`perceiver export`: write predictions in the format of another tool."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jobs.cli_support import app
from pipeline.formatting import count, counted
from pipeline.runtime.errors import RunFailed, UsageError
from pipeline.storage import StorageError
from pipeline.terminal import print_line

if TYPE_CHECKING:
    from pipeline.export.exported import Exported

_FORMATS = "flo, kitti, flow-video, mp4, wav, csv, jsonl, dataset, mistakes, queue or duplicates"


def command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="OUTPUT of the run: a folder or URI.")],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="New folder for the files; for tables a new file.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help=f"{_FORMATS}.", show_default=False)],
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Export the rows for which this is true: score < 0.5")
    ] = None,
    unit: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Export this unit. Repeatable.", show_default=False)
    ] = None,
    ids: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Export the units in this text file, one id per line.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Columns of csv and jsonl, such as id,label. Default: all but arrays and media."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Known labels for dataset, mistakes and queue. Default: the column known_label."
        ),
    ] = None,
    units: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="Units of a queue. Default: 100.")
    ] = None,
) -> None:
    """Export predictions to the format of another tool.

    The same command continues an export that was stopped. Existing files are never overwritten.

    Examples:

    perceiver export flow/ flow-files/ --to flo

    perceiver export flow/ colors/ --to flow-video --where "id like 'drive.mp4#%'"

    perceiver export labels/ uncertain.csv --to csv \\
      --where "score < 0.5" --columns id,label,score

    perceiver export labels/ wrong.csv --to mistakes --labels labels.csv

    perceiver export labels/ next.csv --to queue --count 200
    """
    from pipeline.export.export import export
    from pipeline.results import open_run

    shown = (TextColumn("exporting"), BarColumn(), MofNCompleteColumn(), TextColumn("parts"))
    console = Console(stderr=True)
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        try:
            exported = export(
                open_run(output),
                dest,
                to,
                ids=_ids(unit, ids),
                where=where,
                columns=None if columns is None else [name.strip() for name in columns.split(",") if name.strip()],
                labels=labels,
                count=units,
                on_part=lambda done, total: progress.update(task, completed=done, total=total),
            )
        except StorageError as error:
            raise RunFailed(f"{error}; the same command continues the export") from None
    for line in _lines(exported):
        print_line(line)


def _ids(units: list[str] | None, file: Path | None) -> list[str] | None:
    """Return the ids on the command line and in the file; None without either."""
    if not units and file is None:
        return None
    lines: list[str] = []
    if file is not None:
        try:
            lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--ids ({file}) must be a text file in UTF-8 with an id per line: {error}") from None
        if not lines:
            raise UsageError(f"--ids ({file}) has no ids: write one per line")
    return [*(units or ()), *lines]


def _lines(exported: "Exported") -> list[str]:
    files = f"{counted(exported.written, 'file')} written"
    files += f", {count(exported.present)} there already" if exported.present else ""
    notes = [f"{count(number)} {note}" if number else note for note, number in exported.notes.items()]
    return [f"{files}, {counted(exported.rows, 'row')}", *notes, exported.path]


if __name__ == "__main__":
    app(command)()
