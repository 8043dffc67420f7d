"""`run` and `plan`: what `perceiver run` and `perceiver plan` do, for a notebook or a program."""

import os
from typing import Any, TypeAlias

from rich.console import Console

from pipeline.formatting import did_you_mean
from pipeline.report.reported_run import execute_and_report
from pipeline.results import Results
from pipeline.runtime.driver.display import Display
from pipeline.runtime.driver.estimate import Estimate, estimate
from pipeline.runtime.early_checks import check_early
from pipeline.runtime.errors import UsageError
from pipeline.runtime.option_errors import options_of
from pipeline.runtime.options import RunOptions
from pipeline.runtime.records.manifest import Summary
from pipeline.runtime.records.run_file import Run, read_run
from pipeline.storage import Store
from pipeline.terminal import print_line

StrPath: TypeAlias = str | os.PathLike[str]


class RunResult(Results):
    """The results of a finished run.

    Attributes:
        summary: Numbers of units, rows, quarantined units, parts and bytes, and the seconds of this call.
    """

    def __init__(self, *, run: Run, store: Store, summary: Summary) -> None:
        super().__init__(run=run, store=store)
        self.summary = summary


def run(*, task: str, output: StrPath, checkpoint: StrPath, input: StrPath = "", **options: Any) -> RunResult:
    """Predict every unit of INPUT once, write Parquet to OUTPUT, and return the results.

    The same call resumes a run that was stopped and, after a finished one, predicts new files in INPUT. Progress and
    the place of the report are printed on standard error, or below the cell of a notebook.

    A Ray cluster that this process is connected to is used and stays connected; else one is started, or `address`
    connected to, for the time of the call. In the main thread, SIGINT (Ctrl-C, or the stop button of a notebook) and
    SIGTERM raise KeyboardInterrupt after finished work was recorded; in other threads a call cannot be stopped.

    Args:
        task: image-classification, text-classification, fill-mask, optical-flow, multimodal-autoencoding or
            feature-extraction.
        output: Folder or URI for the predictions.
        checkpoint: Hugging Face Hub id, folder or URI with config.json and the weights, or `demo`.
        input: File, folder, glob or URI to read. Omit it with `from_latents`.
        options: Those of `perceiver run`, with underscores: `batch_size=8`, `keep_columns=["stars"]`.

    Raises:
        UsageError: An option is unknown or wrong, INPUT and OUTPUT do not fit, or OUTPUT has a run with other options.
        AccessError: INPUT, OUTPUT or the checkpoint cannot be read or written.
        CheckpointError: The checkpoint cannot be found or read, or is one of another task.
        TooMuchQuarantined: More than `max_quarantine` of the units cannot be predicted; a higher value resumes.
        RunFailed: The run ended early, for example because the disk is full. The same call resumes it.
        StorageError: Storage failed longer than requests are repeated. The same call resumes the run.
        KeyboardInterrupt: The run was stopped. The same call resumes it.
    """
    chosen = _options(task=task, input=input, output=output, checkpoint=checkpoint, **options)
    console = Console(stderr=True)

    def show(line: str | None) -> None:
        if line is not None:
            print_line(line, console=console)

    summary, report = execute_and_report(chosen, show, console=console)
    show(report)
    store = Store(chosen.output)
    return RunResult(run=read_run(store), store=store, summary=summary)


def plan(*, task: str, output: StrPath, checkpoint: StrPath, input: StrPath = "", **options: Any) -> Estimate:
    """Plan a run without starting it, and estimate its time and size from a measured sample.

    `run` with the same arguments then carries out this plan. Arguments and errors are those of `run`.
    """
    chosen = _options(task=task, input=input, output=output, checkpoint=checkpoint, **options)
    return estimate(chosen, Display.of(chosen))


def _options(**values: Any) -> RunOptions:
    """Return the options of a run. Raise UsageError for unknown names and wrong values."""
    for name in values:
        if name not in RunOptions.model_fields:
            meant = did_you_mean(name, RunOptions.model_fields)
            raise UsageError(f"{name} is not an option of perceiver run{meant}")
    paths = {name: os.fspath(value) for name, value in values.items() if isinstance(value, os.PathLike)}
    options = options_of(**{**values, **paths})
    check_early(options)
    return options
