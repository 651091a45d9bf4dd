"""Which charts a page has: scores, frames, guidance and numbers of clips, as far as the records hold them.

A number too large to draw is left out of a plot; the tables have it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vdm_bench.leaderboards.ranking import Row
from vdm_bench.leaderboards.report.runs import ReportedRun
from vdm_bench.leaderboards.text import NOTHING, rounded, useful_decimals
from vdm_bench.metrics.score import Signature

LARGEST = 1e30  # that a plot has room for
MOST_SCORES = 30  # rows of a plot that are still readable
MOST_LINES = 8
_GUIDANCE = ("guidance_weight", "guidance_scale")


@dataclass(frozen=True)
class Metric:
    """A metric's name and direction."""

    name: str
    higher_is_better: bool

    @property
    def axis(self) -> str:
        """What is written beside its axis."""
        return f"{self.name} ({'higher' if self.higher_is_better else 'lower'} is better)"


@dataclass(frozen=True)
class Point:
    """A number of a plot.

    Attributes:
        x: where it stands.
        x_text: the same in words.
        value: the number.
        low: lower end of its interval, or None.
        high: upper end.
    """

    x: float
    x_text: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def drawable(self) -> bool:
        """Whether a plot has room for it."""
        return all(abs(number) < LARGEST for number in (self.x, self.value, self.low or 0, self.high or 0))

    def __str__(self) -> str:
        decimals = useful_decimals(self.value, self.low, self.high)
        if self.low is None or self.high is None:
            return rounded(self.value, decimals)
        ends = ", ".join(rounded(end, decimals) for end in (self.low, self.high))
        return f"{rounded(self.value, decimals)} [{ends}]"


@dataclass(frozen=True)
class Line:
    """Points that belong together.

    Attributes:
        label: name of the run, or of the runs.
        points: in the order of x.
    """

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class ScoreChart:
    """Scores of one group, a row each, best first.

    Attributes:
        title: of the plot.
        axis: the metric.
        own: the user's runs; x is the row.
        published: published rows.
        floor: what a perfect model is expected to score, or None.
        note: what is not shown; may be empty.
    """

    title: str
    axis: str
    own: tuple[Line, ...]
    published: tuple[Line, ...]
    floor: float | None
    note: str

    @property
    def alt(self) -> str:
        """The plot in words."""
        rows = [f"{line.label} {line.points[0]}" for line in (*self.own, *self.published)]
        floor = "" if self.floor is None else f" The floor is {Point(0, '', self.floor)}."
        return f"{self.title}: {'; '.join(rows[:5])}{'; ...' if rows[5:] else ''}.{floor} The table has all."

    @property
    def rows(self) -> list[list[str]]:
        """No table of its own: it stands beside one."""
        return []


@dataclass(frozen=True)
class LineChart:
    """Lines over a common axis.

    Attributes:
        title: of the plot.
        x_axis: what x is.
        y_axis: the metric.
        lines: few enough to be told apart.
        note: how to read it, and what is not shown.
        inverse: x is a number of clips, drawn as 1/x, so that infinitely many stand at zero.
    """

    title: str
    x_axis: str
    y_axis: str
    lines: tuple[Line, ...]
    note: str
    inverse: bool = False

    @property
    def alt(self) -> str:
        """The plot in words."""
        ends = [f"{line.label} from {line.points[0]} to {line.points[-1]}" for line in self.lines]
        return f"{self.title}: {'; '.join(ends)}. The figures follow as a table."

    @property
    def titles(self) -> list[str]:
        """Titles of the table that says the same: x, then the lines."""
        return [self.x_axis, *(line.label for line in self.lines)]

    @property
    def rows(self) -> list[list[str]]:
        """Rows of that table, in the order of x."""
        places = {point.x: point.x_text for line in self.lines for point in line.points}
        columns = [{point.x: str(point) for point in line.points} for line in self.lines]
        return [[places[x], *(column.get(x, NOTHING) for column in columns)] for x in sorted(places)]


def score_chart(metric: Metric, rows: Sequence[Row]) -> list[ScoreChart]:
    """Show scores with their intervals, best first; nothing where there is nothing to compare.

    Args:
        metric: of the scores.
        rows: of a board, as `plain_rows` gives them.
    """
    own: list[Line] = []
    published: list[Line] = []
    for row in _with_value(rows):
        spread = row["spread"] and float(row["spread"])
        ends = (row["low"], row["high"]) if spread is None else _around(row["value"], spread)
        point = Point(0, "", row["value"], *ends)
        if point.drawable:
            (published if row["source"] else own).append(Line(row["name"], (point,)))
    if len(own) + len(published) < 2:
        return []
    left_out = [max(len(lines) - MOST_SCORES, 0) for lines in (own, published)]
    floors = {row["floor"] for row in rows if row["floor"] is not None}
    return [
        ScoreChart(
            title=f"{metric.name} by model",
            axis=metric.axis,
            own=tuple(own[:MOST_SCORES]),
            published=tuple(published[:MOST_SCORES]),
            floor=min(floors) if len(floors) == 1 and min(floors) < LARGEST else None,
            note=f"The best {MOST_SCORES} are drawn, {sum(left_out)} more are not." if any(left_out) else "",
        )
    ]


