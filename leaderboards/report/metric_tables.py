"""One table per protocol and metric: groups of comparable scores, with their conditions as columns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vdm_bench.leaderboards.published import REAL, Paper, paper
from vdm_bench.leaderboards.ranking import BEST, PUBLISHED, TIE, Board, Row
from vdm_bench.leaderboards.report.signatures import Reading, read_signature
from vdm_bench.leaderboards.tables.formats import csv_text, write_tables
from vdm_bench.leaderboards.tables.matrix import ProtocolSummary, group_title, notes_of
from vdm_bench.leaderboards.tables.views import NAME, Cell, Table, TableColumn, TableRow
from vdm_bench.leaderboards.text import NOTHING

MOST_COPIED = 12  # groups of a table that are copied as LaTeX
MOST_REASONS = 3  # of a group
MOST_SIGNATURES = 12  # of a table that are read out
OTHERWISE = "conditions"
# Conditions of published rows, by the texts that a group is made of. What is left is a condition of its own.
_CONDITIONS: Mapping[str, str] = {
    "resolution": r"(\d+x\d+)|(another) resolution|resolution (not stated)",
    "training data": r"trained on (?:the )?(.*)|(pretrained on .*)|(zero-shot)",
    "camera": r"(another) camera view",
    "class": r"a class (given)",
    "samples": r"([\d,]+) samples|number of samples (not stated)",
}
_VALUE = TableColumn("value", "number")
_SHOWN_APART = ("rank", "mark", "name", "notes", "text")  # kinds, and a title, of columns that are made here
_GIVEN_SHAPE = re.compile(r"\d+x(\d+x\d+)\b")


@dataclass(frozen=True)
class ScoreRow:
    """A row of a table.

    Attributes:
        rank: within the group; `-` for real clips.
        name: of the model.
        link: address of the run's details; may be empty.
        mark: `best`, `tie` or empty.
        cells: by the columns of the table.
        conditions: by the conditions of the table.
        paper: that states the number; None for a run.
        place: where in the paper, such as `table 2`; may be empty.
        date: when a run ended; empty for a published row.
        verified: whether `vdm-bench verify` has computed the scores of a run again.
        notes: texts of its footnotes.
    """

    rank: Cell
    name: str
    link: str
    mark: str
    cells: Mapping[TableColumn, Cell]
    conditions: Mapping[str, str]
    paper: Paper | None
    place: str
    date: str
    verified: bool
    notes: tuple[str, ...]

    @property
    def published(self) -> bool:
        """Whether a paper states it."""
        return self.paper is not None

    def cell(self, column: TableColumn) -> Cell:
        """Return the cell of a column; most groups lack some."""
        return self.cells.get(column, Cell(NOTHING))


@dataclass(frozen=True)
class RankedGroup:
    """Comparable scores, best first.

    Attributes:
        title: what distinguishes it from the other groups.
        about: numbers of clips, and why it is not comparable with another group.
        rows: best first.
        board: that it shows.
        table: the same as one table for other formats.
    """

    title: str
    about: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    board: Board
    table: Table = field(repr=False)

    @property
    def has_runs(self) -> bool:
        """Whether it holds a run."""
        return any(not row.published for row in self.rows)

    @property
    def best(self) -> ScoreRow | None:
        """The best row; None if no row has a value."""
        return self.rows[0] if self.rows[0].mark == BEST else None

    def headline(self, row: ScoreRow) -> str:
        """Return the number by which a row is ranked."""
        texts = [cell.text for cell in row.cells.values() if cell.emphasis]
        return texts[0] if texts else row.cell(_VALUE).text


@dataclass(frozen=True)
class MetricTable:
    """All scores of a protocol and a metric.

    Attributes:
        anchor: identifies it within a page.
        protocol: its name; empty for runs without one.
        metric: name of the recipe.
        higher_is_better: direction of the metric.
        columns: of numbers.
        conditions: columns of conditions that differ between rows.
        groups: comparable scores; the one that follows the protocol is the first, if there is any.
        focus: index of the group that is not dimmed.
        signatures: of the runs, read out.
    """

    anchor: str
    protocol: str
    metric: str
    higher_is_better: bool
    columns: tuple[TableColumn, ...]
    conditions: tuple[str, ...]
    groups: tuple[RankedGroup, ...]
    focus: int
    signatures: tuple[Reading, ...]

    @property
    def rows(self) -> list[ScoreRow]:
        """The rows of all groups."""
        return [row for group in self.groups for row in group.rows]

    @property
    def choices(self) -> dict[str, list[str]]:
        """The values of each condition, to filter by."""
        return {name: sorted({row.conditions[name] for row in self.rows}) for name in self.conditions}

    @property
    def has_ties(self) -> bool:
        """Whether any row ties with the best of its group."""
        return any(row.mark == TIE for row in self.rows)

    @property
    def latex(self) -> str:
        """The first groups as LaTeX."""
        return write_tables([group.table for group in self.groups[:MOST_COPIED]], "latex")

    @property
    def csv(self) -> str:
        """What the table shows as CSV."""
        titles = [column.title for column in self.columns]
        head = ["group", "rank", "model", *titles, *self.conditions, "year", "source", "notes"]
        rows = [(group.title, row) for group in self.groups for row in group.rows]
        return csv_text(head, [dict(zip(head, self._texts(title, row), strict=True)) for title, row in rows])

    def _texts(self, title: str, row: ScoreRow) -> list[str]:
        cells = [row.cell(column).text for column in self.columns]
        conditions = [row.conditions[name] for name in self.conditions]
        source = (str(row.paper.year), row.paper.source) if row.paper else (row.date[:4], "run")
        texts = [title, row.rank.text, row.name, *cells, *conditions, *source, "; ".join(row.notes)]
        return ["" if text == NOTHING else text for text in texts]


def metric_tables(
    tables: Sequence[tuple[Table, Board]],
    summaries: Mapping[str, ProtocolSummary],
    *,
    focus_runs: bool = False,
) -> list[MetricTable]:
    """Merge the tables of each protocol and metric.

    Args:
        tables: as `tables_with_boards` returns them.
        summaries: of the protocols, by name; may lack some.
        focus_runs: whether the first group with a run is not dimmed, instead of the first group.
    """
    merged: dict[tuple[str, str], list[RankedGroup]] = {}
    for table, board in tables:
        summary = summaries.get(board.protocol, ProtocolSummary())
        merged.setdefault((board.protocol, board.metric), []).append(_group(table, board, summary))
    return [
        _metric_table(f"table-{number}", groups, focus_runs=focus_runs)
        for number, groups in enumerate(merged.values(), start=1)
    ]


def _metric_table(anchor: str, groups: Sequence[RankedGroup], *, focus_runs: bool) -> MetricTable:
    board = groups[0].board
    columns = dict.fromkeys(column for group in groups for row in group.rows for column in row.cells)
    rows = [row for group in groups for row in group.rows]
    names = [
        name for name in (*_CONDITIONS, OTHERWISE) if len({row.conditions.get(name, NOTHING) for row in rows}) > 1
    ]
    filled = [
        replace(
            group,
            rows=tuple(
                replace(row, conditions={name: row.conditions.get(name, NOTHING) for name in names})
                for row in group.rows
            ),
        )
        for group in groups
    ]
    with_runs = (place for place, group in enumerate(groups) if group.has_runs)
    return MetricTable(
        anchor=anchor,
        protocol=board.protocol,
        metric=board.metric,
        higher_is_better=board.higher_is_better,
        # Values stand first, whichever group has them.
        columns=tuple(sorted(columns, key=lambda column: column.kind != "number" or column.title == "floor")),
        conditions=tuple(names),
        groups=tuple(filled),
        focus=next(with_runs, 0) if focus_runs else 0,
        signatures=tuple(_signatures(groups)),
    )


def _group(table: Table, board: Board, summary: ProtocolSummary) -> RankedGroup:
    rows = board.plain
    about: tuple[str, ...] = ()
    if board.apart is not None:
        reasons = dict.fromkeys(row["apart"] for row in rows if row["apart"])
        more = len(reasons) - MOST_REASONS
        about = (
            *(f"ranked separately: {reason}" for reason in list(reasons)[:MOST_REASONS]),
            *([f"and {more} more reasons"] if more > 0 else []),
            *table.about[1:],
        )
    elif board.half:
        about = (f"ranked by: {board.half}",)
    shown = zip(rows, table.rows, strict=True)
    made = tuple(_row(table, row, cells, board, summary) for row, cells in shown)
    return RankedGroup(group_title(board), about, made, board, table)


def _row(table: Table, row: Row, made: TableRow, board: Board, summary: ProtocolSummary) -> ScoreRow:
    cells = dict(zip(table.columns, made.cells, strict=True))
    published = row["origin"] == PUBLISHED
    notes = [note for note in notes_of(row) if not note.startswith("ranked separately: ")]
    conditions = _published_conditions(board.pair, notes) if published else _run_conditions(row)
    if board.apart is None:
        conditions = _implied(summary, board.pair, row) | conditions
    place = str(row["table"] or "") if published else ""
    number, _, in_text = place.partition("-")
    return ScoreRow(
        rank=made.cells[0],
        name=row["name"],
        link=cells[NAME].link,
        mark=row["mark"] or "",
        cells=_numbers(cells, row["spread"]),
        conditions=conditions,
        paper=paper(row["source"]) if published else None,
        place="" if place in ("", "later") else f"{'beside table' if in_text else 'table'} {number}",
        date="" if published else row["created"].strftime("%Y-%m-%d"),
        verified=bool(row["verified"]) if not published else False,
        notes=tuple(note for note in notes if note not in _conditions_as_notes(notes)),
    )


def _implied(summary: ProtocolSummary, group: str, row: Row) -> dict[str, str]:
    """Return the conditions of the protocol; a number of samples that no paper states is not one of them."""
    sampled = not group and row["name"] != REAL
    return {name: value for name, value in summary.conditions.items() if name != "samples" or sampled}


def _numbers(cells: Mapping[TableColumn, Cell], spread: str | None) -> dict[TableColumn, Cell]:
    """Keep the columns of numbers; the spread is shown behind its value."""
    kept = {
        column: cell
        for column, cell in cells.items()
        if column.kind in ("number", "interval") and column.title not in ("rank", "±") and cell.text != NOTHING
    }
    if spread and _VALUE in kept:
        kept[_VALUE] = replace(kept[_VALUE], text=f"{kept[_VALUE].text} ± {spread}")
    return kept


def _published_conditions(group: str, notes: Iterable[str]) -> dict[str, str]:
    """Return the conditions that a published row states: in its group, and its number of samples in its notes."""
    found: dict[str, str] = {}
    rest = []
    for text in group.split(", ") if group else []:
        condition = _condition(text)
        found.update([condition] if condition else [])
        rest += [] if condition else [text]
    if rest:
        found[OTHERWISE] = ", ".join(rest)
    for text in _conditions_as_notes(notes):
        found.update([condition] if (condition := _condition(text)) else [])
    return found


def _conditions_as_notes(notes: Iterable[str]) -> list[str]:
    return [note for note in notes if re.fullmatch(_CONDITIONS["samples"], note)]


def _condition(text: str) -> tuple[str, str] | None:
    for name, pattern in _CONDITIONS.items():
        if match := re.fullmatch(pattern, text):
            return name, next(part for part in match.groups() if part)
    return None


def _run_conditions(row: Row) -> dict[str, str]:
    conditions = {"samples": f"{row['n_generated']:,}"}
    if shape := _GIVEN_SHAPE.search(row["signature"].partition("|in:")[2].partition("|")[0]):
        conditions["resolution"] = shape[1]
    return conditions


def _signatures(groups: Iterable[RankedGroup]) -> Iterable[Reading]:
    """Read the signatures of the runs, each once."""
    seen = {
        row["digest"]: row["signature"]
        for group in groups
        if group.has_runs
        for row in group.board.plain
        if row["signature"]
    }
    return [read_signature(text) for text in list(seen.values())[:MOST_SIGNATURES]]
