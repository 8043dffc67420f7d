"""Reconstructed clips next to their originals, as video with sound, and how good they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.formatting import counted, size
from pipeline.originals.originals import Absent, Original, UnitRef
from pipeline.report.clip_video import clip_mp4
from pipeline.report.data_uris import data_uri
from pipeline.report.sample import Sample
from pipeline.report.shown_text import shown_name
from pipeline.results.unit_arrays import audio_array, video_array
from pipeline.sinks.media import FPS
from pipeline.sinks.parts import part_key

MAX_ROWS = 50_000
CLIP_BYTES = 250_000  # so that twelve of them fit into the page
CLIPS = 3  # of the worst, and of the best reconstructions
QUALITIES = {"video_psnr_db": "video", "audio_psnr_db": "audio"}


@dataclass(frozen=True, kw_only=True)
class Quality:
    """PSNR of a sample, in dB."""

    name: str
    least: float
    median: float
    most: float


@dataclass(frozen=True, kw_only=True)
class ShownClip:
    """A clip. `video`: data URI of the reconstruction, and why there is none. `quality`: (name, dB)."""

    unit: UnitRef
    name: str
    video: tuple[str, str]
    has_audio: bool
    quality: Sequence[tuple[str, float]]
    label: tuple[str, float] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ClipSection:
    """Some clips of a run, and the quality of a sample."""

    note: str
    qualities: Sequence[Quality] = field(default_factory=list)
    clips: Sequence[ShownClip] = field(default_factory=list)
    order: str = ""

    @property
    def units(self) -> list[UnitRef]:
        """Units whose clips the section shows."""
        return [clip.unit for clip in self.clips]


def clip_section(sample: Sample) -> ClipSection | None:
    """Return the worst and the best clips of the sample by the PSNR of their video, None if it has no rows."""
    measured = [name for name in QUALITIES if sample.has(name)]
    rows = list(sample.rows_of(["id", "uri", *measured], MAX_ROWS))
    if not rows:
        return None
    by = "video_psnr_db" if "video_psnr_db" in measured else None
    ranked = sorted(rows, key=lambda row: (row[by] is None, row[by] or 0.0)) if by else rows
    chosen = ranked if len(ranked) <= 2 * CLIPS else [*ranked[:CLIPS], *ranked[-CLIPS:]]
    full = _read(sample, chosen)
    return ClipSection(
        note=sample.note,
        qualities=[quality for name in measured if (quality := _quality(name, rows))],
        clips=[_clip(full[row["id"]], row["shard"]) for row in chosen if row["id"] in full],
        order="from the lowest PSNR of the video to the highest" if by else "in the order of the run",
    )


def original_video(original: Original) -> tuple[str, str]:
    """Return (data URI, "") of an original clip, or ("", why there is none)."""
    if isinstance(original, Absent):
        return "", original.reason
    assert original.frames is not None
    video = clip_mp4(original.frames, original.fps, original.samples, original.sample_rate)
    return _uri(video)


def _uri(video: bytes) -> tuple[str, str]:
    """Return (data URI, "") of a video, or ("", why it is too large for the page)."""
    if len(video) > CLIP_BYTES:
        return "", f"The video takes {size(len(video))}; the limit of a clip in a report is {size(CLIP_BYTES)}."
    return data_uri("video/mp4", video), ""


def _quality(name: str, rows: Sequence[Mapping[str, Any]]) -> Quality | None:
    values = np.array([row[name] for row in rows if row[name] is not None])
    if not len(values):
        return None
    return Quality(
        name=QUALITIES[name], least=float(values.min()), median=float(np.median(values)), most=float(values.max())
    )


def _read(sample: Sample, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return these rows with their media, by id."""
    wanted = ("id", "uri", "has_audio", "padded_frames", "label", "score", "video", "audio", *QUALITIES)
    columns = [name for name in wanted if sample.has(name)]
    parts = sorted({part_key(sample.results.run.run, row["shard"]) for row in rows})
    found = sample.results.rows(columns=columns, ids=[row["id"] for row in rows], parts=parts)
    return {row["id"]: row for row in found}


def _clip(row: Mapping[str, Any], shard: int) -> ShownClip:
    padded = row["padded_frames"]
    return ShownClip(
        unit=UnitRef(row["id"], row["uri"], shard),
        name=shown_name(row["id"]),
        video=reconstruction(row),
        has_audio=row["has_audio"],
        quality=[(QUALITIES[name], row[name]) for name in QUALITIES if row.get(name) is not None],
        label=(shown_name(row["label"], 60), row["score"]) if "label" in row else None,
        notes=[f"the last frame of the video is repeated {counted(padded, 'time')} at its end"] if padded else [],
    )


def reconstruction(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return frames and sound of a row as one video, or why there is none."""
    if not row.get("video"):
        return "", "The run has no reconstructed frames."
    samples, rate = None, 1
    if row.get("audio"):
        channels, rate = audio_array(row["audio"]["bytes"])
        samples = channels[:, 0]
    return _uri(clip_mp4(video_array(row["video"]["bytes"]), FPS, samples, rate))
