"""Values of kept columns that a file has from outside: from the names of its folders, and from a metadata file."""

import json
from collections.abc import Iterable
from urllib.parse import unquote

from pipeline.sources.records.record_reader import as_text
from pipeline.sources.source import Piece

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(key: str) -> dict[str, str | None]:
    """Return the values by column of Hive partitions: of the folders called `name=value` in a key, percent-decoded."""
    values: dict[str, str | None] = {}
    if "=" not in key:
        return values
    for folder in key.split("/")[:-1]:
        name, separator, value = folder.partition("=")
        if separator and name:
            values[unquote(name)] = None if value == _NULL else as_text(unquote(value))
    return values


def folder_values(piece: Piece, names: Iterable[str]) -> dict[str, str | None]:
    """Return the values of kept columns of a file without columns: the metadata file's, else the folders'."""
    values = partition_values(piece.key) | (json.loads(piece.kept) if piece.kept else {})
    return {name: values.get(name) for name in names}
