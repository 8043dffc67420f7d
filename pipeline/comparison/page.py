"""comparison.html: what changed between two runs, with the units that differ most. In the frame of the report."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from pipeline.comparison.comparison import Comparison
from pipeline.comparison.destination import MARKER
from pipeline.comparison.examples import Examples
from pipeline.comparison.shown import (
    ShownClip,
    ShownFlow,
    ShownUnit,
    shown_clips,
    shown_embeddings,
    shown_flow,
    shown_labels,
    shown_masks,
    shown_wheel,
)
from pipeline.comparison.units import JoinedUnits
from pipeline.formatting import count, percent
from pipeline.originals.originals import read_originals
from pipeline.originals.source import medium_of
from pipeline.report.page import render
from pipeline.report.plots import Plot
from pipeline.report.sections.labels import binned
from pipeline.results import Results

CHANGES = 10  # pairs of labels or tokens


def make_page(found: Comparison, units: JoinedUnits, a: Results, b: Results) -> str:
    """Return the page as HTML of at most a few MB. Originals are read from the INPUT of A."""
    examples = Examples(found.differences, units, a, b)
    changed, moved = shown_labels(examples) if found.labels else ([], [])
    flow = shown_flow(examples) if found.flow and "points" not in a.schema().names else []
    columns = frozenset(a.schema().names) & frozenset(b.schema().names)
    clips = shown_clips(examples, columns) if found.clips else []
    embeddings = shown_embeddings(examples) if found.embeddings else []
    shown: list[ShownUnit | ShownFlow | ShownClip] = [*changed, *moved, *flow, *clips, *embeddings]
    return render(
        "comparison.html",
        package="pipeline.comparison",
        found=found,
        figures=list(_figures(found)),
        medium=medium_of(a.run.fingerprint),
        changed=changed,
        moved=moved,
        flow=flow,
        wheel=shown_wheel() if flow else "",
        clips=clips,
        masks=shown_masks(examples) if found.masks else [],
        embeddings=embeddings,
        plots=_plots(found),
        label_changes=[(each.a, each.b, each.units) for each in found.labels.changes] if found.labels else [],
        token_changes=[(*each.shown, each.masks) for each in found.masks.changes] if found.masks else [],
        most=CHANGES,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        marker=MARKER,
        originals=read_originals(a.store, a.run, [each.unit for each in shown]),
    )


def _figures(found: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the numbers of the head of the page."""
    if found.labels and not found.labels.one_number:
        yield "labels agree", percent(found.labels.agreement)
        if found.labels.kappa is not None:
            yield "Cohen's kappa", f"{found.labels.kappa:.3f}"
    if found.flow and found.flow.units:
        yield "mean end-point difference, pixels", f"{found.flow.mean:.3g}"
    for each in found.clips:
        if each.mean is not None:
            yield f"PSNR of {each.medium}, dB", f"{each.mean:.1f}"
    if found.masks:
        yield "tokens agree", percent(found.masks.agreement)
    if found.embeddings and found.embeddings.units:
        yield "mean cosine", f"{found.embeddings.mean:.4f}"
    yield "units in both runs", count(found.units.both)
    yield "only in A", count(found.units.only_a)
    yield "only in B", count(found.units.only_b)


def _plots(found: Comparison) -> dict[str, Plot | None]:
    """Return the histograms of the sections; None for those without values."""
    return {
        "scores": _plot(found.labels.score_differences, "score in B minus score in A") if found.labels else None,
        "flow": _plot(found.flow.means, "mean end-point difference in pixels") if found.flow else None,
        "embeddings": _plot(found.embeddings.cosines, "cosine of both embeddings") if found.embeddings else None,
    }


def _plot(values: np.ndarray, x: str) -> Plot | None:
    return binned(values, float(values.min()), float(values.max()), x, "Units") if len(values) else None
