"""Wide tables as text, Markdown and LaTeX."""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.ranking import BEST, TIE
from vdm_bench.leaderboards.tables.views import LEGEND, SYMBOLS
from vdm_bench.leaderboards.tables.wide.appendix import appendix
from vdm_bench.leaderboards.tables.wide.table import UNRANKED, RowBlock, WideCell, WideRow, WideTable
from vdm_bench.leaderboards.text import (
    NOTHING,
    UNFOLDED,
    interval_title,
    latex_text,
    markdown_line,
    markdown_table,
    markdown_text,
    text_table,
)
from vdm_bench.runtime.printable import printable

WideFormat = Literal["text", "markdown", "latex"]
WITHOUT_PROTOCOL = "no protocol"
_LATEX_TIE = "$^{=}$"


def format_wide(tables: Sequence[WideTable], fmt: WideFormat, *, rows_only: bool = False) -> str:
    """Return wide tables as text that ends in a newline; names and other texts are escaped for the format.

    Args:
        tables: from `wide_tables`.
        fmt: `text` (for a terminal), `markdown` (GitHub's) or `latex` (booktabs).
        rows_only: in `latex`, only the rows, for a table environment of your own.

    Raises:
        InputError: there is no such format, or `rows_only` without `latex`.
    """
    if fmt not in get_args(WideFormat):
        raise InputError(
            f"{fmt!r} is not a format of wide tables; choose one of {', '.join(get_args(WideFormat))}"
        )
    if rows_only and fmt != "latex":
        raise InputError("only LaTeX tables can be written as rows alone; choose the format latex")
    if not tables:
        return "% no scores\n" if fmt == "latex" else "no scores\n"
    match fmt:
        case "text":
            return "\n".join(map(_text, tables))
        case "markdown":
            return "\n".join(map(_markdown, tables))
        case "latex":
            return "\n".join(_latex_rows(table) if rows_only else _latex(table) for table in tables)


def _title(metric: str, higher_is_better: bool) -> str:
    return f"{metric} {'↑' if higher_is_better else '↓'}"


def _notes(table: WideTable) -> Iterator[str]:
    yield from (f"{SYMBOLS[mark]} {LEGEND[mark]}" for mark in LEGEND if mark in table.marks)
    if table.unranked:
        yield UNRANKED
    yield from (f"({number}) {text}" for number, text in enumerate(table.footnotes, start=1))
    yield from table.signatures()


def _numbers(notes: Sequence[int]) -> str:
    return "".join(f" ({number})" for number in notes)


def _text(table: WideTable) -> str:
    """Return a table with two columns per metric, so that values are aligned, and so are intervals."""
    values = [_title(*metric) for metric in table.metrics]
    titles = ["", *(title for value in values for title in (value, interval_title(table.levels)))]
    rows: list[list[str]] = []
    for block in table.blocks:
        if rows:
            rows.append([""] * len(titles))
        rows += [_text_row(row) for row in (_head(block), *block.rows)]
    lines = [
        table.protocol or WITHOUT_PROTOCOL,
        "",
        *text_table(titles, rows, right=values, width=UNFOLDED),
        *_notes(table),
    ]
    return "".join(f"{printable(line, None).rstrip()}\n" for line in lines)


def _head(block: RowBlock) -> WideRow:
    """Return the row above the rows of a block: its numbers of clips, and a digest per metric."""
    return WideRow(block.clips, block.notes, block.digests)


def _text_row(row: WideRow) -> list[str]:
    cells = [f"{row.name}{_numbers(row.notes)}"]
    for cell in row.cells:
        if cell is None:
            cells += [NOTHING, ""]
        else:
            mark = f"{SYMBOLS[cell.mark]} " if cell.mark else ""
            cells += [f"{mark}{cell.value or NOTHING}", f"{cell.interval}{_numbers(cell.notes)}".strip()]
    return cells


def _markdown(table: WideTable) -> str:
    titles = ["", *(_title(*metric) for metric in table.metrics)]
    rows = []
    for block in table.blocks:
        rows += [
            [f"{row.name}{_numbers(row.notes)}", *map(_plain_cell, row.cells)]
            for row in (_head(block), *block.rows)
        ]
    lines = [
        f"### {markdown_text(table.protocol or WITHOUT_PROTOCOL)}\n",
        *markdown_table(titles, rows, right=titles[1:]),
        "",
        *(f"- {markdown_line(note)}" for note in (*_intervals(table), *_notes(table))),
    ]
    return "".join(f"{line}\n" for line in lines)


