"""Describe what is wrong with the options of a run, for the command line, job files and Python."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from reprlib import Repr
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.checkpoints import CheckpointError
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.storage import redact

LONGEST_VALUE = 60  # characters of a wrong value that a message repeats
_SHORT = Repr()
_SHORT.maxlevel = 2


def describe_errors(error: ValidationError, spell: Callable[[str], str]) -> dict[str, str]:
    """Return what is wrong with each option, by field name; "" for what is wrong with several together.

    Each line has the option's name as `spell` writes it, the wrong value, and which values are right.
    """
    by_option: dict[str, list[ErrorDetails]] = defaultdict(list)
    for details in error.errors():
        by_option[str(details["loc"][0]) if details["loc"] else ""].append(details)
    return {option: _describe(option, found, spell) for option, found in by_option.items()}


def options_of(**values: Any) -> RunOptions:
    """Return the options of a run with these values. UsageError says what is wrong with each, by field name."""
    try:
        return RunOptions(**values)
    except ValidationError as error:
        raise UsageError("; ".join(describe_errors(error, str).values())) from None


def _describe(option: str, found: list[ErrorDetails], spell: Callable[[str], str]) -> str:
    """Describe the errors of one option; pydantic reports one for each member of a union."""
    if not option:
        return "; ".join(details["msg"].removeprefix("Value error, ") for details in found)
    if found[0]["type"] == "missing" and len(found[0]["loc"]) == 1:
        return f"{spell(option)} is required"
    expected = " or ".join(dict.fromkeys(map(_expectation, found)))
    examples = RunOptions.model_fields[option].examples
    example = f", as in {examples[0]}" if examples else ""
    return f"{spell(option)} ({_shown(found[0]['input'])}) must be {expected}{example}"


def _expectation(details: ErrorDetails) -> str:
    """Return what the value must be, to follow "must be"."""
    kind, limits = details["type"], details.get("ctx", {})
    bounds = {"greater_than_equal": "at least", "greater_than": "greater than", "less_than_equal": "at most"}
    if kind in bounds:
        (limit,) = limits.values()
        return f"{bounds[kind]} {limit:,.15g}"
    if kind == "literal_error":
        return str(limits["expected"]).replace("'", "")
    if kind in ("missing", "too_long"):
        return "a pair of numbers"
    types = {
        "int": "an integer",
        "float": "a number",
        "finite": "a finite number",
        "bool": "true or false",
        "string": "text",
        "tuple": "a list",
    }
    return types.get(kind.partition("_")[0], details["msg"])


def _shown(value: Any) -> str:
    """Return a value as it was written, without secrets.

    Aliases can make a list of a YAML file endless, and Python refuses to print a number of thousands of digits.
    """
    if isinstance(value, int) and value.bit_length() > LONGEST_VALUE * 4:
        return "a number of too many digits"
    if isinstance(value, list | dict):
        value = _SHORT.repr(value)
    text = redact(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


@contextmanager
def as_usage_errors() -> Iterator[None]:
    """Raise UsageError for the ValueError of an option, but not for those of a checkpoint."""
    try:
        yield
    except CheckpointError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None
