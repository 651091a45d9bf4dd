"""Rounding, table layout, and escaping for text, CSV, Markdown and LaTeX.

Names come from outside and may be hostile. Each escaping function takes any text and returns one line, which the
format displays as `printable(text)`.
"""

import io
import re
from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vdm_bench.runtime.printable import printable

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar\allowbreak{}",  # a long signature may break after it
    "`": r"\textasciigrave{}",
    "∞": r"$\infty$",  # in column titles; pdflatex does not know the character
}
# What starts a heading, a list or a rule at the beginning of a line.
_BLOCK = re.compile(r"^(|\d{1,9}(?=[.)]))([-+#.)])")
# Where GitHub sees a mention, a mail address, an issue or an emoji. It looks for them in the rendered text, so a
# backslash does not help, but a zero-width space does. In a signature, `@` follows a letter or digit and resize
# rules are between colons: GitHub ignores both, and they stay free of such spaces, because readers copy them.
_RESIZE_RULES = "tf1-bilinear|half-pixel|align-corners|antialias"
_SHORTCUT = re.compile(
    r"(?<![A-Za-z0-9])@(?=\w)|@(?=[\w-]*\.\w)|#(?=\d)|(?<![A-Za-z0-9])[Gg][Hh]-(?=\d)"
    rf"|:(?!(?:{_RESIZE_RULES}):)(?=[\w+-]+:)"
)
_NO_WIDTH = "&#8203;"
# The four characters that start a formula, and their full-width forms, which spreadsheets treat the same.
_FORMULA_STARTS = tuple("=+-@＝＋－＠")
DIGITS_OF_HALF_WIDTH = 2
DIGITS_WITHOUT_INTERVAL = 4
_MOST_DECIMALS = 15
_ALL_DIGITS = 17
# Powers of ten between which a number is printed without an exponent.
_PLAIN_EXPONENTS = range(-5, 9)
TEXT_WIDTH = 100
UNFOLDED = 10_000  # width of a table whose rows must stay on one line
NOTHING = "-"  # in a cell


def encodable(text: str) -> str:
    """Escape characters that UTF-8 cannot encode.

    They occur in practice: Python reads a file name that is not UTF-8 with lone surrogates in it, which must not
    prevent the record of a long run from being written.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def csv_cell(text: str) -> str:
    """Make text safe for a CSV cell: a spreadsheet must not take it for a formula.

    A leading apostrophe tells spreadsheets that text follows. The CSV writer handles separators and quotes.
    """
    text = printable(text, None)
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text


def markdown_text(text: str) -> str:
    """Make text safe within a line of GitHub's Markdown, such as a table cell.

    The result has no markup, HTML, link, formula, mention, issue reference or emoji.
    """
    text = _SHORTCUT.sub("\\g<0>\n", printable(text, None))  # a printable line has no line end of its own
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", _NO_WIDTH)
    text = re.sub(r"([\\`*_\[\]|~$!])", r"\\\1", text)
    return text.replace("://", r"\://").replace("www.", r"www\.")


def markdown_line(text: str) -> str:
    """Make text safe as a paragraph or list item of Markdown: it cannot start a heading, list or code block.

    Leading spaces, which Markdown would not show, are removed.
    """
    return _BLOCK.sub(r"\1\\\2", markdown_text(text).lstrip(" "))


def latex_text(text: str) -> str:
    """Make text safe for LaTeX: every character with a special meaning is escaped."""
    text = "".join(_LATEX.get(character, character) for character in printable(text, None))
    return re.sub("-(?=-)", "-{}", text)  # two hyphens would become a dash


def useful_decimals(value: float, low: float | None, high: float | None) -> int:
    """Return the decimal place to round to; negative means tens, hundreds and so on.

    It keeps two significant digits of the interval's half width, or four of the value if there is no interval or
    its width is zero.

    Example:
        >>> useful_decimals(123.456, 120.0, 126.0), useful_decimals(123.456, None, None)
        (1, 1)
        >>> useful_decimals(1234.5, 1000.0, 1500.0), useful_decimals(0.012345, None, None)
        (-1, 5)
    """
    half_width = 0.0 if low is None or high is None else high / 2 - low / 2
    if half_width > 0:
        return DIGITS_OF_HALF_WIDTH - 1 - _exponent(half_width, DIGITS_OF_HALF_WIDTH)
    return DIGITS_WITHOUT_INTERVAL - 1 - _exponent(value, DIGITS_WITHOUT_INTERVAL)


def rounded(value: float, decimals: int) -> str:
    """Format a number to a decimal place, with an exponent only if it would be unreadable without one.

    Example:
        >>> rounded(123.456, 1), rounded(1234.5, -1), rounded(-0.001, 2), rounded(3.217e-07, 9)
        ('123.5', '1230', '0.00', '3.22e-07')
    """
    exponent = _exponent(value, _ALL_DIGITS)
    if exponent not in _PLAIN_EXPONENTS and exponent + decimals >= 0:
        return f"{value:.{exponent + decimals}e}"
    shown = min(max(decimals, 0), _MOST_DECIMALS)
    return f"{round(value, min(decimals, 0)) if decimals < 0 else value:z.{shown}f}"


def _exponent(value: float, digits: int) -> int:
    """Return the power of ten of the first digit after rounding `value` to `digits` significant digits."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def interval_title(levels: Collection[float]) -> str:
    """Return the title of a column of intervals; it contains the level if there is only one."""
    return f"{percent(*levels)} interval" if len(levels) == 1 else "interval"


def percent(level: float) -> str:
    """Format the level of an interval, such as `95 %`."""
    return f"{100 * level:g} %"


def text_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    width: int = TEXT_WIDTH,
) -> list[str]:
    """Return the lines of a table.

    Args:
        titles: column titles.
        rows: cells in the order of the titles; any text, made printable here.
        right: titles of the right-aligned columns.
        width: width of the table in characters; longer cells are folded.
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
    # Made printable again, because a line may start in the middle of a cell.
    return [printable(line.rstrip(), None) for line in target.getvalue().split("\n")[:-1]]


def markdown_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = ()
) -> list[str]:
    """Return the lines of a table in GitHub's Markdown; the arguments are those of `text_table`."""
    rules = ["---:" if title in right else "---" for title in titles]
    cells = (map(markdown_text, titles), rules, *(map(markdown_text, row) for row in rows))
    return [f"| {' | '.join(line)} |" for line in cells]
