"""One thin module a verb: `python -m jobs.<verb>` is `perceiver <verb>`."""

from jobs.import_path import leave_out_working_directory

leave_out_working_directory()
