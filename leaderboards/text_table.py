"""Tables for a terminal, the same characters wherever they are written: no colours, no notebook display."""

import io
from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vdm_bench.runtime.printable import printable

TEXT_WIDTH = 100


def text_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    width: int = TEXT_WIDTH,
) -> list[str]:
    """Give the lines of a table.

    Args:
        titles: of the columns.
        rows: cells in the order of the titles; any text, which is made printable.
        right: titles of the columns that are aligned to the right.
        width: of the table, in characters; longer cells are folded.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in titles:
        table.add_column(
            Text(printable(title, None)), justify="right" if title in right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(printable(cell, None)) for cell in row))
    target = io.StringIO()
    console = Console(
        file=target,
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
    )
    console.print(table)
    # Once more: a line may begin in the middle of a cell.
    return [printable(line.rstrip(), None) for line in target.getvalue().split("\n")[:-1]]
