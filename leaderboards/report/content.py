"""What stands on a page, put together from its runs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vdm_bench.leaderboards.boards import Board
from vdm_bench.leaderboards.record import Record
from vdm_bench.leaderboards.report.chart import Metric
from vdm_bench.leaderboards.report.charts import (
    Row,
    count_charts,
    curve_charts,
    guidance_charts,
    plain_rows,
    score_chart,
)
from vdm_bench.leaderboards.report.gallery import Gallery
from vdm_bench.leaderboards.report.plots import Chart, Plot, draw
from vdm_bench.leaderboards.report.runs import WITHOUT_PROTOCOL, Run, Runs
from vdm_bench.leaderboards.report.sections import Section, make_section
from vdm_bench.leaderboards.tables.views import GroupView

MOST_PLOTS = 60  # of a page
_MOST_NAMES = 4


Table = tuple[GroupView, Board]


@dataclass(frozen=True)
class Warned:
    """Something to know, and the runs that it is about."""

    text: str
    names: str


@dataclass(frozen=True)
class Part:
    """The tables of one protocol.

    Attributes:
        anchor: names it within a page.
        title: of the part.
        sections: tables of scores with their plots.
    """

    anchor: str
    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Page:
    """A page of runs.

    Attributes:
        title: of the page.
        about: lines below the title.
        home: address of the page above; empty where there is none.
        warnings: what to know before reading.
        left_out: a sentence for each record that was refused.
        parts: tables of scores by protocol.
        count_plots: scores against the number of clips.
        galleries: clips side by side, with their addresses.
        runs: each in full.
    """

    title: str
    about: tuple[str, ...]
    home: str
    warnings: tuple[Warned, ...]
    left_out: tuple[str, ...]
    parts: tuple[Part, ...]
    count_plots: tuple[Plot, ...]
    galleries: tuple[Gallery, ...]
    runs: tuple[Run, ...]

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Anchors and names of the parts that there are."""
        entries = [
            ("warnings", "Before you read", self.warnings or self.left_out),
            *((part.anchor, part.title, part.sections) for part in self.parts),
            ("counts", "Number of clips", self.count_plots),
            ("clips", "Clips", self.galleries),
            ("runs", "Runs", self.runs),
        ]
        return [(anchor, text) for anchor, text, there in entries if there]


def make_page(
    runs: Runs,
    tables: Sequence[Table],
    *,
    title: str,
    about: Sequence[str] = (),
    home: str = "",
    galleries: Sequence[Gallery] = (),
) -> Page:
    """Put a page together.

    Args:
        runs: that it shows in full.
        tables: their scores, with published rows, as `view_with_boards` gives them.
        title: of the page.
        about: lines below the title.
        home: address of the page above, if there is one.
        galleries: clips side by side, with their addresses.
    """
    pen = _Pen()
    rows = [plain_rows(board.rows) for _, board in tables]
    parts = _parts(tables, rows, runs, pen)
    count_plots = pen.draw(
        count_charts(row for of_table in rows for row in of_table if row["path"] in runs.by_path)
    )
    return Page(
        title=title,
        about=(*about, *([f"{pen.refused} more plots are not drawn."] if pen.refused else [])),
        home=home,
        warnings=tuple(_warnings(runs.runs)),
        left_out=runs.left_out,
        parts=parts,
        count_plots=count_plots,
        galleries=tuple(galleries),
        runs=runs.runs,
    )


def _parts(tables: Sequence[Table], rows: Sequence[Sequence[Row]], runs: Runs, pen: "_Pen") -> tuple[Part, ...]:
    sections: dict[str, list[Section]] = {}
    for number, ((view, board), found) in enumerate(zip(tables, rows, strict=True), start=1):
        plots = pen.draw(_charts(Metric(board.metric, board.higher_is_better), found, runs))
        section = make_section(f"table-{number}", view, found, runs.by_path, plots)
        sections.setdefault(board.protocol, []).append(section)
    title = "Scores" if len(sections) == 1 else "Scores: {}"
    return tuple(
        Part(f"scores-{number}", title.format(protocol or WITHOUT_PROTOCOL), tuple(found))
        for number, (protocol, found) in enumerate(sections.items(), start=1)
    )


class _Pen:
    """Draws plots until there are too many for a page."""

    def __init__(self) -> None:
        self._drawn = 0
        self.refused = 0

    def draw(self, charts: Sequence[Chart]) -> tuple[Plot, ...]:
        shown = charts[: MOST_PLOTS - self._drawn]
        self._drawn += len(shown)
        self.refused += len(charts) - len(shown)
        return tuple(map(draw, shown))


def _charts(metric: Metric, rows: Sequence[Row], runs: Runs) -> list[Chart]:
    return [
        *score_chart(metric, rows),
        *curve_charts(metric, rows, runs.by_path),
        *guidance_charts(metric, rows, runs.by_path),
    ]


def _warnings(runs: Iterable[Run]) -> Iterator[Warned]:
    """Say each thing once, with the names of the runs."""
    names: dict[str, dict[str, None]] = {}
    for run in runs:
        for text in _texts(run.record):
            names.setdefault(text, {})[run.record.name] = None
    for text, found in names.items():
        more = len(found) - _MOST_NAMES
        yield Warned(text, ", ".join([*list(found)[:_MOST_NAMES], *([f"{more} more"] if more > 0 else [])]))


def _texts(record: Record) -> Iterator[str]:
    for departure in record.protocol.departures if record.protocol else ():
        yield f"departs from its protocol: {departure}"
    for score in record.scores:
        if score.value is None:
            yield f"{score.metric} has no value: {score.status}"
        yield from (f"{score.metric}: {mark}" for mark in score.marks)
    for side, counts in (("reference", record.reference), ("generated", record.generated)):
        if counts.skipped:
            yield f"{len(counts.skipped)} of {counts.expected} {side} clips skipped"
        if counts.repeated:
            yield f"{counts.repeated} of {counts.scored} {side} clips repeat an earlier one"
    if record.environment.code_dirty:
        yield "made by code with uncommitted changes"
