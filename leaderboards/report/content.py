"""The contents of a page, built from its runs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from vdm_bench.leaderboards.ranking import TIE, Board, Row, plain_rows
from vdm_bench.leaderboards.record import Record
from vdm_bench.leaderboards.report.charts import Metric, count_charts, curve_charts, guidance_charts, score_chart
from vdm_bench.leaderboards.report.gallery import Gallery
from vdm_bench.leaderboards.report.plots import Chart, Plot, draw
from vdm_bench.leaderboards.report.runs import WITHOUT_PROTOCOL, ReportedRun, Runs
from vdm_bench.leaderboards.tables.views import LEGEND, Cell, Table, TableRow
from vdm_bench.leaderboards.text import NOTHING

# Titles of columns, by kind, whose titles in other formats are a symbol or an abbreviation.
_TITLES = {"mark": "place", "notes": "notes"}
MOST_PLOTS = 60  # of a page
_MOST_NAMES = 4


@dataclass(frozen=True)
class Section:
    """A table of comparable scores, with its plots.

    Attributes:
        anchor: identifies it within a page.
        table: as `table_of_page` gives it.
        plots: its plots.
    """

    anchor: str
    table: Table
    plots: tuple[Plot, ...]

    @property
    def notes(self) -> list[str]:
        """The notes below the table; `best` needs no legend on a page."""
        return [*([LEGEND[TIE]] if TIE in self.table.legend else []), *self.table.notes]


def table_of_page(table: Table) -> Table:
    """Return a table as a page shows it: marks spelt out, and empty columns removed."""
    rows = [[_cell(table, row, place) for place in range(len(table.columns))] for row in table.rows]
    filled = [
        place
        for place, column in enumerate(table.columns)
        # Without a tie the rank says what is best.
        if (TIE in table.legend if column.kind == "mark" else any(row[place].text != NOTHING for row in rows))
    ]
    columns = [replace(column, title=_TITLES.get(column.kind, column.title)) for column in table.columns]
    return replace(
        table,
        columns=tuple(columns[place] for place in filled),
        rows=tuple(
            replace(row, cells=tuple(cells[place] for place in filled))
            for row, cells in zip(table.rows, rows, strict=True)
        ),
    )


def _cell(table: Table, row: TableRow, place: int) -> Cell:
    text = row.mark if table.columns[place].kind == "mark" else row.cells[place].text
    return replace(row.cells[place], text=text or NOTHING)


@dataclass(frozen=True)
class Caveat:
    """A warning, and the names of the runs it applies to."""

    text: str
    names: str


@dataclass(frozen=True)
class Part:
    """The tables of one protocol.

    Attributes:
        anchor: identifies it within a page.
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
        home: address of the index page; empty if there is none.
        warnings: about the runs.
        left_out: a sentence about each record that was refused.
        parts: tables of scores by protocol.
        count_plots: scores against the number of clips.
        galleries: clips side by side, with their addresses.
        runs: each in full.
    """

    title: str
    about: tuple[str, ...]
    home: str
    warnings: tuple[Caveat, ...]
    left_out: tuple[str, ...]
    parts: tuple[Part, ...]
    count_plots: tuple[Plot, ...]
    galleries: tuple[Gallery, ...]
    runs: tuple[ReportedRun, ...]

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Anchors and titles of the parts that are not empty."""
        entries = [
            ("warnings", "Before you read", self.warnings or self.left_out),
            *((part.anchor, part.title, part.sections) for part in self.parts),
            ("counts", "Number of clips", self.count_plots),
            ("clips", "Clips", self.galleries),
            ("runs", "Runs", self.runs),
        ]
        return [(anchor, text) for anchor, text, content in entries if content]


def make_page(
    runs: Runs,
    tables: Sequence[tuple[Table, Board]],
    *,
    title: str,
    about: Sequence[str] = (),
    home: str = "",
    galleries: Sequence[Gallery] = (),
) -> Page:
    """Build a page.

    Args:
        runs: shown in full.
        tables: their scores, with published rows, as `tables_with_boards` returns them.
        title: of the page.
        about: lines below the title.
        home: address of the index page, if there is one.
        galleries: clips side by side, with their addresses.
    """
    plotter = _Plotter()
    rows = [plain_rows(board.rows) for _, board in tables]
    parts = _parts(tables, rows, runs, plotter)
    count_plots = plotter.draw(
        count_charts(row for of_table in rows for row in of_table if row["path"] in runs.by_path)
    )
    return Page(
        title=title,
        about=(*about, *([f"{plotter.omitted} more plots are not drawn."] if plotter.omitted else [])),
        home=home,
        warnings=tuple(_warnings(runs.runs)),
        left_out=runs.left_out,
        parts=parts,
        count_plots=count_plots,
        galleries=tuple(galleries),
        runs=runs.runs,
    )


def _parts(
    tables: Sequence[tuple[Table, Board]], rows: Sequence[Sequence[Row]], runs: Runs, plotter: "_Plotter"
) -> tuple[Part, ...]:
    sections: dict[str, list[Section]] = {}
    for number, ((table, board), of_table) in enumerate(zip(tables, rows, strict=True), start=1):
        plots = plotter.draw(_charts(Metric(board.metric, board.higher_is_better), of_table, runs))
        section = Section(f"table-{number}", table_of_page(table), plots)
        sections.setdefault(board.protocol, []).append(section)
    title = "Scores" if len(sections) == 1 else "Scores: {}"
    return tuple(
        Part(f"scores-{number}", title.format(protocol or WITHOUT_PROTOCOL), tuple(of_protocol))
        for number, (protocol, of_protocol) in enumerate(sections.items(), start=1)
    )


class _Plotter:
    """Draws plots, up to the limit of a page."""

    def __init__(self) -> None:
        self._drawn = 0
        self.omitted = 0

    def draw(self, charts: Sequence[Chart]) -> tuple[Plot, ...]:
        shown = charts[: MOST_PLOTS - self._drawn]
        self._drawn += len(shown)
        self.omitted += len(charts) - len(shown)
        return tuple(map(draw, shown))


def _charts(metric: Metric, rows: Sequence[Row], runs: Runs) -> list[Chart]:
    return [
        *score_chart(metric, rows),
        *curve_charts(metric, rows, runs.by_path),
        *guidance_charts(metric, rows, runs.by_path),
    ]


def _warnings(runs: Iterable[ReportedRun]) -> Iterator[Caveat]:
    """Yield each warning once, with the names of its runs."""
    names: dict[str, dict[str, None]] = {}
    for run in runs:
        for text in _warnings_of(run.record):
            names.setdefault(text, {})[run.record.name] = None
    for text, runs_with_it in names.items():
        more = len(runs_with_it) - _MOST_NAMES
        yield Caveat(
            text, ", ".join([*list(runs_with_it)[:_MOST_NAMES], *([f"{more} more"] if more > 0 else [])])
        )


def _warnings_of(record: Record) -> Iterator[str]:
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
