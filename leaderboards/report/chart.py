"""What a chart is, before it is drawn: points with their intervals, and the same in words."""

from dataclasses import dataclass

from vdm_bench.leaderboards.rounding import rounded, useful_decimals
from vdm_bench.leaderboards.tables.views import NOTHING

LARGEST = 1e30  # that a plot has room for


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
