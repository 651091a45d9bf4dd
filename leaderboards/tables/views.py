"""Tables of scores as people read them: what is shown, how it is rounded, and by which number it is sorted.

They are made here once; `formats` writes them as text, Markdown and LaTeX, and `report` as HTML. Texts are
unchanged here, hostile ones included; the writers escape them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import pandas as pd

from vdm_bench.leaderboards.checks.compare import differing_keys
from vdm_bench.leaderboards.ranking import BEST, PUBLISHED, TIE, Board, Row, ScoreGroup, plain_rows
from vdm_bench.leaderboards.tables.reading import reading
from vdm_bench.leaderboards.text import NOTHING, interval_title, percent, rounded, useful_decimals

SYMBOLS = {BEST: "*", TIE: "="}
LEGEND = {BEST: "best", TIE: "tie: its interval overlaps that of the best, or its value equals it"}
VERIFIED = "verified: recomputed from the clips by `vdm-bench verify`; other rows are as reported"
AS_PUBLISHED = "published numbers are as stated in the papers; they have no signature"
SPREAD = "±: as published; see the paper for what it measures"

Links = Mapping[str, str]
"""Link targets of runs by the column `path`."""
_NO_LINKS: Links = {}


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes:
        title: its heading.
        kind: what its cells hold: a number; an interval; the symbol of the row's mark; the name of the row;
            footnote numbers; or another text.
    """

    title: str
    kind: Literal["number", "interval", "mark", "name", "notes", "text"]

    @property
    def numeric(self) -> bool:
        """Whether its cells are sorted numerically."""
        return self.kind in ("number", "interval")


RANK, MARK, NAME = TableColumn("rank", "number"), TableColumn("", "mark"), TableColumn("name", "name")
NOTES = TableColumn("marks", "notes")


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the displayed text.
        sort_key: number to sort by; None sorts last, or, in a text column, by the text.
        link: link target; may be empty.
        emphasis: whether it is the best value of its table.
    """

    text: str
    sort_key: float | None = None
    link: str = ""
    emphasis: bool = False


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        cells: cells in the order of the columns.
        mark: `best`, `tie` or empty.
        published: whether it is a published row.
    """

    cells: tuple[Cell, ...]
    mark: str = ""
    published: bool = False


@dataclass(frozen=True)
class Table:
    """A table of scores that are ranked together.

    Attributes:
        metric: name of the metric.
        higher_is_better: direction of the metric.
        about: lines with the numbers of clips, and why the table is not comparable with the one above it.
        columns: titles and kinds of the columns.
        rows: rows, best first; the first has the mark `best`, unless no row has a value.
        notes: lines with footnotes and the signature.
    """

    metric: str
    higher_is_better: bool
    about: tuple[str, ...]
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]

    @property
    def legend(self) -> tuple[str, ...]:
        """The marks of its rows; `LEGEND` explains them."""
        marks = {row.mark for row in self.rows}
        return tuple(mark for mark in LEGEND if mark in marks)


def tables_of_groups(groups: Sequence[ScoreGroup]) -> list[Table]:
    """Return a table per group; it says how the group differs from the one above it with the same metric."""
    return [_table_of_group(group, above, _NO_LINKS) for above, group in pairwise([None, *groups]) if group]


def _table_of_group(group: ScoreGroup, above: ScoreGroup | None, links: Links) -> Table:
    """Return the table of a group; `above` is the group above it, if any."""
    rows = plain_rows(group.rows)
    footnotes = numbered(text for row in rows for text in footnotes_of(row))
    levels = {row["level"] for row in rows if row["level"] is not None}
    cells = [_leading(row, links) | _cells(row, rows, group, levels, footnotes) for row in rows]
    difference = _not_comparable(group, above) if above and group.metric == above.metric else ""
    return Table(
        metric=group.metric,
        higher_is_better=group.higher_is_better,
        about=tuple(line for line in (_clips(group), difference) if line),
        columns=tuple(cells[0]),
        rows=_rows(rows, cells),
        notes=(
            *([VERIFIED] if group.rows["verified"].any() else []),
            *(f"({number}) {text}" for text, number in footnotes.items()),
            f"signature {group.signature} (digest {group.digest})",
        ),
    )


def _rows(rows: Sequence[Row], cells: Sequence[Mapping[TableColumn, Cell]]) -> tuple[TableRow, ...]:
    return tuple(
        TableRow(tuple(made.values()), row["mark"] or "", row.get("origin") == PUBLISHED)
        for row, made in zip(rows, cells, strict=True)
    )


def _not_comparable(group: ScoreGroup, above: ScoreGroup) -> str:
    return f"not comparable with the group above: {differing_keys(group.differences(above))}"


def _clips(group: ScoreGroup) -> str:
    counts = {"reference": group.n_reference, "generated": group.n_generated}
    known = [f"{count} {kind}" for kind, count in counts.items() if count]
    return f"{' and '.join(known)} clips" if known else ""


