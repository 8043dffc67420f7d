"""The files of a checkpoint in a store: names, sizes and versions."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain

from pipeline.checkpoints.files import CONFIG_FILES, PICKLED, SAFETENSORS, shard_names
from pipeline.checkpoints.json_files import check_json_size
from pipeline.storage import Denied, Entry, Missing, Store
from pipeline.storage.schemes import is_web

_SIZE_ALONE = re.compile(r"\d+-")


def list_files(store: Store) -> dict[str, Entry]:
    """Return the files of the checkpoint by name; pickled weights only if there are no safetensors.

    Raise CheckpointError if one of JSON is too large to be read.
    """
    entries = _linked_files(store) if is_web(store.uri) else store.entries()
    found = {entry.key: entry for entry in entries if "/" not in entry.key}
    weights = [name for name in found if name.endswith(".safetensors") or name == SAFETENSORS[1]]
    weights = weights or [name for name in found if name.startswith("pytorch_model")]
    files = {name: found[name] for name in (*CONFIG_FILES, *sorted(weights)) if name in found}
    for entry in files.values():
        _check_size(store, entry)
    return files


def are_versioned(files: Mapping[str, Entry]) -> bool:
    """Return whether a file that is replaced gets another version: some web servers tell sizes only."""
    return not any(_SIZE_ALONE.fullmatch(entry.version) for entry in files.values())


def _linked_files(store: Store) -> Iterator[Entry]:
    """Yield the files of a checkpoint on a web server, found by their names: few web servers list a folder."""
    found = {name: entry for name in (*CONFIG_FILES, *SAFETENSORS, *PICKLED) if (entry := _look_up(store, name))}
    indexes = [_read_index(store, found[name]) for name in (SAFETENSORS[1], PICKLED[1]) if name in found]
    yield from found.values()
    for name in set(chain.from_iterable(map(_named_in, indexes))):
        if entry := _look_up(store, name):
            yield entry


def _read_index(store: Store, entry: Entry) -> bytes:
    _check_size(store, entry)
    return store.read(entry.key, version=entry.version, size=entry.size)


def _check_size(store: Store, entry: Entry) -> None:
    if entry.key.endswith(".json"):
        check_json_size(store.uri_of(entry.key), entry.size)


def _look_up(store: Store, name: str) -> Entry | None:
    try:
        return store.entry(name)
    except Missing:
        return None
    except Denied:  # the answer of some servers for any file that is not there
        if name == CONFIG_FILES[0]:
            raise
        return None


def _named_in(index: bytes) -> list[str]:
    """Return the names of the weight files in an index, none of a damaged one, which is reported when it is used."""
    with suppress(ValueError, AttributeError):
        return [name for name in shard_names(json.loads(index)) if "/" not in name]
    return []
