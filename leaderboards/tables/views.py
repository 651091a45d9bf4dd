"""What a table shows of a group of scores, before it is written in one format or another.

All strings here are as they came, hostile ones included; the writers of `tables` make them harmless.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pandas as pd

from vdm_bench.leaderboards.checks.compare import differing_keys
from vdm_bench.leaderboards.published import HALVES
from vdm_bench.leaderboards.ranking import BEST, PUBLISHED, TIE, Board, ScoreGroup, records
from vdm_bench.leaderboards.text import rounded, useful_decimals

NOTHING = "-"
SYMBOLS = {BEST: "*", TIE: "="}
LEGEND = {BEST: "* best", TIE: "= tie: the intervals, or equal values, do not separate it from the best"}
VERIFIED = "verified: computed again from the clips by `vdm-bench verify`; other rows are as reported"
# Titles of the columns that are aligned to the right.
NUMERIC = ("rank", "value", "±", "published", "own", "difference", *HALVES, "floor", "reference", "generated")

_Row = Mapping[str, Any]
AS_PUBLISHED = "published numbers stand as their papers state them; they have no signature"
SPREAD = "±: as published; what it measures is up to the paper"


@dataclass(frozen=True)
class GroupView:
    """A group of scores as people read it.

    Attributes:
        metric: name of the recipe.
        higher_is_better: direction of the metric.
        about: numbers of clips, and why the group is not comparable with the one above it; may be empty.
        titles: titles of the columns.
        rows: cells, best row first, in the order of the titles.
        has_best: whether the first row is the best one; not so where no row has a value.
        notes: legend, footnotes and signature, a line each.
        ranked_by: title of the column that the rows are ranked by.
    """

    metric: str
    higher_is_better: bool
    about: tuple[str, ...]
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    has_best: bool
    notes: tuple[str, ...]
    ranked_by: str = "value"


def view_groups(groups: Sequence[ScoreGroup]) -> list[GroupView]:
    """Choose and round what is shown; a group says how it differs from one of its metric above it."""
    return [view_group(group, above) for above, group in pairwise([None, *groups]) if group]


def view_group(group: ScoreGroup, above: ScoreGroup | None) -> GroupView:
    """Choose and round what is shown of a group that stands below another one, or below none."""
    return _view(group, _not_comparable(group, above) if above and group.metric == above.metric else "")


def _not_comparable(group: ScoreGroup, above: ScoreGroup) -> str:
    return f"not comparable with the group above: {differing_keys(group.differences(above))}"


def _view(group: ScoreGroup, difference: str) -> GroupView:
    records = group.rows.to_dict("records")
    rows = [{str(key): None if value is pd.NA else value for key, value in row.items()} for row in records]
    footnotes = numbered(text for row in rows for text in footnotes_of(row))
    levels = {row["level"] for row in rows if row["level"] is not None}
    cells = [_cells(row, group, levels, footnotes) for row in rows]
    marks = {row["mark"] for row in rows}
    return GroupView(
        metric=group.metric,
        higher_is_better=group.higher_is_better,
        about=tuple(line for line in (_clips(group), difference) if line),
        titles=tuple(cells[0]),
        rows=tuple(tuple(row.values()) for row in cells),
        has_best=BEST in marks,
        notes=(
            *(line for mark, line in LEGEND.items() if mark in marks),
            *([VERIFIED] if group.rows["verified"].any() else []),
            *(f"({number}) {text}" for text, number in footnotes.items()),
            f"signature {group.signature} (digest {group.digest})",
        ),
    )


def _clips(group: ScoreGroup) -> str:
    counts = {"reference": group.n_reference, "generated": group.n_generated}
    known = [f"{count} {kind}" for kind, count in counts.items() if count]
    return f"{' and '.join(known)} clips" if known else ""


def numbered(texts: Iterable[str]) -> dict[str, int]:
    """Number texts from 1 on, each once."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts), start=1)}


