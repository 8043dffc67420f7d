"""How two runs differ in what they were made with: checkpoint, precision, transform, options, versions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.runtime.records.run_file import EARLIER_FINGERPRINT, Run

ABSENT = "not set"  # of a setting that one of the runs does not have


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting and its values in both runs, as texts."""

    name: str
    a: str
    b: str


def differing_settings(a: Run, b: Run) -> list[Setting]:
    """Return the settings with different values, those of the fingerprint first."""
    values = [dict(_settings(run)) for run in (a, b)]
    for own, other in (values, values[::-1]):
        own.update({name: value for name, value in EARLIER_FINGERPRINT.items() if name in other and name not in own})
    names = [*values[0], *(name for name in values[1] if name not in values[0])]
    return [
        Setting(name=name, a=values[0].get(name, ABSENT), b=values[1].get(name, ABSENT))
        for name in names
        if values[0].get(name) != values[1].get(name)
    ]


def _settings(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each setting. The task is not one: runs of different tasks are not compared."""
    fingerprint = dict(run.fingerprint)
    fingerprint.pop("head")
    yield "checkpoint", str(run.record.get("checkpoint", "not recorded"))
    yield "checkpoint digest", str(fingerprint.pop("checkpoint"))
    yield "precision", str(fingerprint.pop("dtype"))
    yield "INPUT", run.input
    yield from _flat("", fingerprint.pop("options"))
    yield from _flat("", fingerprint)
    for name, version in run.record.get("versions", {}).items():
        yield f"version of {name}", str(version)


def _flat(path: str, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (transform.crop.height, 224) of nested values."""
    for name, value in values.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            yield from _flat(place, value)
        else:
            yield place, value if isinstance(value, str) else json.dumps(value)