def _plain_cell(cell: WideCell | None) -> str:
    if cell is None:
        return NOTHING
    mark = f"{SYMBOLS[cell.mark]} " if cell.mark else ""
    return f"{mark}{cell.value or NOTHING} {cell.interval}".rstrip() + _numbers(cell.notes)


def _intervals(table: WideTable) -> Iterator[str]:
    if table.levels:
        yield f"[...]: {interval_title(table.levels)}"


def _latex(table: WideTable) -> str:
    """Return a table environment, for the package booktabs, and a comment on how its numbers were computed."""
    titles = " & ".join(["", *(_latex_title(*metric) for metric in table.metrics)])
    label = table.protocol or "scores"
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(table)}}}",
        rf"\label{{tab:{''.join(c if c.isascii() and c.isalnum() else '-' for c in label)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.metrics)}}}",
        r"\toprule",
        rf"{titles} \\",
        r"\midrule",
        _latex_rows(table, numbered=True).rstrip("\n"),
        r"\bottomrule",
        r"\end{tabular}",
        *(
            rf"\par{{\footnotesize $^{{{number}}}$ {latex_text(text)}\par}}"
            for number, text in enumerate(table.footnotes, start=1)
        ),
        r"\end{table}",
        "% How each number was computed, for the appendix; `vdm-bench report RUNS --citation` prints the BibTeX.",
        *(f"% {sentence}" for sentence in appendix(table.scores)),
    ]
    return "".join(f"{line}\n" for line in lines)


def _caption(table: WideTable) -> str:
    parts = [latex_text(table.protocol or "Scores")]
    if table.levels:
        parts.append(f"In brackets: {latex_text(interval_title(table.levels))}")
    if BEST in table.marks:
        parts.append("Bold: best")
    if TIE in table.marks:
        parts.append(rf"{_LATEX_TIE}: interval overlaps that of the best")
    if table.unranked:
        parts.append(f"{UNRANKED[0].upper()}{UNRANKED[1:]}")
    return "".join(f"{part}. " for part in parts).rstrip()


def _latex_title(metric: str, higher_is_better: bool) -> str:
    arrow = r"$\uparrow$" if higher_is_better else r"$\downarrow$"
    return f"{latex_text(metric)} {arrow}"


def _latex_rows(table: WideTable, *, numbered: bool = False) -> str:
    """Return the rows, with a head above each block; `numbered` adds the numbers of footnotes."""
    lines: list[str] = []
    for block in table.blocks:
        if lines:
            lines.append(r"\midrule")
        lines.append(_latex_head(block, numbered))
        for row in block.rows:
            name = f"{latex_text(row.name)}{_latex_numbers(row.notes, numbered)}"
            lines.append(" & ".join([name, *(_latex_cell(cell, numbered) for cell in row.cells)]) + r" \\")
    return "".join(f"{line}\n" for line in lines)


def _latex_head(block: RowBlock, numbered: bool) -> str:
    cells = [rf"{{\footnotesize {latex_text(block.clips)}}}{_latex_numbers(block.notes, numbered)}"]
    for digest in block.digests:
        text = (
            rf"{{\scriptsize\ttfamily {digest.value}}}{_latex_numbers(digest.notes, numbered)}" if digest else ""
        )
        cells.append(text)
    return " & ".join(cells) + r" \\"


def _latex_numbers(notes: Sequence[int], numbered: bool) -> str:
    return f"$^{{{','.join(map(str, notes))}}}$" if notes and numbered else ""


def _latex_cell(cell: WideCell | None, numbered: bool) -> str:
    if cell is None:
        return "--"
    value = rf"\textbf{{{cell.value}}}" if cell.mark == BEST else cell.value or "--"
    tie = _LATEX_TIE if cell.mark == TIE else ""
    interval = rf" {{\scriptsize {latex_text(cell.interval)}}}" if cell.interval else ""
    return f"{value}{tie}{interval}{_latex_numbers(cell.notes, numbered)}"
