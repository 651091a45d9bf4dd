"""What is shown of boards: published rows and own runs in one table, pairs a/b side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from vdm_bench.leaderboards.boards import PUBLISHED, Board, records
from vdm_bench.leaderboards.ranking import BEST, ScoreGroup
from vdm_bench.leaderboards.tables.views import (
    LEGEND,
    NOTHING,
    SYMBOLS,
    GroupView,
    footnotes_of,
    interval_title,
    numbered,
    shown_interval,
    shown_value,
    view_group,
)

_Row = Mapping[str, Any]

AS_PUBLISHED = "published numbers stand as their papers state them; they have no signature"
SPREAD = "±: as published; what it measures is up to the paper"


def view_boards(boards: Sequence[Board]) -> list[GroupView]:
    """Choose and round what is shown. Both numbers of a pair are one table, ranked by what a protocol gives.

    That is the validation set, or one split. Own runs by themselves say how they differ from those above them.
    """
    return [view for view, _ in view_with_boards(boards)]


def view_with_boards(boards: Sequence[Board]) -> list[tuple[GroupView, Board]]:
    """Give what `view_boards` does, each with the board whose rows it shows."""
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
    cells = [_cells(row, rows, halves, levels, sources, notes) for row in rows]
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


def _cells(
    row: _Row,
    rows: Sequence[_Row],
    halves: Mapping[str, Mapping[tuple[str, str], str]],
    levels: set[float],
    sources: Mapping[str, int],
    notes: Mapping[str, int],
) -> dict[str, str]:
    """Give the cells of a row by column; which columns there are depends on all rows."""
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
