"""Tables of a page: what `views` shows, with what a browser needs beside the texts.

What is shown and how it is rounded is decided for all formats in one place; here every cell gets the number that
it is sorted by, and a run the link to its details.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vdm_bench.leaderboards.ranking import BEST, TIE
from vdm_bench.leaderboards.report.charts import Row
from vdm_bench.leaderboards.report.plots import Plot
from vdm_bench.leaderboards.report.runs import Run
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
    anchor: str, view: GroupView, rows: Sequence[Row], runs: Mapping[str, Run], plots: Sequence[Plot]
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


def _row(view: GroupView, texts: Sequence[str], row: Row, runs: Mapping[str, Run]) -> TableRow:
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
