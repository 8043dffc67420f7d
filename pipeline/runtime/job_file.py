"""Job files: the options of a run as YAML, to be reviewed, scheduled and repeated."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.formatting import did_you_mean
from pipeline.runtime.errors import UsageError
from pipeline.runtime.option_errors import describe_errors
from pipeline.runtime.options import RunOptions
from pipeline.storage import StorageError, Store, check_uri
from pipeline.storage.absence import explain_absence
from pipeline.storage.uris import normalise_uri


def read_bytes(uri: str) -> bytes:
    """Return the content of a job file. UsageError or AccessError, naming it, if it cannot be read."""
    if uri.startswith(("/dev/fd/", "/dev/stdin")):  # of `--job <(envsubst < job.yaml)`: a pipe that is open already
        return Path(uri).read_bytes()
    folder, _, name = normalise_uri(check_uri(uri)).rpartition("/")
    if not name or folder.endswith("/"):
        raise UsageError(f"{uri} is not the path of a job file")
    if absence := explain_absence(uri):
        raise UsageError(f"job file {uri} {absence}")
    try:
        return Store(folder or "/").read(name)
    except StorageError as error:
        raise UsageError(f"job file: {error}") from None


def read_job(uri: str) -> dict[str, Any]:
    """Return the options in a job file by field name, each valid by itself. Required ones may be missing.

    The file is a mapping of options to values, named as on the command line, with `-` or `_` between words. Relative
    paths are relative to the working folder, as on the command line, not to the file. Nothing is expanded: a `$` is a
    dollar sign. UsageError lists everything that is wrong in the file.
    """
    return _read_values(uri, read_bytes(uri))


def parse_job(uri: str, text: bytes) -> RunOptions:
    """Return the run that the content of a job file describes; `uri` is named in errors."""
    try:
        return RunOptions(**_read_values(uri, text))
    except ValidationError as error:
        raise _job_error(uri, describe_errors(error, str).values()) from None


def _read_values(uri: str, text: bytes) -> dict[str, Any]:
    """Return the valid options by field name."""
    names, content = _parse_yaml(uri, text)
    values = {_field(name): value for name, value in content.items() if _field(name) in RunOptions.model_fields}
    if mistakes := [*_wrong_names(names), *_wrong_values(values)]:
        raise _job_error(uri, mistakes)
    return values


def _parse_yaml(uri: str, text: bytes) -> tuple[list[str], Mapping[object, Any]]:
    """Return the keys as they are written, repeated ones too, and the mapping. UsageError names line and column."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return [], {}
        if not isinstance(root, yaml.MappingNode):
            mistake = "is not a mapping: write one option and its value per line, as in `task: fill-mask`"
            raise _job_error(uri, [mistake])
        keys = [str(k.value) if isinstance(k, yaml.ScalarNode) else "a list or mapping as a key" for k, _ in root.value]
        return keys, yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark
        where = f"line {at.line + 1}, column {at.column + 1}: " if at else ""
        raise _job_error(uri, [where + ", ".join(filter(None, (error.context, error.problem)))]) from None
    except (yaml.YAMLError, ValueError) as error:  # bytes that are not text; a date with a month 13
        raise _job_error(uri, [str(error).splitlines()[0]]) from None


def _field(name: object) -> str:
    return str(name).replace("-", "_")


def _wrong_names(names: list[str]) -> Iterator[str]:
    """Describe unknown options, and options that are given twice, even in two spellings."""
    for name in names:
        if _field(name) not in RunOptions.model_fields:
            yield f"{name} is not a valid option{did_you_mean(_field(name), RunOptions.model_fields)}"
    for field, times in Counter(map(_field, names)).items():
        if times > 1 and field in RunOptions.model_fields:
            yield f"{field} is given {times} times"


def _wrong_values(values: dict[str, Any]) -> Iterator[str]:
    """Describe values of the wrong type or range; whatever is missing may come from the command line."""
    # YAML reads a bare yes, no, on or off as a boolean, and Python would take it for 1 or 0.
    fields = RunOptions.model_fields
    switches = [name for name in values if isinstance(values[name], bool) and fields[name].annotation is not bool]
    for name in switches:
        yield f"{name} ({str(values[name]).lower()}) must not be true or false; put a word such as yes or no in quotes"
    try:
        RunOptions(**values)
    except ValidationError as error:
        mistakes = describe_errors(error, str)
        yield from (mistakes[name] for name in mistakes if name in values and name not in switches)


def _job_error(uri: str, mistakes: Iterable[str]) -> UsageError:
    return UsageError(f"{uri}:", *dict.fromkeys(mistakes))
