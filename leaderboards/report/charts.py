"""The charts of a page: scores, and values over frames, guidance and number of clips, if the records have them.

Numbers too large to draw are omitted from plots; the tables have them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from vdm_bench.leaderboards.ranking import Row
from vdm_bench.leaderboards.report.runs import ReportedRun
from vdm_bench.leaderboards.text import NOTHING, rounded, useful_decimals
from vdm_bench.metrics.score import Signature

LARGEST = 1e30  # number that a plot can show
MOST_SCORES = 30  # readable rows of a plot
MOST_LINES = 8
_GUIDANCE = ("guidance_weight", "guidance_scale")


@dataclass(frozen=True)
class Metric:
    """A metric's name and direction."""

    name: str
    higher_is_better: bool

    @property
    def axis(self) -> str:
        """The label of its axis."""
        return f"{self.name} ({'higher' if self.higher_is_better else 'lower'} is better)"


@dataclass(frozen=True)
class Point:
    """A point of a plot.

    Attributes:
        x: position.
        x_text: the position as text.
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
        """Whether its numbers are small enough to draw."""
        return all(abs(number) < LARGEST for number in (self.x, self.value, self.low or 0, self.high or 0))

    def __str__(self) -> str:
        decimals = useful_decimals(self.value, self.low, self.high)
        if self.low is None or self.high is None:
            return rounded(self.value, decimals)
        ends = ", ".join(rounded(end, decimals) for end in (self.low, self.high))
        return f"{rounded(self.value, decimals)} [{ends}]"


@dataclass(frozen=True)
class Line:
    """A line, or series, of points.

    Attributes:
        label: name of the run, or of the runs.
        points: in the order of x.
    """

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class ScoreChart:
    """Scores of one group, one row each, best first.

    Attributes:
        title: of the plot.
        axis: the metric.
        own: the user's runs.
        published: published rows.
        floor: expected score of a perfect model, or None.
        note: what is omitted; may be empty.
    """

    title: str
    axis: str
    own: tuple[Line, ...]
    published: tuple[Line, ...]
    floor: float | None
    note: str

    @property
    def alt(self) -> str:
        """The plot as text."""
        rows = [f"{line.label} {line.points[0]}" for line in (*self.own, *self.published)]
        floor = "" if self.floor is None else f" The floor is {Point(0, '', self.floor)}."
        return f"{self.title}: {'; '.join(rows[:5])}{'; ...' if rows[5:] else ''}.{floor} The table has all."

    @property
    def rows(self) -> list[list[str]]:
        """Empty: the scores are in the table next to the plot."""
        return []


@dataclass(frozen=True)
class LineChart:
    """Lines over a common axis.

    Attributes:
        title: of the plot.
        x_axis: what x is.
        y_axis: the metric.
        lines: at most `MOST_LINES`.
        note: how to read it, and what is omitted.
        inverse: x is the inverse of a number of clips; infinitely many are at zero.
        dates: x is a day.
    """

    title: str
    x_axis: str
    y_axis: str
    lines: tuple[Line, ...]
    note: str
    inverse: bool = False
    dates: bool = False

    @property
    def alt(self) -> str:
        """The plot as text."""
        ends = [f"{line.label} from {line.points[0]} to {line.points[-1]}" for line in self.lines]
        return f"{self.title}: {'; '.join(ends)}. The figures follow as a table."

    @property
    def titles(self) -> list[str]:
        """Titles of the table with the same numbers: x, then the lines."""
        return [self.x_axis, *(line.label for line in self.lines)]

    @property
    def rows(self) -> list[list[str]]:
        """Rows of that table, in the order of x."""
        places = {point.x: point.x_text for line in self.lines for point in line.points}
        columns = [{point.x: str(point) for point in line.points} for line in self.lines]
        return [[places[x], *(column.get(x, NOTHING) for column in columns)] for x in sorted(places)]


def score_chart(metric: Metric, rows: Sequence[Row]) -> list[ScoreChart]:
    """Chart scores with their intervals, best first; no chart for fewer than two scores.

    Args:
        metric: of the scores.
        rows: of a board, as `plain_rows` returns them.
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
    """Chart a metric frame by frame, for records with a curve."""
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
    note = "Bars are one standard error; context frames are omitted."
    return _line_charts(f"{metric.name} frame by frame", "frame", metric.axis, lines, note)


