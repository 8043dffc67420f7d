"""A job file: the options of a run as YAML, so that what a schedule runs can be read, reviewed and repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions, near
from pipeline.storage import StorageError, Store, check_uri, redact
from pipeline.storage.uris import normalise_uri


def read_bytes(uri: str) -> bytes:
    """What lies at a path or URI. UsageError or AccessError, naming it, where nothing does or it cannot be read."""
    folder, _, name = normalise_uri(check_uri(uri)).rpartition("/")
    if not name or folder.endswith("/"):
        raise UsageError(f"{redact(uri)} is not the path of a job file")
    try:
        return Store(folder or "/").read(name)
    except StorageError as error:
        raise UsageError(f"job file {redact(uri)}: {error}") from error


def read_job(uri: str) -> dict[str, Any]:
    """The options that a job file gives, by field name, each of the right type; what it lacks is not looked at.

    The file is a mapping of options to values, named as on the command line, with `-` or `_` between words. Relative
    paths in it are relative to the working folder, as on the command line, and not to the file. Nothing is expanded: a
    `$` is a dollar sign. UsageError with all that is wrong in the file.
    """
    return _values(uri, read_bytes(uri))


def load_job(uri: str) -> RunOptions:
    """The run that a job file describes by itself; UsageError, naming the file, where it is wrong or incomplete."""
    return parse_job(uri, read_bytes(uri))


def parse_job(uri: str, text: bytes) -> RunOptions:
    """`load_job` of what was read already; `uri` is for messages."""
    try:
        return RunOptions(**_values(uri, text))
    except ValidationError as error:
        raise _wrong(uri, [_said(wrong) for wrong in error.errors()]) from None


def _values(uri: str, text: bytes) -> dict[str, Any]:
    names, content = _parsed(uri, text)
    values = {_field(name): value for name, value in content.items() if _field(name) in RunOptions.model_fields}
    if mistakes := [*_wrong_names(names), *_wrong_values(values)]:
        raise _wrong(uri, mistakes)
    return values


def _parsed(uri: str, text: bytes) -> tuple[list[str], Mapping[object, Any]]:
    """The keys as they are written, and the mapping; UsageError, with the place, for what is no YAML mapping."""
    try:
        return list(_names(uri, text)), yaml.safe_load(text) or {}
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark
        where = f"line {at.line + 1}, column {at.column + 1}: " if at else ""
        raise _wrong(uri, [where + ", ".join(filter(None, (error.context, error.problem)))]) from None
    except (yaml.YAMLError, ValueError) as error:  # bytes that are no text; a date with a month 13
        raise _wrong(uri, [str(error).splitlines()[0]]) from None


def _names(uri: str, text: bytes) -> Iterator[str]:
    """The keys, each as often as it is there: what is loaded keeps the last of equal ones."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise _wrong(uri, ["holds no mapping; each line is an option and its value, as in `task: fill-mask`"])
    for key, _ in root.value:
        yield str(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping as a key"


def _field(name: object) -> str:
    return str(name).replace("-", "_")


def _wrong_names(names: list[str]) -> Iterator[str]:
    """Names that are none, and options that are given twice, be it in two spellings."""
    for name in dict.fromkeys(names):
        if _field(name) not in RunOptions.model_fields:
            yield f"{name} is no option{near(_field(name), list(RunOptions.model_fields))}"
    for field, times in Counter(map(_field, names)).items():
        if times > 1 and field in RunOptions.model_fields:
            yield f"{field} is given {times} times"


def _wrong_values(values: Mapping[str, Any]) -> Iterator[str]:
    """Values of the wrong type or range, each by itself: what is missing may be typed on the command line."""
    for name, value in values.items():
        # YAML reads a bare yes, no, on and off as these, and Python would take them for 1 and 0.
        if isinstance(value, bool) and RunOptions.model_fields[name].annotation is not bool:
            yield f"{name}: {str(value).lower()} is no value of it; a word such as yes or no goes in quotes"
    try:
        RunOptions(**values)
    except ValidationError as error:
        for wrong in error.errors():
            about = str(wrong["loc"][0]) if wrong["loc"] else ""
            if about in values and not isinstance(values[about], bool):
                yield _said(wrong)


def _said(wrong: Mapping[str, Any]) -> str:
    """One finding of pydantic, by the option's name; one about several options has none."""
    name = f"{wrong['loc'][0]}: " if wrong["loc"] else ""
    return name + str(wrong["msg"]).removeprefix("Value error, ").replace("valid tuple", "list")


def _wrong(uri: str, mistakes: list[str]) -> UsageError:
    return UsageError("\n  ".join([f"{redact(uri)}:", *dict.fromkeys(mistakes)]))
