"""The rows of an earlier run that kept its latents: each is one unit, under its own id, to be decoded again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipeline.sources.parquet_source import Parquet
from pipeline.sources.record_media import RecordOrigin
from pipeline.sources.source import SourceOptions, Unit
from pipeline.storage import AccessError

IDENTITY = ("id", "uri", "version")


@dataclass(frozen=True)
class Latents(Parquet):
    """Reads the parts of a run's OUTPUT. A medium is the columns that the head asks for, by name.

    id, uri and version of a unit are those of the row: of the input that was encoded, which is not read.
    """

    def configured(self, options: SourceOptions) -> Latents:
        """With the columns that the head needs. ValueError for options about inputs, of which none is read."""
        usual = {"text_unit": "line", "short_clip": "pad"}
        for name in ("column", "id_column", "fps", "clip_stride", *usual):
            if (value := getattr(options, name)) and value != usual.get(name):
                raise ValueError(f"{name} ({value!r}) means nothing where latents are decoded: no input is read")
        return replace(self, options=replace(options, id_column="id"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that the head asks for."""
        return self.options.columns

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every column that a unit is made of, once."""
        return tuple(dict.fromkeys((*IDENTITY, *super().wanted)))

    def _check(self, uri: str, schema: pa.Schema) -> None:
        missing = [name for name in self.wanted if name not in schema.names]
        if missing:
            raise AccessError(
                f"{uri} has no column {missing[0]!r}, it has {', '.join(schema.names)}: was it written by this task "
                "with --latents?"
            )

    def _label(self, unit: Unit, columns: Mapping[str, Any]) -> None:
        unit.id, unit.uri, unit.version = (columns[name] for name in IDENTITY)
        unit.kept = {name: self.carried(columns[name]) for name in self.options.keep}

    def _medium(self, columns: Mapping[str, Any], table: RecordOrigin) -> dict[str, Any]:  # noqa: ARG002
        return {name: columns[name] for name in self.columns}


STORED_LATENTS = Latents("latents", frozenset({".parquet"}), frozenset({"latents"}))
