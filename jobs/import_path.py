"""The import path of a verb: nothing is imported from the working directory.

`python -m jobs.run`, and an empty entry in PYTHONPATH, put the working directory before the installed packages: a
`numpy.py` that lies there would then run in place of NumPy, here and in the processes that Ray starts.
"""

import os
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[1]


def leave_out_working_directory() -> None:
    """Remove the working directory from `sys.path` and PYTHONPATH.

    If it is a checkout of this project, it stays as the last entry, after the installed packages.
    """
    try:
        folder = Path.cwd().resolve()
    except FileNotFoundError:  # it was deleted, so nothing lies in it
        return
    is_checkout = folder == _PROJECT
    sys.path[:] = [*_without(sys.path, folder), *([str(folder)] if is_checkout else [])]
    if "PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = os.pathsep.join(_without(os.environ["PYTHONPATH"].split(os.pathsep), folder))


def _without(entries: list[str], folder: Path) -> list[str]:
    """Return the entries as absolute paths without the folder."""
    paths = (Path(entry).absolute() for entry in entries)
    return [str(path) for path in paths if path.resolve() != folder]
