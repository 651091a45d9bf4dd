"""Draw charts as SVG, with the same bytes on every machine.

A page embeds an SVG as an image: no script in it can run, and its own style follows light and dark mode.
"""

import base64
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from vdm_bench.leaderboards.report.charts import Line, LineChart, Point, ScoreChart
from vdm_bench.runtime.printable import printable

_WIDTH, _ROW, _MARGIN, _HEIGHT = 5.2, 0.27, 0.95, 3.1  # inches
_LABEL = 28  # characters
_LOGARITHMIC = 50  # ratio of the largest number to the smallest from which an axis is logarithmic
_LARGEST_RATIO = 1e6  # of numbers that an axis across zero distinguishes
_COUNTS_APART, _DATES_APART = 0.08, 0.25  # of an axis, between two labels

# Ink and grid are drawn in placeholder colours, which the theme replaces. The others have a contrast of at least
# 3:1 on white and on black, and every line also has its own marker.
_INK, _GRID = "#010203", "#040506"
_COLOURS = ("#3b7dd8", "#d0650b", "#2b9257", "#9a5fd0", "#d64550", "#12899a", "#a0703c", "#cc4d9b")
_MARKERS = "osD^vP*X"
_THEME = """<style>
 svg { color: #1f2328; --grid: #d5dae0; }
 @media screen and (prefers-color-scheme: dark) { svg { color: #e4e8ec; --grid: #3c444d; } }
</style>
"""
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": _INK,
    "text.parse_math": False,  # names may contain dollar signs
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "vdm-bench",
}


Chart = ScoreChart | LineChart


@dataclass(frozen=True)
class Plot:
    """A chart and the address of its image, `data:image/svg+xml;base64,...`."""

    chart: Chart
    address: str


def draw(chart: Chart) -> Plot:
    """Draw a chart."""
    # Start from matplotlib's default style: settings of the user would change the bytes.
    with mpl.style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser's fonts draw the letters: matplotlib's font need not have them.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = _scores(chart) if isinstance(chart, ScoreChart) else _lines(chart)
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = target.getvalue().replace(_INK, "currentColor").replace(_GRID, "var(--grid)")
    svg = svg.replace("<defs>", f"{_THEME}<defs>", 1)
    return Plot(chart, f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}")


def _scores(chart: ScoreChart) -> Figure:
    rows = [*chart.own, *chart.published]
    figure = Figure((_WIDTH, _ROW * len(rows) + _MARGIN), layout="constrained")
    axes = figure.add_subplot()
    for place, line in enumerate(rows):
        published = place >= len(chart.own)
        colour, marker = (_COLOURS[1], "D") if published else (_COLOURS[0], "o")
        (point,) = line.points
        ends = _bars([point])
        axes.errorbar([point.value], [place], xerr=ends, color=colour, marker=marker, capsize=3)
    if chart.floor is not None:
        axes.axvline(chart.floor, color=_INK, linestyle=":", linewidth=1, label="floor of a perfect model")
        figure.legend(loc="outside lower right")
    axes.set_yticks(range(len(rows)), [_short(line.label) for line in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    _scale(axes, rows, chart.floor, "x")
    axes.set_xlabel(printable(chart.axis))
    return figure


def _lines(chart: LineChart) -> Figure:
    figure = Figure((_WIDTH, _HEIGHT + 0.2 * len(chart.lines)), layout="constrained")
    axes = figure.add_subplot()
    for line, colour, marker in zip(chart.lines, _COLOURS, _MARKERS, strict=False):
        axes.errorbar(
            [point.x for point in line.points],
            [point.value for point in line.points],
            yerr=_bars(line.points),
            label=_short(line.label),
            color=colour,
            marker=marker,
            markersize=5,
            capsize=3,
            linewidth=1.2,
            linestyle="--" if chart.inverse else "-",
        )
    _scale(axes, chart.lines, None, "y")
    if chart.inverse or chart.dates:
        _label_points(axes, list(_points(chart.lines)), _DATES_APART if chart.dates else _COUNTS_APART)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=all(p.x.is_integer() for p in _points(chart.lines))))
    axes.set_xlabel(printable(chart.x_axis))
    axes.set_ylabel(printable(chart.y_axis))
    figure.legend(loc="outside lower left")
    return figure


def _points(lines: Sequence[Line]) -> Iterator[Point]:
    return (point for line in lines for point in line.points)


def _bars(points: Sequence[Point]) -> list[list[float]]:
    """Return the lengths of the bars below and above; an interval that excludes its value has only one."""
    below = [0.0 if point.low is None else max(point.value - point.low, 0.0) for point in points]
    above = [0.0 if point.high is None else max(point.high - point.value, 0.0) for point in points]
    return [below, above]


def _scale(axes: Axes, lines: Sequence[Line], floor: float | None, which: str) -> None:
    """Make an axis logarithmic if its numbers span orders of magnitude; near zero it stays linear."""
    ends = [end for p in _points(lines) for end in (p.value, p.low, p.high, floor) if end is not None]
    smallest = min((p.value for p in _points(lines) if p.value > 0), default=math.inf)
    axis: Axis = getattr(axes, f"{which}axis")
    if max(ends) > _LOGARITHMIC * smallest:
        scale = (
            {"value": "log"}
            if min(ends) > 0
            else {"value": "symlog", "linthresh": max(smallest, max(ends) / _LARGEST_RATIO)}
        )
        getattr(axes, f"set_{which}scale")(**scale)
        locator: Any = axis.get_major_locator()
        locator.set_params(numticks=6)
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


def _label_points(axes: Axes, points: Sequence[Point], apart: float) -> None:
    """Label the axis with the texts of points that are at least this part of it apart."""
    places = {point.x: point.x_text for point in points}
    reach = max(places) - min(places)
    kept: dict[float, str] = {}
    for x in sorted(places):
        if not kept or x - max(kept) > apart * reach:
            kept[x] = places[x]
    axes.set_xticks(list(kept), list(kept.values()))


def _short(label: str) -> str:
    label = printable(label)
    if len(label) <= _LABEL:
        return label
    # Names of related runs often differ only at the end.
    kept = (_LABEL - 1) // 2
    return f"{label[:kept]}…{label[-kept:]}"