def guidance_charts(metric: Metric, rows: Sequence[Row], runs: Mapping[str, ReportedRun]) -> list[LineChart]:
    """Chart runs whose sampler settings differ only in the guidance weight."""
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


def time_charts(metric: Metric, rows: Sequence[Row], runs: Mapping[str, ReportedRun]) -> list[LineChart]:
    """Chart comparable runs over the days they ended on, with the best so far; no chart for a single day."""
    points: dict[float, Point] = {}
    for row, run in _own(rows, runs):  # best first
        day = run.record.created.date()
        points.setdefault(
            day.toordinal(), Point(day.toordinal(), str(day), row["value"], row["low"], row["high"])
        )
    if len(points) < 2:
        return []
    by_day = sorted(points.values(), key=lambda point: point.x)
    better = max if metric.higher_is_better else min
    best_values = accumulate((point.value for point in by_day), better)
    best = [
        replace(point, value=value, low=None, high=None) for point, value in zip(by_day, best_values, strict=True)
    ]
    lines = [_line("best of the day", by_day), _line("best so far", best)]
    return _line_charts(f"{metric.name} over time", "day", metric.axis, lines, "", dates=True)


def _differing(settings: frozenset[tuple[str, str]], shared: frozenset[tuple[str, str]]) -> str:
    """Return the settings that distinguish a line, or its sampler if there is only one line."""
    if not shared:
        return dict(settings)["sampler"]
    return ", ".join(f"{key}={value}" for key, value in sorted(settings - shared))


def count_charts(rows: Iterable[Row]) -> list[LineChart]:
    """Chart scores over the number of clips, up to infinitely many.

    Scores whose signatures differ only in their numbers of clips share a plot. x is 1/N: the expected value is
    nearly linear in it, and the extrapolation of the record to infinitely many clips is at zero.
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
        lines = [_line(name, _towards_infinity(scores)) for name, scores in by_name.items()]
        metric = Metric(family[0]["metric"], family[0]["higher_is_better"])
        title = f"{metric.name} against the number of clips"
        note = "The value at infinitely many clips is extrapolated, along a straight line in 1/N."
        charts += _line_charts(title, "generated clips", metric.axis, lines, note, inverse=True)
    return charts


def _towards_infinity(rows: Sequence[Row]) -> list[Point]:
    """Return the scores of one model over 1/N, and at zero the extrapolation from the most clips."""
    points = [
        Point(1 / row["n_generated"], f"{row['n_generated']:,}", row["value"], row["low"], row["high"])
        for row in rows
    ]
    most = max(rows, key=lambda row: row["n_generated"])
    return [Point(0, "∞", most["infinite"], most["infinite_low"], most["infinite_high"]), *points]


def _line_charts(
    title: str,
    x_axis: str,
    y_axis: str,
    lines: Sequence[Line],
    note: str,
    *,
    inverse: bool = False,
    dates: bool = False,
) -> list[LineChart]:
    lines = [line for line in lines if line.points]
    shown, left_out = tuple(lines[:MOST_LINES]), len(lines) - MOST_LINES
    if not shown:
        return []
    if left_out > 0:
        note += f" The first {MOST_LINES} of {len(lines)} lines are drawn."
    return [LineChart(title, x_axis, y_axis, shown, note, inverse, dates)]


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
    """Return a setting, which may be text, as a number; None if it is not one."""
    try:
        value = float(setting) if isinstance(setting, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
