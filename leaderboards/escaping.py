"""Names come from outside and may be hostile; here each is made harmless for the format it goes into.

Every function takes any text and gives one line that a reader of the format shows as `printable(text)`.
"""

import re

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
    "∞": r"$\infty$",  # of our own titles; pdflatex does not know the character
}
# What begins a heading, a list or a rule where it stands first in a line.
_BLOCK = re.compile(r"^(|\d{1,9}(?=[.)]))([-+#.)])")
# The four that start a formula, and their full-width forms, which spreadsheets read likewise.
_FORMULA_STARTS = tuple("=+-@＝＋－＠")


def encodable(text: str) -> str:
    """Mend text that UTF-8 cannot hold.

    Such text is real: the name of a file that is not UTF-8 reaches Python with lone surrogates in it, and
    must not cost a person the record of a long run.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def csv_cell(text: str) -> str:
    """Make text safe for a cell of CSV: a spreadsheet must not take it for a formula.

    A leading apostrophe tells spreadsheets that text follows. Separators and quotes are left to the writer.
    """
    text = printable(text, None)
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text


def markdown_text(text: str) -> str:
    """Make text safe within a line of GitHub's Markdown, as in a table: no markup, HTML, link or formula."""
    text = printable(text, None).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~$!])", r"\\\1", text)
    return text.replace("://", r"\://").replace("www.", r"www\.")


def markdown_line(text: str) -> str:
    """Make text safe as a paragraph, or an item of a list, of Markdown: it begins no heading, list or code.

    Spaces at its beginning, which would not be shown, are left out.
    """
    return _BLOCK.sub(r"\1\\\2", markdown_text(text).lstrip(" "))


def latex_text(text: str) -> str:
    """Make text safe for LaTeX: every character that starts a command or has a meaning is spelt out."""
    text = "".join(_LATEX.get(character, character) for character in printable(text, None))
    return re.sub("-(?=-)", "-{}", text)  # two hyphens would become a dash
