"""What stands on a page, put together from its runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vdm_bench.leaderboards.ranking import BEST, TIE, Board
from vdm_bench.leaderboards.record import Record
from vdm_bench.leaderboards.report.charts import (
    Metric,
    Row,
    count_charts,
    curve_charts,
    guidance_charts,
    plain_rows,
    score_chart,
)
from vdm_bench.leaderboards.report.gallery import Gallery
from vdm_bench.leaderboards.report.plots import Chart, Plot, draw
from vdm_bench.leaderboards.report.runs import WITHOUT_PROTOCOL, ReportedRun, Runs
from vdm_bench.leaderboards.tables.views import NOTHING, NUMERIC, SYMBOLS, GroupView

# Columns whose titles are signs or short in other formats.
_TITLES = {"": "place", "marks": "notes"}
_PLACES = {SYMBOLS[BEST]: BEST, SYMBOLS[TIE]: TIE, "": NOTHING}
# Columns that are sorted by a number of the frame; an interval by its lower end.
_NUMBERS = {
    "rank": "rank",
    "value": "value",
    "floor": "floor",
    "at N = ∞": "infinite",
    "reference": "n_reference",
    "generated": "n_generated",
}
MOST_PLOTS = 60  # of a page
_MOST_NAMES = 4


Table = tuple[GroupView, Board]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it shows.
        key: number that it is sorted by; None sorts last, or by the text in a column of texts.
        link: where it leads; may be empty.
    """

    text: str
    key: float | None = None
    link: str = ""


@dataclass(frozen=True)
class Title:
    """A column's title, and whether it is sorted and aligned as numbers."""

    text: str
    numeric: bool


@dataclass(frozen=True)
class TableRow:
    """A row: its cells, the mark of its group (`best`, `tie` or none), and whether a paper says so."""

    cells: tuple[Cell, ...]
    mark: str
    published: bool


@dataclass(frozen=True)
class Section:
    """A table of scores that may be compared, and its plots.

    Attributes:
        anchor: names it within a page.
        view: heading, lines above the table and notes below it.
        titles: of the columns that have anything in them.
        rows: best first.
        plots: its plots.
    """

    anchor: str
    view: GroupView
    titles: tuple[Title, ...]
    rows: tuple[TableRow, ...]
    plots: tuple[Plot, ...]

    @property
    def notes(self) -> list[str]:
        """What stands below the table; `best` needs no legend here."""
        return [note.removeprefix("= ") for note in self.view.notes if not note.startswith(f"{SYMBOLS[BEST]} ")]


def make_section(
    anchor: str, view: GroupView, rows: Sequence[Row], runs: Mapping[str, ReportedRun], plots: Sequence[Plot]
) -> Section:
    """Make the table of a view.

    Args:
        anchor: names it within a page.
        view: what is shown.
        rows: what is behind it, in the same order, as `plain_rows` gives it.
        runs: the runs of the page by path.
        plots: of these scores.
    """
    made = [_row(view, texts, row, runs) for texts, row in zip(view.rows, rows, strict=True)]
    tied = any(row.mark == TIE for row in made)  # else the rank says what is best
    filled = [
        place
        for place, title in enumerate(view.titles)
        if (tied if title == "" else any(row.cells[place].text != NOTHING for row in made))
    ]
    return Section(
        anchor=anchor,
        view=view,
        titles=tuple(_title(view.titles[place]) for place in filled),
        rows=tuple(
            TableRow(tuple(row.cells[place] for place in filled), row.mark, row.published) for row in made
        ),
        plots=tuple(plots),
    )


def _title(text: str) -> Title:
    return Title(_TITLES.get(text, text), text in NUMERIC or text in _NUMBERS or _is_interval(text))


def _is_interval(title: str) -> bool:
    return title.endswith("interval")


def _row(view: GroupView, texts: Sequence[str], row: Row, runs: Mapping[str, ReportedRun]) -> TableRow:
    run = runs.get(row["path"])
    cells = []
    for title, text in zip(view.titles, texts, strict=True):
        link = f"#{run.anchor}" if run and title == "name" else ""
        shown = _PLACES[text] if title == "" else text
        cells.append(Cell(shown or NOTHING, _key(title, text, row), link))
    return TableRow(tuple(cells), row["mark"] or "", published=run is None)


def _key(title: str, text: str, row: Row) -> float | None:
    column = "low" if _is_interval(title) else _NUMBERS.get(title)
    if column is not None and row[column] is not None:
        return float(row[column])
    if column is None and title in NUMERIC:
        try:
            return float(text)
        except ValueError:
            return None
    return None


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
    runs: tuple[ReportedRun, ...]

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


def _warnings(runs: Iterable[ReportedRun]) -> Iterator[Warned]:
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
