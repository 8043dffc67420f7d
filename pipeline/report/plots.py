"""Plots as inline SVG, by matplotlib. Their colors are those of the page, in light and in dark mode."""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.report.svg import Color, page_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, NARROW = 640, 330  # pixels: of the page's column, and of a telephone
HEIGHT = 200
_FONT = 11.5
_INCH = 72.0  # pixels per inch, which matplotlib's SVG uses as its unit
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text as text
    "font.size": _FONT,
    "text.color": Color.MUTED,
    "axes.labelcolor": Color.MUTED,
    "axes.edgecolor": Color.LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": Color.LINE,
    "grid.linewidth": 1.0,
    "xtick.color": Color.LINE,
    "ytick.color": Color.LINE,
    "xtick.labelcolor": Color.MUTED,
    "ytick.labelcolor": Color.MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "xtick.major.pad": 7.0,
    "ytick.major.pad": 7.0,
    "axes.labelpad": 7.0,
    "axes.formatter.useoffset": False,
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot in two sizes, of which the page shows the one that fits. `alt`: what it shows, in words."""

    wide: str
    narrow: str
    alt: str


def histogram(values: np.ndarray, edges: np.ndarray, x: str, alt: str) -> Plot:
    """Plot how many values lie in each bin. `values`: counts [n]; `edges` [n + 1]."""

    def draw(axes: "Axes") -> None:
        gap = 0.12 * (edges[1] - edges[0])
        axes.bar(edges[:-1] + gap / 2, values, np.diff(edges) - gap, align="edge", color=Color.ACCENT, linewidth=0)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(x)
        axes.set_ylim(0, max(1.0, float(values.max()) * 1.05))

    return _plot(draw, alt, counts=True)


def steps(values: np.ndarray, edges: np.ndarray, x: str, alt: str) -> Plot:
    """Plot a rate over time as steps. `values` [n] in the bins of `edges` [n + 1]."""

    def draw(axes: "Axes") -> None:
        axes.stairs(values, edges, fill=True, color=Color.ACCENT_SOFT, linewidth=0)
        axes.stairs(values, edges, color=Color.ACCENT, linewidth=1.6, baseline=None)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(x)
        axes.set_ylim(0, max(1e-9, float(values.max()) * 1.08))

    return _plot(draw, alt)


def reliability(bins: Sequence[tuple[float, float, float]], alt: str) -> Plot:
    """Plot the share of right predictions in bins (low, high, share) of the score, and where both would be equal."""

    def draw(axes: "Axes") -> None:
        for low, high, share in bins:
            gap = 0.12 * (high - low)
            left, width = low + gap / 2, high - low - gap
            # Soft, so that the line is seen on them in light and in dark mode.
            axes.bar(left, share, width, align="edge", color=Color.ACCENT_SOFT, edgecolor=Color.ACCENT, linewidth=1)
        axes.plot([0, 1], [0, 1], color=Color.MUTED, linewidth=1.2)
        axes.set_xlim(0, 1)
        axes.set_xlabel("score of the best label")
        axes.set_ylim(0, 1)

    return _plot(draw, alt)


def _plot(draw: Callable[["Axes"], None], alt: str, *, counts: bool = False) -> Plot:
    return Plot(wide=_svg(draw, WIDE, counts), narrow=_svg(draw, NARROW, counts), alt=alt)


@contextmanager
def _without_notes() -> Iterator[None]:
    """Import matplotlib without its notes about the cache of fonts that it makes at its first import."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _svg(draw: Callable[["Axes"], None], width: int, counts: bool) -> str:
    with _without_notes():
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    with rc_context(_STYLE):
        figure = Figure(figsize=(width / _INCH, HEIGHT / _INCH), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        axes.xaxis.set_major_locator(MaxNLocator(4 if width == NARROW else 8, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=counts))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        for artist in axes.get_children():
            artist.set_clip_on(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return page_svg(file.getvalue())
