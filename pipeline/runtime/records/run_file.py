"""run.json: the run's name, and the fingerprint that later runs must match."""

import importlib.metadata
import json
import platform
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from pipeline.heads.head import Head
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.sinks.ownership import RUN_FILE
from pipeline.sinks.run_records import read_record
from pipeline.storage import Missing, Store, redact
from pipeline.storage.absence import explain_absence

SOFTWARE = ("perceiver-pipeline", "ray", "torch", "transformers", "numpy", "pyarrow", "pillow", "av")

_FIRST = ("task", "INPUT", "checkpoint", "dtype")  # in a message about settings that differ

EARLIER_FINGERPRINT = {"transparency": "white"}
"""What earlier versions did, whose fingerprints do not name it."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Content of run.json. `fingerprint` and `input` are compared with later runs; `record` is for information."""

    run: str
    input: str
    fingerprint: dict[str, Any]
    record: dict[str, Any] = field(repr=False)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        values = json.loads(data)
        return cls(**{name: values.pop(name) for name in ("run", "input", "fingerprint")}, record=values)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of the checkpoint, by id; () for other tasks, and for runs of earlier versions."""
        return tuple(self.record.get("labels", ()))

    def to_json(self) -> bytes:
        values = {"run": self.run, "input": self.input, "fingerprint": self.fingerprint} | self.record
        return json.dumps(values, indent=1).encode()


def new_run(
    options: RunOptions,
    *,
    input_uri: str,
    head: Head,
    digest: str,
    dtype: str,
    source_options: Mapping[str, Any] | None = None,
    assumed: Sequence[str] = (),
) -> Run:
    """Return a run of these options with a random name of 8 hex digits, which every part carries.

    source_options: options other than the head's that change the rows. assumed: what loading the checkpoint assumes.
    """
    return Run(
        run=secrets.token_hex(4),
        input=input_uri,
        fingerprint={
            "head": head.task,
            "checkpoint": digest,
            "dtype": dtype,
            **(source_options or {}),
            "options": json.loads(json.dumps(head.fingerprint_options)),  # as JSON reads it back, with tuples as lists
        },
        record={
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "checkpoint": redact(options.checkpoint),
            "options": json.loads(redact(options.model_dump_json())),
            "versions": dict(_versions()),
            "assumed": list(assumed),
            **({"labels": list(head.label_names)} if head.label_names else {}),
        },
    )


def find_run(output: Store) -> Run | None:
    """Read the run of an OUTPUT, None if there is none. Raises DamagedRecord."""
    try:
        return read_record(output, RUN_FILE, Run.from_json)
    except Missing:
        return None


def known_assumptions(run: Run | None, digest: str) -> list[str] | None:
    """Return what loading a checkpoint assumes, if this software began the run with it; None if that is not known."""
    if run is None or run.fingerprint.get("checkpoint") != digest or run.record.get("versions") != dict(_versions()):
        return None
    assumed: list[str] | None = run.record.get("assumed")  # which earlier versions did not write
    return assumed


def read_run(output: Store) -> Run:
    """Read the run of an OUTPUT; UsageError if there is none."""
    found = find_run(output)
    if found is None:
        reason = explain_absence(output.uri) or f"has no {RUN_FILE}"
        raise UsageError(f"{output.uri} is not the OUTPUT of a run: it {reason}")
    return found


def differences(found: Run, wanted: Run) -> str | None:
    """Describe the run that OUTPUT belongs to if it is not the wanted one, with both values; None if it is."""
    earlier = {name: value for name, value in EARLIER_FINGERPRINT.items() if name in wanted.fingerprint}
    differing = list(_differences("", _settings(found, earlier), _settings(wanted, {})))
    return f"a run with other settings: {'; '.join(differing)}" if differing else None


def _settings(run: Run, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is compared of a run, by its name in messages."""
    fingerprint = {**earlier, **run.fingerprint}
    return {"task": fingerprint.pop("head"), "INPUT": run.input, **fingerprint}


def _differences(path: str, found: Any, wanted: Any) -> Iterator[str]:
    """Yield one line for each value that differs, with both values; options only if the task is the same."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        others = sorted((found.keys() | wanted.keys()) - {*_FIRST})
        if found.get("task") != wanted.get("task"):
            others = []
        for key in (*_FIRST, *others):
            yield from _differences(f"{path}.{key}" if path else key, found.get(key), wanted.get(key))
    elif found != wanted:
        yield f"{path} was {json.dumps(found)}, this run has {json.dumps(wanted)}"


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in SOFTWARE:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            yield name, "unknown"
