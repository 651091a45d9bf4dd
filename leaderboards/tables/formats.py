"""Tables of scores: for a terminal, a paper, a web page and a program.

`text`, `markdown` and `latex` show what `views` chose and rounded; `csv` and `json` give everything.
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
from vdm_bench.leaderboards.tables.views import NUMERIC, GroupView, view_boards, view_groups
from vdm_bench.leaderboards.text import TEXT_WIDTH, csv_cell, latex_text, markdown_line, markdown_text, text_table
from vdm_bench.runtime.files import remove_temporary_files_of, write_bytes
from vdm_bench.runtime.printable import printable

__all__ = ["Format", "ScoreGroup", "format_tables", "group_scores"]

Format = Literal["text", "csv", "markdown", "latex", "json"]
_TABLE_COLUMNS = (*RANK_COLUMNS, *(column.name for column in COLUMNS))


def format_tables(frame: pd.DataFrame, format: Format, *, width: int = TEXT_WIDTH) -> str:  # noqa: A002
    """Write the scores of `load_runs`, grouped and ranked by `group_scores`, as text that ends in a newline.

    `text` (for a terminal), `markdown` (GitHub's) and `latex` (booktabs) round what they show; `csv` and
    `json` hold all columns and all digits. Names and other texts from outside are made harmless for the
    format (see `escaping`); JSON alone keeps them to the letter.

    Args:
        frame: what `load_runs` gave.
        format: one of the five.
        width: width of the tables in characters, in `text`.

    Raises:
        InputError: no such format, or what `group_scores` refuses.
    """
    check_format(format)
    groups = group_scores(frame)
    match format:
        case "csv":
            return csv_text(_TABLE_COLUMNS, _all_rows(groups))
        case "json":
            return _json(groups)
        case _:
            return format_views(view_groups(groups), format, width=width)


def check_format(format: str) -> None:  # noqa: A002
    """Refuse what is no format.

    Raises:
        InputError: no such format.
    """
    if format not in get_args(Format):
        raise InputError(f"{format!r} is not a format of tables; known are {', '.join(get_args(Format))}")


def format_views(
    views: Sequence[GroupView],
    format: Literal["text", "markdown", "latex"],  # noqa: A002
    *,
    width: int = TEXT_WIDTH,
) -> str:
    """Write tables for people, one below the other."""
    match format:
        case "text":
            return "\n".join(_text(view, width) for view in views) or "no scores\n"
        case "markdown":
            return "\n".join(_markdown(view) for view in views) or "no scores\n"
        case "latex":
            return "\n".join(_latex(view) for view in views) or "% no scores\n"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as CSV, lists as texts between semicolons."""
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
    """Return a cell of a frame as JSON can hold it."""
    if value is pd.NA or value is pd.NaT:  # pandas 2 gives NA for a missing value, where pandas 3 gives None
        return None
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _text(view: GroupView, width: int) -> str:
    heading = f"{view.metric} {'↑' if view.higher_is_better else '↓'}"
    table = text_table(view.titles, view.rows, right=NUMERIC, width=width)
    lines = (heading, *view.about, "", *table, *view.notes)
    return "".join(f"{printable(line, None).rstrip()}\n" for line in lines)


def _markdown(view: GroupView) -> str:
    heading = f"### {markdown_text(view.metric)} {'↑' if view.higher_is_better else '↓'}\n"
    about = [f"{markdown_line(line)}\n" for line in view.about]
    rules = ["---:" if title in NUMERIC else "---" for title in view.titles]
    table = [
        f"| {' | '.join(cells)} |"
        for cells in (view.titles, rules, *(map(markdown_text, row) for row in view.rows))
    ]
    notes = [f"- {markdown_line(note)}" for note in view.notes]
    return "".join(f"{line}\n" for line in (heading, *about, *table, "", *notes))


def _latex(view: GroupView) -> str:
    """Write a table environment; the document needs the package booktabs."""
    arrow = r"$\uparrow$" if view.higher_is_better else r"$\downarrow$"
    caption = "; ".join([f"{latex_text(view.metric)} {arrow}", *map(latex_text, view.about)])
    rows = [[latex_text(cell) for cell in row] for row in view.rows]
    if view.has_best:
        value, rank = view.titles.index(view.ranked_by), view.titles.index("rank")
        for row in rows:
            if row[rank] == rows[0][rank]:  # equal values share the first rank
                row[value] = rf"\textbf{{{row[value]}}}"
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{''.join('r' if title in NUMERIC else 'l' for title in view.titles)}}}",
        r"\toprule",
        " & ".join(map(latex_text, view.titles)) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par{{\footnotesize {latex_text(note)}\par}}" for note in view.notes),
        r"\end{table}",
    ]
    return "".join(f"{line}\n" for line in lines)


def format_boards(boards: Sequence[Board], format: Format, *, width: int = TEXT_WIDTH) -> str:  # noqa: A002
    """Write boards as text that ends in a newline; the formats are those of `format_tables`.

    In `csv` and `json` a published row has its number as it was published in `text`, and its caveats in `marks`.

    Raises:
        InputError: no such format.
    """
    check_format(format)
    match format:
        case "csv":
            return csv_text(BOARD_COLUMNS, [row for board in boards for row in _rows(board)])
        case "json":
            return json.dumps({"boards": [*map(_content, boards)]}, indent=2, allow_nan=False) + "\n"
        case _:
            return format_views(view_boards(boards), format, width=width)


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
    """Write the scores of `load_runs`, ranked as in tables, with the columns `rank` and `mark` in front.

    Tuples of texts become lists of texts; all other columns come back from `pandas.read_parquet` as they were.

    Args:
        frame: what `load_runs` gave.
        path: of the file; written atomically.

    Raises:
        InputError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow; install it by pip install 'vdm-bench[parquet]', or choose another --format"
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
