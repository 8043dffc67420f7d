"""`perceiver report`: write report.html about a run, from OUTPUT."""

from typing import Annotated

import typer

from jobs.cli_support import app
from pipeline.terminal import print_line


def command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="OUTPUT of the run: a folder or URI.")],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FILE", help="Path or URI of the report. Default: report.html in OUTPUT."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Known labels to compare with. Default: the column known_label.", show_default=False
        ),
    ] = None,
) -> None:
    """Write report.html: what the run in OUTPUT predicted, how fast, and what is quarantined.

    One file without scripts that opens offline. It shows a sample of the predictions with their originals, which are
    read again from INPUT. A run that is not finished has a report too.

    Examples:

    perceiver report labels/

    perceiver report s3://bucket/labels --to labels.html

    perceiver report labels/ --labels labels.csv
    """
    from pipeline.report.report import write_report
    from pipeline.report.target import Target
    from pipeline.results import open_run
    from pipeline.sources.label_files import read_label_file

    known = None if labels is None else read_label_file(labels)
    uri = write_report(open_run(output), None if to is None else Target.at(to), known)
    print_line(uri)


if __name__ == "__main__":
    app(command)()
