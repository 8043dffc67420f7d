"""Units without a prediction, by reason, with what can be done about each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report.shown_text import ShownText, shown_name, shown_text
from pipeline.sinks.parts import Quarantined

EXAMPLES = 3
MESSAGE_LETTERS = 300
_RETRY = "`--retry-quarantined` tries these units again."
_REPAIR = "`ffmpeg -i in.mp4 -c copy out.mp4`"
OTHER_ADVICE = "The message says what went wrong. " + _RETRY
ADVICE: Mapping[str, str] = {
    "BadMedium": "The file is damaged or not of a supported kind. Replace or convert it; then "
    "`--retry-quarantined` reads it again.",
    "TooMuch": f"The video is much longer than its header says. Repair it, for example by {_REPAIR}.",
    "TimedOut": f"Reading took longer than `--unit-seconds` allows. Raise it, or replace the file. {_RETRY}",
    "Crashed": "The file crashed its decoder twice. Convert it with another tool.",
    "GivenUp": "Its shard crashed the worker in every attempt. A smaller `--shard-size` and `--retry-quarantined` save "
    "the other units of the shard.",
    "MemoryError": f"Reading needs more memory than `--unit-memory` allows. Raise it, or shrink the file. {_RETRY}",
    "DoesNotFit": "The unit alone does not fit into the device's memory. Use a smaller medium, `--device cpu`, or "
    "`--devices-per-replica`.",
    "NotFinite": "The model's output has NaN or infinite values, in float32 too. Look at the input: a blank or extreme "
    "one can cause it.",
    "Missing": "The file was deleted after it was planned. Restore it, then use `--retry-quarantined`.",
    "Changed": "The file was replaced after it was planned. `--changed redo` predicts its new content.",
    "NotRegular": "A folder, a pipe, a socket or a device has the name of the file. Restore it. " + _RETRY,
    "Corrupt": "The store, or a proxy on the way to it, gave the object only damaged. Look at both. " + _RETRY,
    "Denied": "The store denies access to the file. Grant read access, then use `--retry-quarantined`.",
    "Archived": "The object is in an archive tier of the store. Restore it, then use `--retry-quarantined`.",
    "StorageError": "The store failed longer than the retries lasted. " + _RETRY,
    "UnicodeDecodeError": "The text is not in the encoding that its file states. Convert it to UTF-8.",
}


@dataclass(frozen=True, kw_only=True)
class QuarantineExample:
    """A quarantined unit, as it is shown."""

    name: str
    stage: str
    message: ShownText
    attempts: int


@dataclass(frozen=True, kw_only=True)
class QuarantineReason:
    """One class of error: number of its units in the sample, what to do, and the first of them."""

    error: str
    count: int
    advice: str
    examples: Sequence[QuarantineExample]


@dataclass(frozen=True, kw_only=True)
class QuarantineSection:
    """Quarantined units of a sample."""

    note: str
    reasons: Sequence[QuarantineReason]


def quarantine_section(units: Sequence[Quarantined], note: str) -> QuarantineSection | None:
    """Return the units by error, the most frequent first; None if there are none."""
    if not units:
        return None
    by_error: dict[str, list[Quarantined]] = defaultdict(list)
    for unit in units:
        by_error[unit.error].append(unit)
    ordered = sorted(by_error.items(), key=lambda each: (-len(each[1]), each[0]))
    return QuarantineSection(note=note, reasons=[_reason(error, own) for error, own in ordered])


def _reason(error: str, units: Sequence[Quarantined]) -> QuarantineReason:
    return QuarantineReason(
        error=shown_name(error, 60),
        count=len(units),
        advice=ADVICE.get(error, OTHER_ADVICE),
        examples=[
            QuarantineExample(
                name=shown_name(unit.id),
                stage=shown_name(unit.stage, 20),
                message=shown_text(unit.message, MESSAGE_LETTERS),
                attempts=unit.attempts,
            )
            for unit in units[:EXAMPLES]
        ],
    )
