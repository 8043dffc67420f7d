"""`perceiver demo`: run every task with the shipped checkpoints on inputs whose answers are known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli_support import app
from pipeline.formatting import count, counted, duration
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.storage.uris import normalise_uri, split_scheme
from pipeline.terminal import PlainTable, print_line, print_table

if TYPE_CHECKING:
    from pipeline.demo.samples import Sample


def command(
    output: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="Local folder for samples and predictions.")
    ] = "demo-output",
) -> None:
    """Run every task on a few images, texts and videos with known answers, without any download.

    The models are small ones that the package contains, trained on other inputs.

    Example:

    perceiver demo demo-output
    """
    from pipeline.demo.samples import write_samples
    from pipeline.report.report import report_line
    from pipeline.runtime.ray_backend.connect import ray_connection

    scheme, path = split_scheme(normalise_uri(output))
    if scheme is not None:
        raise UsageError(f"{output} is not a local folder; the demo writes to this machine only")
    folder = Path(path)
    try:
        samples = write_samples(folder / "samples")
    except ImportError as error:
        raise UsageError(
            "the demo requires scikit-image and scikit-learn: pip install 'perceiver-pipeline[demo]'"
        ) from error
    with ray_connection(None):
        for sample in samples:
            _run(sample, folder)
    print_line(
        "Predict your own files in the same way: perceiver run image-classification photos/ labels/ "
        "--checkpoint deepmind/vision-perceiver-fourier"
    )
    for sample in samples:
        print_line(report_line(str(folder / sample.task)))


def _run(sample: "Sample", output: Path) -> None:
    """Run one task and print what was asked and what came out."""
    from pipeline.checkpoints.shipped import DEMO
    from pipeline.demo.answers import describe
    from pipeline.runtime.driver.run import execute

    options = RunOptions(
        task=sample.task,
        input=str(output / "samples" / sample.folder),
        output=str(output / sample.task),
        checkpoint=DEMO,
        **sample.options,
    )
    summary = execute(options)
    done = f"{counted(summary.rows, 'row')}, {count(summary.quarantined)} quarantined, {duration(summary.seconds)}"
    lines, verdict = describe(sample, output / sample.task)
    table = PlainTable(title=f"{sample.task}: {sample.question}", show_header=False)
    for left, right in lines:
        table.add_row(left, right)
    print_table(table)
    print_line(f"{verdict} ({done})")
    print_line("")


if __name__ == "__main__":
    app(command)()