def footnotes_of(row: _Row) -> list[str]:
    """What is to be said below the table of a row of `load_runs`."""
    return [
        *([] if row["status"] == "ok" else [f"no value: {row['status']}"]),
        *row["marks"],
        *(f"departs from its protocol: {departure}" for departure in row["departures"]),
    ]


def _cells(row: _Row, group: ScoreGroup, levels: set[float], footnotes: Mapping[str, int]) -> dict[str, str]:
    """Return the cells of a row by column; which columns there are depends on the group alone."""
    cells = {
        "rank": NOTHING if row["rank"] is None else str(row["rank"]),
        "": SYMBOLS.get(row["mark"], ""),
        "name": row["name"],
        "value": shown_value(row),
        interval_title(levels): shown_interval(row, levels),
        "floor": _floor(row),
    }
    if group.rows["infinite"].notna().any():
        cells["at N = ∞"] = _infinite(row)
    for kind, shared in (("reference", group.n_reference), ("generated", group.n_generated)):
        if shared is None:
            cells[kind] = str(row[f"n_{kind}"])
    if group.rows["verified"].any():
        cells["verified"] = "yes" if row["verified"] else NOTHING
    if footnotes:
        cells["marks"] = " ".join(f"({footnotes[text]})" for text in footnotes_of(row))
    return cells


def interval_title(levels: set[float]) -> str:
    """Title of the column of intervals of these levels; one that all have stands in it."""
    return f"{_percent(*levels)} interval" if len(levels) == 1 else "interval"


def shown_interval(row: _Row, levels: set[float]) -> str:
    """Return the cell of a row in that column."""
    if row["level"] is None:
        return NOTHING
    ends = f"[{_rounded_like_value(row, 'low')}, {_rounded_like_value(row, 'high')}]"
    return ends if len(levels) == 1 else f"{ends} {_percent(row['level'])}"


def shown_value(row: _Row) -> str:
    """Return the value of a row, in as many digits as its interval bears."""
    return _rounded_like_value(row, "value")


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def _rounded_like_value(row: _Row, column: str) -> str:
    if row[column] is None:
        return NOTHING
    known = row[column] if row["value"] is None else row["value"]
    return rounded(row[column], useful_decimals(known, row["low"], row["high"]))


def _infinite(row: _Row) -> str:
    if row["infinite"] is None:
        return NOTHING
    numbers = [row[column] for column in ("infinite", "infinite_low", "infinite_high")]
    value, low, high = (rounded(number, useful_decimals(*numbers)) for number in numbers)
    return f"{value} [{low}, {high}]"


def _floor(row: _Row) -> str:
    # Not rounded like the value: a wide interval would round a small floor to nothing.
    floor = row["floor"]
    return NOTHING if floor is None else rounded(floor, useful_decimals(floor, None, None))


def view_boards(boards: Sequence[Board]) -> list[GroupView]:
    """Choose and round what is shown. Both numbers of a pair are one table, ranked by what a protocol gives.

    That is the validation set, or one split. Own runs by themselves say how they differ from those above them.
    """
    return [view for view, _ in view_with_boards(boards)]


def view_with_boards(boards: Sequence[Board]) -> list[tuple[GroupView, Board]]:
    """Return what `view_boards` does, each with the board whose rows it shows."""
    shown: list[tuple[GroupView, Board]] = []
    for boards_of_table in _tables(boards):
        main = boards_of_table[-1] if boards_of_table[-1].half == "validation set" else boards_of_table[0]
        if main.apart is None:
            view = _together(main, boards_of_table)
        else:
            above = shown[-1][1] if shown and shown[-1][1].protocol == main.protocol else None
            view = _apart(main.protocol, main.apart, above.apart if above else None)
        shown.append((view, main))
    return shown


def _tables(boards: Sequence[Board]) -> list[list[Board]]:
    tables: dict[tuple[Any, ...], list[Board]] = {}
    for number, board in enumerate(boards):
        key = (board.protocol, board.metric, board.pair) if board.half else (number,)
        tables.setdefault(key, []).append(board)
    return list(tables.values())


