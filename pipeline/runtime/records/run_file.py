"""run.json: the run's name, and what it must not be mixed with."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.faultpoints import reached
from pipeline.heads.head import Head
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.sinks.ownership import RUN_FILE
from pipeline.storage import Missing, Store, redact

SOFTWARE = ("perceiver-pipeline", "ray", "torch", "transformers", "numpy", "pyarrow", "pillow", "av")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What run.json says. `fingerprint` and `input` are compared; the rest is recorded."""

    run: str
    input: str
    fingerprint: dict[str, Any]
    record: dict[str, Any]

    @classmethod
    def from_json(cls, data: bytes) -> Run:
        values = json.loads(data)
        return cls(
            run=values.pop("run"), input=values.pop("input"), fingerprint=values.pop("fingerprint"), record=values
        )

    def to_json(self) -> bytes:
        values = {"run": self.run, "input": self.input, "fingerprint": self.fingerprint} | self.record
        return json.dumps(values, indent=1).encode()


def new_run(
    options: RunOptions, *, input_uri: str, head: Head, digest: str, dtype: str, asked: Mapping[str, Any] | None = None
) -> Run:
    """A run of these options, with a random name: 8 hex digits that every part carries. `asked`: what beside the head's
    own options changes the rows."""
    return Run(
        run=secrets.token_hex(4),
        input=input_uri,
        fingerprint={
            "head": head.task,
            "checkpoint": digest,
            "dtype": dtype,
            **(asked or {}),
            "options": json.loads(json.dumps(head.fingerprint_options)),  # as it will read back, tuples as lists
        },
        record={
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "checkpoint": redact(options.checkpoint),
            "options": json.loads(redact(options.model_dump_json())),
            "versions": dict(_versions()),
        },
    )


def claim_output(output: Store, wanted: Run) -> Run:
    """Put run.json if it is absent, else adopt the one that is there; UsageError where that one is another run's."""
    reached("run.before")
    created = output.put_if_absent(RUN_FILE, wanted.to_json())
    reached("run.claimed")
    if created:
        return wanted
    found = Run.from_json(output.read(RUN_FILE))
    if found.input != wanted.input:
        raise UsageError(
            f"{output.uri} holds the predictions of INPUT {found.input}, this run's INPUT is {wanted.input}: "
            "an OUTPUT belongs to one INPUT, give this run another OUTPUT"
        )
    if differing := list(_differences("", found.fingerprint, wanted.fingerprint)):
        raise UsageError(
            f"{output.uri} holds predictions that this run would not make: {'; '.join(differing)}. "
            "Run with what it was made with, or give this run another OUTPUT"
        )
    return found


def read_run(output: Store) -> Run:
    """The run of an OUTPUT; UsageError where there is none."""
    try:
        return Run.from_json(output.read(RUN_FILE))
    except Missing as error:
        raise UsageError(f"{output.uri} is not the OUTPUT of a run: it has no {RUN_FILE}") from error


def _differences(path: str, found: Any, wanted: Any) -> Iterator[str]:
    """One line for each leaf that differs, with both values."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            yield from _differences(f"{path}.{key}" if path else key, found.get(key), wanted.get(key))
    elif found != wanted:
        yield f"{path} was {json.dumps(found)}, this run has {json.dumps(wanted)}"


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in SOFTWARE:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that was never installed
            yield name, "unknown"
