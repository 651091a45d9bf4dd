"""Boards as text, for a terminal, a paper, a web page and a program; see `tables`."""

import json
from collections.abc import Sequence
from typing import Any

from vdm_bench.leaderboards.boards import BOARD_COLUMNS, Board, records
from vdm_bench.leaderboards.tables.board_views import view_boards
from vdm_bench.leaderboards.tables.formats import Format, check_format, csv_text, format_views, plain_value
from vdm_bench.leaderboards.text_table import TEXT_WIDTH


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
