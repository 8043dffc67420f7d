"""`perceiver probe`: fit a linear probe to stored embeddings, for labels that the checkpoint does not know."""

from enum import StrEnum
from typing import Annotated

import typer

from jobs.cli_support import app
from pipeline.terminal import print_line
from pipeline.visible import shell_command


class _Pooling(StrEnum):
    """How the latents of a unit become its features."""

    mean = "mean"
    statistics = "statistics"


def command(
    features: Annotated[
        str, typer.Argument(metavar="FEATURES", help="OUTPUT of a run of feature-extraction, or of one with --latents.")
    ],
    probe: Annotated[str, typer.Argument(metavar="PROBE", help="New folder for the probe.")],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="CSV, JSON Lines or Parquet with the columns id and label, or an export of Label Studio. "
            "Default: the column known_label of FEATURES.",
            show_default=False,
        ),
    ] = None,
    pooling: Annotated[
        _Pooling,
        typer.Option(help="Fit to the mean of the latents, or to mean, deviation and maximum, which need --latents."),
    ] = _Pooling.mean,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Fit to the rows for which this is true.", show_default=False)
    ] = None,
) -> None:
    """Fit a linear probe to the embeddings of units whose labels are known.

    It is multinomial logistic regression. The regularization is chosen by cross-validation, the accuracy is that of
    units that were held out, and scores are calibrated. Then --probe predicts these labels for all units.

    Examples:

    perceiver run feature-extraction photos/ features/ --checkpoint REF

    perceiver probe features/ probe/ --labels labels.csv

    perceiver run image-classification photos/ labelled/ \\
      --checkpoint REF --probe probe/
    """
    from pipeline.heads.probe import Probe
    from pipeline.results import open_run
    from pipeline.storage import check_uri
    from pipeline.storage.schemes import require_writable

    require_writable(check_uri(probe))
    Probe.check_new(probe)
    results = open_run(features)
    fitted = results.fit_probe(labels, pooling.value, where)
    fitted.probe.save(probe)
    for line in fitted.describe():
        print_line(line)
    print_line(probe)
    ref = str(results.run.record.get("checkpoint", "REF"))
    places = [results.run.input or "INPUT", "OUTPUT", "--checkpoint", ref, "--probe", probe]
    print_line(f"next: {shell_command(['perceiver', 'run', 'feature-extraction', *places])}")


if __name__ == "__main__":
    app(command)()