def _apart(protocol: str, scores: ScoreGroup, above: ScoreGroup | None) -> GroupView:
    """Show own runs that stand by themselves, with the reason; departures are named in any case."""
    rows = scores.rows
    marks = [
        (f"apart from published rows: {row['apart']}", *row["marks"])
        if row["apart"] and not row["departures"]
        else row["marks"]
        for row in records(rows)
    ]
    told = rows.assign(marks=pd.Series(marks, index=rows.index, dtype="object"))
    view = view_group(replace(scores, rows=told), above)
    stands = ", own runs by themselves" if any(rows["apart"]) else ""
    return replace(view, about=(f"{protocol or 'no protocol'}{stands}", *view.about))


def _together(main: Board, boards: Sequence[Board]) -> GroupView:
    halves = {board.half: _texts(board) for board in boards} if main.half else {}
    rows = [{key: None if value is pd.NA else value for key, value in row.items()} for row in records(main.rows)]
    own = [row for row in rows if row["origin"] != PUBLISHED]
    levels = {row["level"] for row in own if row["level"] is not None}
    sources = {source: number for number, source in enumerate(dict.fromkeys(_sources(rows)), start=1)}
    notes = numbered(text for row in rows for text in footnotes_of(row))
    cells = [_board_cells(row, rows, halves, levels, sources, notes) for row in rows]
    ranked_by = main.half or "value"
    marks = {row["mark"] for row in rows}
    return GroupView(
        metric=main.metric,
        higher_is_better=main.higher_is_better,
        about=tuple(_about(main)),
        titles=tuple(cells[0]),
        rows=tuple(tuple(row.values()) for row in cells),
        has_best=BEST in marks,
        notes=(
            *(line for mark, line in LEGEND.items() if mark in marks),
            AS_PUBLISHED,
            *([SPREAD] if any(row["spread"] for row in rows) else []),
            *(f"[{number}] {source}" for source, number in sources.items()),
            *(f"({number}) {text}" for text, number in notes.items()),
            *dict.fromkeys(f"own runs: signature {row['signature']} (digest {row['digest']})" for row in own),
        ),
        ranked_by=ranked_by,
    )


def _about(board: Board) -> Iterable[str]:
    if not board.pair:
        yield f"{board.protocol}, as the protocol says, as far as the papers state it"
    else:
        yield f"{board.protocol}, but: {board.pair}"
        yield "not comparable with what follows the protocol"
    if board.half:
        yield f"ranked by: {board.half}"


def _texts(board: Board) -> dict[tuple[str, str], str]:
    return {(row["table"], row["name"]): row["text"] for row in records(board.rows)}


def _sources(rows: Iterable[_Row]) -> list[str]:
    return [row["source"] for row in rows if row["source"]]


def _board_cells(
    row: _Row,
    rows: Sequence[_Row],
    halves: Mapping[str, Mapping[tuple[str, str], str]],
    levels: set[float],
    sources: Mapping[str, int],
    notes: Mapping[str, int],
) -> dict[str, str]:
    """Return the cells of a row by column; which columns there are depends on all rows."""
    published = row["origin"] == PUBLISHED
    cells = {
        "rank": NOTHING if row["rank"] is None else str(row["rank"]),
        "": SYMBOLS.get(row["mark"], ""),
        "name": row["name"],
    }
    if halves:
        cells |= {half: texts.get((row["table"], row["name"]), NOTHING) for half, texts in halves.items()}
    else:
        cells["value"] = row["text"] if published else shown_value(row)
    if any(other["spread"] for other in rows):
        cells["±"] = row["spread"] or ""
    if any(other["origin"] != PUBLISHED for other in rows):
        cells[interval_title(levels)] = shown_interval(row, levels)
    cells["source"] = _source(row, sources) if published else "own run"
    if notes:
        cells["marks"] = " ".join(f"({notes[text]})" for text in footnotes_of(row))
    return cells


def _source(row: _Row, sources: Mapping[str, int]) -> str:
    number, _, in_text = str(row["table"]).partition("-")
    place = "" if number == "later" else f" {'beside table' if in_text else 'table'} {number}"
    return f"[{sources[row['source']]}]{place}"
