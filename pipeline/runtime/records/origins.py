"""Where units come from: what their ids and URIs tell of the planned files and of the files that hold their media.

| unit | id | URI |
| --- | --- | --- |
| a file | its key: `cats/a.jpg` | of the file |
| in a file: a line, a frame pair, a row with an image | key and place: `logs.jsonl#81734` | of the file |
| a row of a table that names a file | key of the table and place: `labels.csv#17` | of the file that it names |
| the same, by an earlier version | the same | of the table |
| with an id column, or from stored latents | any | as above; from stored latents those of the encoded units |
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Self

from pipeline.runtime.records.run_file import Run
from pipeline.sinks.parts import Quarantined


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Finds the files of a run's units.

    input: INPUT of the run. named: whether units have ids of their own, which do not begin with a key.
    """

    input: str
    named: bool = False

    @classmethod
    def of(cls, run: Run) -> Self:
        own = (run.fingerprint.get(name) for name in ("id_column", "from_latents"))
        return cls(input=run.input, named=any(value is not None for value in own))

    def key_of(self, unit: Quarantined, keys: Collection[str]) -> str | None:
        """Return which of the planned files with these keys a quarantined unit comes from; None if it may be any."""
        return unit.key if unit.key in keys else self.planned_key(unit.id, unit.uri, keys)

    def planned_key(self, unit_id: str, uri: str, keys: Collection[str]) -> str | None:
        """Return which of the planned files with these keys a unit comes from; None if it may be any of them."""
        by_id = [] if self.named else [key for key in beginnings(unit_id) if key in keys]
        _, by_uri = self.place(uri)
        if by_uri in (by_id or keys):
            return by_uri
        return by_id[0] if by_id else None

    def place(self, uri: str) -> tuple[str, str]:
        """Return the folder that keys of INPUT are relative to, and the key of a file in INPUT, from the file's URI.

        They share the names before the one of a file, or the first wildcard, that INPUT has and the URI does not.
        """
        pairs = zip(self.input.split("/"), uri.split("/")[:-1], strict=False)
        folder = "/".join(name for name, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return folder or "/", uri[len(folder) + 1 :]


def is_whole_file(unit_id: str, uri: str) -> bool | None:
    """Return whether a unit is the file at its URI, rather than one of those in it; None if its id does not tell."""
    key = next((key for key in beginnings(unit_id) if uri.endswith(f"/{key}")), None)
    return None if key is None else key == unit_id


def beginnings(unit_id: str) -> Iterator[str]:
    """Yield what may be the key of the file in an id, the longest first: all of it, or what precedes a `#`."""
    key, mark = unit_id, "#"
    while mark:
        yield key
        key, mark, _ = key.rpartition("#")
