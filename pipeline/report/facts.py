"""What a run is and how far it is: its task, model, options and counts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.formatting import count, share, size
from pipeline.report.shown_text import shown_name
from pipeline.runtime.driver.status import Status
from pipeline.runtime.options import InHelp, RunOptions, typed_value
from pipeline.runtime.records.run_file import Run
from pipeline.storage.left_out import names_folders

_SHOWN_DIGEST = 16
_IN_TITLE = frozenset({"task", "input", "output", "checkpoint"})
VALUE_LETTERS = 300


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Entries of INPUT that are left out for one reason. is_cut: `first` does not name all."""

    reason: str
    count: int
    first: Sequence[str]
    is_cut: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the page says about a run. Pairs are (name, value)."""

    task: str
    input: str
    output: str
    state: str
    is_finished: bool
    numbers: Sequence[tuple[str, str]]
    model: Sequence[tuple[str, str]]
    options: Sequence[tuple[str, str]]
    versions: Sequence[tuple[str, str]]
    left_out: Sequence[LeftOut]
    has_listing: bool


def facts_of(known: Status, finished_at: str | None) -> Facts:
    """Return the facts of a run of this status. `finished_at`: from its manifest."""
    run, listed = known.run, known.listed
    return Facts(
        task=shown_name(run.fingerprint["head"]),
        input=shown_name(run.input, VALUE_LETTERS),
        output=shown_name(known.output, VALUE_LETTERS),
        state=_state(known),
        is_finished=known.finished,
        numbers=list(_numbers(known)),
        model=list(_model(run, finished_at)),
        options=list(_options(run.record.get("options", {}))),
        versions=[(shown_name(name), shown_name(value)) for name, value in run.record.get("versions", {}).items()],
        left_out=[
            _left_out(reason, number, listed.first[reason])
            for reason, number in sorted(listed.left_out.items(), key=lambda each: -each[1])
        ]
        if listed is not None
        else [],
        has_listing=listed is not None,
    )


def _left_out(reason: str, number: int, first: Sequence[str]) -> LeftOut:
    is_cut = number > len(first) and not names_folders(reason, first)
    return LeftOut(reason=shown_name(reason), count=number, first=list(map(shown_name, first)), is_cut=is_cut)


def _state(known: Status) -> str:
    if known.finished:
        return "Finished"
    done, planned = known.shards_done, known.plan.shards
    if not planned:
        return "Not started: nothing is planned yet"
    if done == planned:
        return (
            "All parts are committed, but the run did not end: more units are quarantined than --max-quarantine "
            "allows, or it was stopped. The same command finishes it, with a higher value in the first case"
        )
    return f"Not finished: {share(done, planned, 'part')} committed ({done / planned:.0%})"


def _numbers(known: Status) -> Iterator[tuple[str, str]]:
    """Yield the counts that `perceiver status` prints."""
    yield "rows", count(known.rows)
    yield "quarantined", count(known.quarantined)
    if known.listed is not None:
        so_far = "" if known.listed.complete else " so far"
        yield f"left out{so_far}", count(known.listed.left_out_total)
    if known.plan.units is not None:
        yield "units planned", count(known.plan.units)
    yield "size", size(known.bytes)


def _model(run: Run, finished_at: str | None) -> Iterator[tuple[str, str]]:
    record, fingerprint = run.record, run.fingerprint
    yield "checkpoint", shown_name(record.get("checkpoint", "not recorded"), VALUE_LETTERS)
    yield "digest", f"{fingerprint['checkpoint'][:_SHOWN_DIGEST]}…"
    yield "precision", shown_name(fingerprint["dtype"])
    yield "run", run.run
    yield "begun", _time(record.get("created", "not recorded"))
    if finished_at:
        yield "finished", _time(finished_at)


def _options(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the options that differ from their defaults, as they are typed."""
    for name, field in RunOptions.model_fields.items():
        is_option = any(isinstance(note, InHelp) for note in field.metadata) and name not in _IN_TITLE
        value = options.get(name)  # of an earlier version, which did not have the option
        if is_option and value not in (None, [], field.default):
            yield f"--{name.replace('_', '-')}", shown_name(_typed(value), VALUE_LETTERS)


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return typed_value(value)


def _time(text: str) -> str:
    """Return 2026-11-30T09:12:29+00:00 as 2026-11-30 09:12 UTC."""
    day, _, clock = text.partition("T")
    return f"{day} {clock[:5]} UTC" if clock.endswith("+00:00") else shown_name(text)
