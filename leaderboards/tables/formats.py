"""Tables of scores as text, Markdown, LaTeX, CSV, JSON and Parquet.

Text, Markdown and LaTeX show the tables of `views`; CSV, JSON and Parquet contain every column and digit.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.ranking import BOARD_COLUMNS, RANK_COLUMNS, Board, ScoreGroup, group_scores, records
from vdm_bench.leaderboards.store import COLUMNS
from vdm_bench.leaderboards.tables.views import LEGEND, SYMBOLS, Cell, Table, tables_of_boards, tables_of_groups
from vdm_bench.leaderboards.text import (
    TEXT_WIDTH,
    csv_cell,
    latex_text,
    markdown_line,
    markdown_table,
    markdown_text,
    text_table,
)
from vdm_bench.runtime.files import remove_temporary_files_of, write_bytes
from vdm_bench.runtime.printable import printable

__all__ = ["Format", "ScoreGroup", "format_tables", "group_scores"]

Format = Literal["text", "csv", "markdown", "latex", "json"]
_TABLE_COLUMNS = (*RANK_COLUMNS, *(column.name for column in COLUMNS))


def format_tables(frame: pd.DataFrame, fmt: Format, *, width: int = TEXT_WIDTH) -> str:
    """Return scores as tables, grouped and ranked by `group_scores`; the text ends in a newline.

    `text` (for a terminal), `markdown` (GitHub's) and `latex` (booktabs) round their numbers; `csv` and `json`
    contain all columns at full precision. Names and other texts are escaped for the format, except in JSON, which
    contains them unchanged.

    Args:
        frame: scores from `load_runs`.
        fmt: format of the tables.
        width: width of the tables in characters; only for `text`.

    Raises:
        InputError: there is no such format, or `group_scores` raises it.
    """
    check_format(fmt)
    groups = group_scores(frame)
    match fmt:
        case "csv":
            return csv_text(_TABLE_COLUMNS, _all_rows(groups))
        case "json":
            return _json(groups)
        case _:
            return write_tables(tables_of_groups(groups), fmt, width=width)


def check_format(fmt: str) -> None:
    """Refuse an unknown format.

    Raises:
        InputError: there is no such format.
    """
    if fmt not in get_args(Format):
        raise InputError(f"{fmt!r} is not a format of tables; choose one of {', '.join(get_args(Format))}")


def write_tables(
    tables: Sequence[Table], fmt: Literal["text", "markdown", "latex"], *, width: int = TEXT_WIDTH
) -> str:
    """Return tables as text, one below the other."""
    match fmt:
        case "text":
            return "\n".join(_text(table, width) for table in tables) or "no scores\n"
        case "markdown":
            return "\n".join(_markdown(table) for table in tables) or "no scores\n"
        case "latex":
            return "\n".join(_latex(table) for table in tables) or "% no scores\n"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV; lists are joined with semicolons."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_value(value) for value in row.values()])
    return target.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, list):
        return csv_cell("; ".join(value))
    return csv_cell(value) if isinstance(value, str) else value


def _json(groups: Sequence[ScoreGroup]) -> str:
    content = [
        {
            "metric": group.metric,
            "digest": group.digest,
            "signature": group.signature,
            "higher_is_better": group.higher_is_better,
            "n_reference": group.n_reference,
            "n_generated": group.n_generated,
            "floor": group.floor,
            "scores": _all_rows([group]),
        }
        for group in groups
    ]
    return json.dumps({"groups": content}, indent=2, allow_nan=False) + "\n"


def _all_rows(groups: Sequence[ScoreGroup]) -> list[dict[str, Any]]:
    return [
        {column: plain_value(row[column]) for column in _TABLE_COLUMNS}
        for group in groups
        for row in group.rows.to_dict("records")
    ]


def plain_value(value: Any) -> Any:
    """Return a cell of a frame as a JSON type."""
    if value is pd.NA or value is pd.NaT:  # pandas 2 gives NA for a missing value, where pandas 3 gives None
        return None
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _heading(table: Table) -> str:
    return f"{table.metric} {'↑' if table.higher_is_better else '↓'}"


def _texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in table.rows]


def _titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def _right(table: Table) -> set[str]:
    """Return the titles of the right-aligned columns."""
    return {column.title for column in table.columns if column.kind == "number"}


def _notes(table: Table) -> list[str]:
    return [*(f"{SYMBOLS[mark]} {LEGEND[mark]}" for mark in table.legend), *table.notes]


def _text(table: Table, width: int) -> str:
    shown = text_table(_titles(table), _texts(table), right=_right(table), width=width)
    lines = (_heading(table), *table.about, "", *shown, *_notes(table))
    return "".join(f"{printable(line, None).rstrip()}\n" for line in lines)


def _markdown(table: Table) -> str:
    about = [f"{markdown_line(line)}\n" for line in table.about]
    shown = markdown_table(_titles(table), _texts(table), right=_right(table))
    notes = [f"- {markdown_line(note)}" for note in _notes(table)]
    lines = (f"### {markdown_text(_heading(table))}\n", *about, *shown, "", *notes)
    return "".join(f"{line}\n" for line in lines)


def _latex(table: Table) -> str:
    """Return a LaTeX table environment; the document needs the package booktabs."""
    arrow = r"$\uparrow$" if table.higher_is_better else r"$\downarrow$"
    caption = "; ".join([f"{latex_text(table.metric)} {arrow}", *map(latex_text, table.about)])
    rows = [[_latex_cell(cell) for cell in row.cells] for row in table.rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{''.join('r' if column.kind == 'number' else 'l' for column in table.columns)}}}",
        r"\toprule",
        " & ".join(map(latex_text, _titles(table))) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par{{\footnotesize {latex_text(note)}\par}}" for note in _notes(table)),
        r"\end{table}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _latex_cell(cell: Cell) -> str:
    text = latex_text(cell.text)
    return rf"\textbf{{{text}}}" if cell.emphasis else text


def format_boards(boards: Sequence[Board], fmt: Format, *, width: int = TEXT_WIDTH) -> str:
    """Return boards as tables; the formats are those of `format_tables`.

    In `csv` and `json`, a published row has its number as published in `text`, and its caveats in `marks`.

    Raises:
        InputError: there is no such format.
    """
    check_format(fmt)
    match fmt:
        case "csv":
            return csv_text(BOARD_COLUMNS, [row for board in boards for row in _rows(board)])
        case "json":
            return json.dumps({"boards": [*map(_content, boards)]}, indent=2, allow_nan=False) + "\n"
        case _:
            return write_tables(tables_of_boards(boards), fmt, width=width)


def _content(board: Board) -> dict[str, Any]:
    return {
        "protocol": board.protocol or None,
        "metric": board.metric,
        "group": board.group,
        "higher_is_better": board.higher_is_better,
        "apart": board.apart is not None,
        "rows": _rows(board),
    }


def _rows(board: Board) -> list[dict[str, Any]]:
    return [{column: plain_value(row[column]) for column in BOARD_COLUMNS} for row in records(board.rows)]


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write scores as a Parquet file: the columns `rank` and `mark`, then those of `load_runs`.

    Tuples of texts become lists of texts; `pandas.read_parquet` restores all other columns unchanged.

    Args:
        frame: scores from `load_runs`.
        path: path of the file; it is written atomically.

    Raises:
        InputError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow; install it with pip install 'vdm-bench[parquet]', or choose another --format"
        ) from error
    empty = frame.iloc[:0].assign(rank=pd.array([], "Int64"), mark=pd.array([], "string"))
    columns = ["rank", "mark", *(column.name for column in COLUMNS)]
    rows = pd.concat([empty, *(group.rows for group in group_scores(frame))], ignore_index=True)[columns]
    schema = pa.Schema.from_pandas(rows, preserve_index=False)
    for column in COLUMNS:
        if column.dtype == "object":  # lists, even where all are empty
            place = schema.get_field_index(column.name)
            schema = schema.set(place, pa.field(column.name, pa.list_(pa.string())))
    target = io.BytesIO()
    parquet.write_table(pa.Table.from_pandas(rows, schema=schema, preserve_index=False), target)
    remove_temporary_files_of(path, shared=True)
    write_bytes(path, target.getvalue())
