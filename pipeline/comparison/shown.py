"""What the page of a comparison shows of the units that differ most: labels, flow, clips, masks, embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.comparison.examples import Example, Examples
from pipeline.originals.originals import UnitRef
from pipeline.originals.preview import FRAME_SIDE, shrink
from pipeline.report.data_uris import png_uri, smallest_uri
from pipeline.report.sections.clips import reconstruction
from pipeline.report.sections.flow import color_wheel
from pipeline.report.sections.labels import LABEL_LETTERS
from pipeline.report.sections.masks import FilledText, filled_text
from pipeline.report.shown_text import shown_name
from pipeline.results.flow_colors import flow_colors, typical_length
from pipeline.results.unit_arrays import flow_array

UNITS = 8  # with labels or embeddings
TEXTS = 8
PAIRS = 4
CLIPS = 3


@dataclass(frozen=True, kw_only=True)
class ShownUnit:
    """A unit, and texts about it. labels: (label, score) in A and in B."""

    unit: UnitRef
    name: str
    labels: Sequence[tuple[str, float]] = ()
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class ShownFlow:
    """A frame pair: data URIs of the colors of the flow in A and B, and of their difference, each with its scale."""

    unit: UnitRef
    name: str
    panels: Sequence[tuple[str, str, float]]
    mean: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class ShownClip:
    """A clip: (data URI, why there is none) of the reconstructions in A and B, and the PSNR between them in words."""

    unit: UnitRef
    name: str
    videos: Sequence[tuple[str, str]]
    words: str


@dataclass(frozen=True, kw_only=True)
class ShownMasks:
    """A text, with the masks filled by A and by B."""

    name: str
    a: FilledText
    b: FilledText


def shown_labels(examples: Examples) -> tuple[list[ShownUnit], list[ShownUnit]]:
    """Return the changed labels of which both runs are most certain, and the scores that moved most."""
    changed = examples.first(UNITS, "label")
    moved = examples.first(UNITS, "score", order="score_difference")
    return [_labelled(each) for each in changed], [_labelled(each) for each in moved]


def shown_embeddings(examples: Examples) -> list[ShownUnit]:
    """Return the units whose embeddings turned most."""
    return [
        ShownUnit(unit=each.unit, name=shown_name(each.unit.id), words=f"cosine {_number(each.difference['cosine'])}")
        for each in examples.first(UNITS, "embedding")
    ]


def shown_flow(examples: Examples) -> list[ShownFlow]:
    """Return the pairs whose flow differs most, of those with the same frames."""
    found = examples.first(PAIRS, "flow", ["flow", "height", "width"], order="end_point_mean")
    return [_flow(each) for each in found if each.difference["end_point_mean"] is not None]


def shown_wheel() -> str:
    """Return the wheel of the colors of flow as data URI."""
    return png_uri(color_wheel())


def shown_clips(examples: Examples, columns: frozenset[str]) -> list[ShownClip]:
    """Return the clips whose reconstructions differ most."""
    media = [name for name in ("video", "audio") if name in columns]
    found = next(filter(None, (examples.first(CLIPS, medium, media) for medium in media)), [])
    return [
        ShownClip(
            unit=each.unit,
            name=shown_name(each.unit.id),
            videos=[reconstruction(each.a), reconstruction(each.b)],
            words=", ".join(
                f"{medium} {value:.1f} dB"
                for medium in media
                if (value := each.difference.get(f"{medium}_psnr_between_db")) is not None
            ),
        )
        for each in found
    ]


def shown_masks(examples: Examples) -> list[ShownMasks]:
    """Return the texts of which most tokens changed."""
    found = examples.first(TEXTS, "tokens", ["text", "masks"])
    return [
        ShownMasks(name=shown_name(each.unit.id), a=filled_text(each.a), b=filled_text(each.b))
        for each in found
        if each.a["masks"] and each.b["masks"]
    ]


def _labelled(each: Example) -> ShownUnit:
    row = each.difference
    return ShownUnit(
        unit=each.unit,
        name=shown_name(each.unit.id),
        labels=[(shown_name(row[f"label_{run}"], LABEL_LETTERS), row[f"score_{run}"]) for run in "ab"],
        words="" if row.get("known_label") is None else shown_name(row["known_label"], LABEL_LETTERS),
    )


def _flow(each: Example) -> ShownFlow:
    difference = each.difference
    first, second = (flow_array(row) for row in (each.a, each.b))
    scale = max(typical_length(first), typical_length(second), 1e-6)
    own = max(typical_length(second - first), 1e-6)
    panels = [("A", first, scale), ("B", second, scale), ("difference", second - first, own)]
    return ShownFlow(
        unit=each.unit,
        name=shown_name(each.unit.id),
        panels=[(name, _colors(flow, full), full) for name, flow, full in panels],
        mean=difference["end_point_mean"],
        p95=difference["end_point_p95"],
    )


def _colors(flow: np.ndarray, scale: float) -> str:
    return smallest_uri(shrink(flow_colors(flow, scale), FRAME_SIDE))


def _number(value: Any) -> str:
    return "undefined" if value is None else f"{value:.4f}"
