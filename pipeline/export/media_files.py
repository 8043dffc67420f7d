"""Reconstructed video and audio as the files that rows hold."""

from collections.abc import Callable
from typing import Any

from pipeline.export.exported import Exported
from pipeline.export.unit_files import unit_file_format


def _stored(column: str) -> Callable[[dict[str, Any], Exported], bytes | None]:
    def encode(row: dict[str, Any], exported: Exported) -> bytes | None:
        data = (row[column] or {}).get("bytes")
        if data is None:
            exported.notes[f"rows without {column}, left out"] += 1
        return data

    return encode


MP4 = unit_file_format("mp4", ".mp4", ["video"], _stored("video"))
WAV = unit_file_format("wav", ".wav", ["audio"], _stored("audio"))