def curve_charts(metric: Metric, rows: Sequence[Row], runs: Mapping[str, ReportedRun]) -> list[LineChart]:
    """Show a metric frame by frame, where the records have its curve."""
    lines = []
    for row, run in _own(rows, runs):
        curve = run.record.curves.get(metric.name)
        if curve is None or not curve.frames:
            continue
        errors: Sequence[float | None] = curve.standard_errors or [None] * len(curve.frames)
        points = [
            Point(float(frame), str(frame), value, *_around(value, error))
            for frame, value, error in zip(curve.frames, curve.values, errors, strict=True)
            if abs(frame) < LARGEST
        ]
        lines.append(_line(row["name"], points))
    note = "Bars are one standard error; given frames are left out."
    return _line_charts(f"{metric.name} frame by frame", "frame", metric.axis, lines, note)


def guidance_charts(metric: Metric, rows: Sequence[Row], runs: Mapping[str, ReportedRun]) -> list[LineChart]:
    """Show runs that differ in their guidance alone, found in the settings of their samplers."""
    charts = []
    for setting in _GUIDANCE:
        series: dict[frozenset[tuple[str, str]], dict[float, Point]] = {}
        for row, run in _own(rows, runs):
            sampler = run.record.sampler
            weight = _number(sampler.settings.get(setting))
            if weight is None:
                continue
            settings = {"sampler": sampler.spec, "kind": sampler.kind, "seed": sampler.seed, **sampler.settings}
            others = frozenset((key, str(value)) for key, value in settings.items() if key != setting)
            point = Point(weight, f"{weight:g}", row["value"], row["low"], row["high"])
            series.setdefault(others, {}).setdefault(weight, point)
        series = {others: points for others, points in series.items() if len(points) > 1}
        shared = frozenset.intersection(*series) if len(series) > 1 else frozenset()
        lines = [_line(_differing(others, shared), points.values()) for others, points in series.items()]
        title, axis = f"{metric.name} against guidance", setting.replace("_", " ")
        note = "All other settings of the sampler are equal."
        charts += _line_charts(title, axis, metric.axis, lines, note)
    return charts


def _differing(settings: frozenset[tuple[str, str]], shared: frozenset[tuple[str, str]]) -> str:
    """Name a line by its settings that not all lines share, or by its sampler."""
    if not shared:
        return dict(settings)["sampler"]
    return ", ".join(f"{key}={value}" for key, value in sorted(settings - shared))


def count_charts(rows: Iterable[Row]) -> list[LineChart]:
    """Show scores against the number of clips, on to infinitely many.

    Scores whose signatures differ in their numbers of clips alone share a plot. x is 1/N, in which the expected
    value is nearly a straight line; infinitely many clips stand at zero, where the record has its extrapolation.
    """
    families: dict[str, list[Row]] = {}
    for row in _with_value(rows):
        if row["infinite"] is not None and row["n_generated"]:
            families.setdefault(_without_counts(row["signature"]), []).append(row)
    charts = []
    for family in families.values():
        by_name: dict[str, list[Row]] = {}
        for row in family:
            by_name.setdefault(row["name"], []).append(row)
        lines = [_line(name, _towards_infinity(found)) for name, found in by_name.items()]
        metric = Metric(family[0]["metric"], family[0]["higher_is_better"])
        title = f"{metric.name} against the number of clips"
        note = "The value at infinitely many clips is extrapolated, along a straight line in 1/N."
        charts += _line_charts(title, "generated clips", metric.axis, lines, note, inverse=True)
    return charts


def _towards_infinity(rows: Sequence[Row]) -> list[Point]:
    """Return the scores of one name by 1/N, and at zero the extrapolation from the most clips."""
    points = [
        Point(1 / row["n_generated"], f"{row['n_generated']:,}", row["value"], row["low"], row["high"])
        for row in rows
    ]
    most = max(rows, key=lambda row: row["n_generated"])
    return [Point(0, "∞", most["infinite"], most["infinite_low"], most["infinite_high"]), *points]


def _line_charts(
    title: str, x_axis: str, y_axis: str, lines: Sequence[Line], note: str, *, inverse: bool = False
) -> list[LineChart]:
    lines = [line for line in lines if line.points]
    shown, left_out = tuple(lines[:MOST_LINES]), len(lines) - MOST_LINES
    if not shown:
        return []
    if left_out > 0:
        note += f" The first {MOST_LINES} of {len(lines)} lines are drawn."
    return [LineChart(title, x_axis, y_axis, shown, note, inverse)]


def _line(label: str, points: Iterable[Point]) -> Line:
    return Line(label, tuple(sorted((p for p in points if p.drawable), key=lambda point: point.x)))


def _with_value(rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if row["value"] is not None)


def _own(rows: Sequence[Row], runs: Mapping[str, ReportedRun]) -> Iterator[tuple[Row, ReportedRun]]:
    return ((row, runs[row["path"]]) for row in _with_value(rows) if row["path"] in runs)


def _without_counts(signature: str) -> str:
    parsed = Signature.parse(signature)
    kept = {key: value for key, value in parsed.fields if key not in ("n", "v")}
    if "ref" in kept:
        kept["ref"] = kept["ref"].rpartition("/")[0] or kept["ref"]
    return str(Signature.of(parsed.metric, kept))


def _around(value: float, spread: float | None) -> tuple[float | None, float | None]:
    return (None, None) if spread is None else (value - spread, value + spread)


def _number(setting: object) -> float | None:
    """Read a setting, which may be a text, as a number."""
    try:
        value = float(setting) if isinstance(setting, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
