"""One thin module a verb: `python -m jobs.<verb>` is `perceiver <verb>`."""

from jobs.import_path import leave_out_working_directory

leave_out_working_directory()

from jobs import process_signals  # noqa: E402 - nothing is imported from the working directory

if process_signals.is_own_process():
    process_signals.stop_at_once()