def numbered(texts: Iterable[str]) -> dict[str, int]:
    """Number distinct texts from 1."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts), start=1)}


def footnotes_of(row: Row) -> list[str]:
    """Return the footnotes of a row of `load_runs`."""
    return [
        *([] if row["status"] == "ok" else [f"no value: {row['status']}"]),
        *filter(None, [_reading(row)]),
        *row["marks"],
        *(f"departs from its protocol: {departure}" for departure in row["departures"]),
    ]


def _reading(row: Row) -> str:
    if row["floor"] is None:
        return ""
    return reading(
        row["value"],
        None if row["level"] is None else (row["low"], row["high"]),
        row["floor"],
        n_reference=row["n_reference"],
        n_generated=row["n_generated"],
        higher_is_better=row["higher_is_better"],
    )


def _leading(row: Row, links: Links) -> dict[TableColumn, Cell]:
    """Return the first cells of a row: rank, mark and name."""
    return {
        RANK: Cell(NOTHING if row["rank"] is None else str(row["rank"]), _key(row["rank"])),
        MARK: Cell(SYMBOLS.get(row["mark"], "")),
        NAME: Cell(row["name"], link=links.get(row["path"], "")),
    }


def _key(number: float | None) -> float | None:
    return None if number is None else float(number)


def _is_best(row: Row, rows: Sequence[Row]) -> bool:
    """Return whether a row has the best value; equal values share the first rank."""
    return bool(rows[0]["mark"] == BEST and row["rank"] == rows[0]["rank"])


def _cells(
    row: Row, rows: Sequence[Row], group: ScoreGroup, levels: set[float], footnotes: Mapping[str, int]
) -> dict[TableColumn, Cell]:
    """Return the cells after the name; their columns are the same for all rows of the group."""
    cells = {
        TableColumn("value", "number"): _value(row, rows),
        TableColumn(interval_title(levels), "interval"): _interval(row, levels),
        TableColumn("floor", "number"): _floor(row),
    }
    if any(other["infinite"] is not None for other in rows):
        cells[TableColumn("at N = ∞", "interval")] = _infinite(row)
    for kind, shared in (("reference", group.n_reference), ("generated", group.n_generated)):
        if shared is None:
            cells[TableColumn(kind, "number")] = Cell(str(row[f"n_{kind}"]), _key(row[f"n_{kind}"]))
    if any(other["verified"] for other in rows):
        cells[TableColumn("verified", "text")] = Cell("yes" if row["verified"] else NOTHING)
    if footnotes:
        cells[NOTES] = _notes(row, footnotes)
    return cells


def _notes(row: Row, footnotes: Mapping[str, int]) -> Cell:
    return Cell(" ".join(f"({footnotes[text]})" for text in footnotes_of(row)))


def _value(row: Row, rows: Sequence[Row]) -> Cell:
    """Return the value of a row: as published, or rounded to the precision of its interval."""
    text = row["text"] if row.get("origin") == PUBLISHED else _rounded_like_value(row, "value")
    return Cell(text, _key(row["value"]), emphasis=_is_best(row, rows))


def _interval(row: Row, levels: set[float]) -> Cell:
    if row["level"] is None:
        return Cell(NOTHING)
    ends = f"[{_rounded_like_value(row, 'low')}, {_rounded_like_value(row, 'high')}]"
    return Cell(ends if len(levels) == 1 else f"{ends} {percent(row['level'])}", _key(row["low"]))


def _rounded_like_value(row: Row, column: str) -> str:
    if row[column] is None:
        return NOTHING
    known = row[column] if row["value"] is None else row["value"]
    return rounded(row[column], useful_decimals(known, row["low"], row["high"]))


def _infinite(row: Row) -> Cell:
    if row["infinite"] is None:
        return Cell(NOTHING)
    numbers = [row[column] for column in ("infinite", "infinite_low", "infinite_high")]
    value, low, high = (rounded(number, useful_decimals(*numbers)) for number in numbers)
    return Cell(f"{value} [{low}, {high}]", _key(row["infinite"]))


def _floor(row: Row) -> Cell:
    # Not rounded like the value: a wide interval would round a small floor to 0.
    floor = row["floor"]
    return Cell(NOTHING if floor is None else rounded(floor, useful_decimals(floor, None, None)), _key(floor))


def tables_of_boards(boards: Sequence[Board]) -> list[Table]:
    """Return the tables of boards.

    The two numbers of a published pair are in one table, ranked by the number that the protocol measures: on the
    validation set, or with one split. Runs in separate tables say how they differ from those above them.
    """
    return [table for table, _ in tables_with_boards(boards)]


def tables_with_boards(boards: Sequence[Board], links: Links = _NO_LINKS) -> list[tuple[Table, Board]]:
    """Return the tables of `tables_of_boards`, each with the board that it shows.

    Args:
        boards: boards from `make_boards`.
        links: link targets for the names of runs.
    """
    shown: list[tuple[Table, Board]] = []
    for boards_of_table in _pairs(boards):
        main = boards_of_table[-1] if boards_of_table[-1].half == "validation set" else boards_of_table[0]
        if main.apart is None:
            table = _ranked_with_published(main, boards_of_table, links)
        else:
            above = shown[-1][1] if shown and shown[-1][1].protocol == main.protocol else None
            table = _ranked_separately(main.protocol, main.apart, above.apart if above else None, links)
        shown.append((table, main))
    return shown


def _pairs(boards: Sequence[Board]) -> list[list[Board]]:
    pairs: dict[tuple[object, ...], list[Board]] = {}
    for number, board in enumerate(boards):
        key = (board.protocol, board.metric, board.pair) if board.half else (number,)
        pairs.setdefault(key, []).append(board)
    return list(pairs.values())


def _ranked_separately(protocol: str, scores: ScoreGroup, above: ScoreGroup | None, links: Links) -> Table:
    """Return a table of runs that are not ranked with published rows; footnotes give the reasons."""
    rows = scores.rows
    marks = [
        (f"not ranked with published rows: {row['apart']}", *row["marks"])
        if row["apart"] and not row["departures"]
        else row["marks"]
        for row in plain_rows(rows)
    ]
    annotated = rows.assign(marks=pd.Series(marks, index=rows.index, dtype="object"))
    table = _table_of_group(replace(scores, rows=annotated), above, links)
    separate = ", not ranked with published rows" if any(rows["apart"]) else ""
    return replace(table, about=(f"{protocol or 'no protocol'}{separate}", *table.about))


def _ranked_with_published(main: Board, boards: Sequence[Board], links: Links) -> Table:
    """Return a table of published rows and the runs that are ranked with them."""
    halves = {board.half: _halves(board) for board in boards} if main.half else {}
    rows = plain_rows(main.rows)
    own = [row for row in rows if row["origin"] != PUBLISHED]
    levels = {row["level"] for row in own if row["level"] is not None}
    sources = numbered(row["source"] for row in rows if row["source"])
    notes = numbered(text for row in rows for text in footnotes_of(row))
    cells = [
        _leading(row, links) | _numbers(row, rows, levels, halves, main.half) | _origin(row, sources, notes)
        for row in rows
    ]
    return Table(
        metric=main.metric,
        higher_is_better=main.higher_is_better,
        about=tuple(_about(main)),
        columns=tuple(cells[0]),
        rows=_rows(rows, cells),
        notes=(
            AS_PUBLISHED,
            *([SPREAD] if any(row["spread"] for row in rows) else []),
            *(f"[{number}] {source}" for source, number in sources.items()),
            *(f"({number}) {text}" for text, number in notes.items()),
            *dict.fromkeys(f"your runs: signature {row['signature']} (digest {row['digest']})" for row in own),
        ),
    )


def _about(board: Board) -> Iterable[str]:
    if not board.pair:
        yield f"{board.protocol}, following the protocol, as far as the papers say"
    else:
        yield f"{board.protocol}, but: {board.pair}"
        yield "not comparable with rows that follow the protocol"
    if board.half:
        yield f"ranked by: {board.half}"


def _halves(board: Board) -> dict[tuple[str, str], Row]:
    return {(row["table"], row["name"]): row for row in plain_rows(board.rows)}


def _numbers(
    row: Row,
    rows: Sequence[Row],
    levels: set[float],
    halves: Mapping[str, Mapping[tuple[str, str], Row]],
    ranked_by: str,
) -> dict[TableColumn, Cell]:
    """Return the cells with numbers; their columns are the same for all rows."""
    cells = {}
    for half, published in halves.items():
        there = published.get((row["table"], row["name"]))
        best = half == ranked_by and _is_best(row, rows)
        cell = Cell(there["text"], _key(there["value"]), emphasis=best) if there else Cell(NOTHING)
        cells[TableColumn(half, "number")] = cell
    if not halves:
        cells[TableColumn("value", "number")] = _value(row, rows)
    if any(other["spread"] for other in rows):
        # Shown as published; `parse_rows` has checked that it is a number.
        cells[TableColumn("±", "number")] = Cell(
            row["spread"] or "", float(row["spread"]) if row["spread"] else None
        )
    if any(other["origin"] != PUBLISHED for other in rows):
        cells[TableColumn(interval_title(levels), "interval")] = _interval(row, levels)
    return cells


def _origin(row: Row, sources: Mapping[str, int], notes: Mapping[str, int]) -> dict[TableColumn, Cell]:
    """Return the cells with the source and, if any row has footnotes, the footnotes."""
    cells = {TableColumn("source", "text"): Cell(_source(row, sources))}
    if notes:
        cells[NOTES] = _notes(row, notes)
    return cells


def _source(row: Row, sources: Mapping[str, int]) -> str:
    if row["origin"] != PUBLISHED:
        return "your run"
    number, _, in_text = str(row["table"]).partition("-")
    place = "" if number == "later" else f" {'next to table' if in_text else 'table'} {number}"
    return f"[{sources[row['source']]}]{place}"
