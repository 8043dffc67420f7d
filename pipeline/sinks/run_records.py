"""Files of `_run/`: one that cannot be read ends a command with a sentence that names it."""

from collections.abc import Callable
from typing import TypeVar

from pipeline.storage import AccessError, NotRegular, Store

T = TypeVar("T")


class DamagedRecord(AccessError):  # noqa: N818 - a state of OUTPUT
    """A file of `_run/` is missing, was cut or changed, or is of another version of this project."""

    def __init__(self, output: Store, key: str, problem: str) -> None:
        self.key = key
        super().__init__(
            f"{output.uri_of(key)} {problem}; `perceiver run` with --repair sets it aside and rebuilds what it said "
            "from the parts"
        )


def read_record(output: Store, key: str, parse: Callable[[bytes], T]) -> T:
    """Return the parsed content of a file of `_run/`. Raises Missing, and DamagedRecord if it cannot be parsed."""
    data = read_file(output, key)
    try:
        return parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:  # Arrow: OSError for cut Parquet
        version = "is damaged, or of another version of perceiver-pipeline"
        raise DamagedRecord(output, key, f"{version} ({_kind(error)})") from error


def read_file(output: Store, key: str) -> bytes:
    """Return the content of a file of OUTPUT. Raises Missing, and AccessError if something else has its name."""
    try:
        return output.read(key)
    except NotRegular as error:
        raise AccessError(f"{error}: remove it, then run the command again") from None


def _kind(error: Exception) -> str:
    """Return the cause in a few words; messages of Arrow have several lines."""
    first = next(iter(str(error).splitlines()), "")[:100]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
