"""Lists of videos as text, CSV or JSON lines: every row whole, or refused by its line."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError
from vdm_bench.runtime.files import read_text, text_lines
from vdm_bench.runtime.input_files import parse_json

_LINE_END = re.compile(r"\r\n|\r|\n")
_WORD = re.compile(r"[^ \t]+")
_WAY_OUT = "write an object a line"  # of JSON lines
_SHOWN = 60  # characters of a header that an error message shows


@dataclass(frozen=True)
class Row:
    """A row of a list.

    Attributes:
        place: names it in messages: file and line.
        fields: its values by column.
        fault: why it has none, where it could not be read; empty for none.
    """

    place: str
    fields: Mapping[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class TextList:
    """A list that was read.

    Attributes:
        rows: in its order.
        columns: those that at least one row may have.
        kind: what it calls them, `column` or `key`.
    """

    rows: Sequence[Row]
    columns: frozenset[str]
    kind: str

    def without(self, path: Path, **columns: str) -> list[str]:
        """Say which optional columns are missing.

        Args:
            path: of the list.
            columns: by name, what is not known without them.
        """
        there = self.columns
        return [
            f"{path} has no {self.kind} {name}: {what}" for name, what in columns.items() if name not in there
        ]


def read_csv(path: Path, needed: Sequence[str], way_out: str) -> TextList:
    """Read a CSV file: UTF-8, with or without a byte order mark, fields between commas, columns named first.

    Names of columns are compared without case and without white space around them. Empty rows are passed over.

    Args:
        path: of the file.
        needed: columns, each of which every row must have a field for.
        way_out: what to do where the file is not as it should be.

    Raises:
        InputError: it cannot be read; columns are missing or there twice; or a row has more fields than there are
            columns, lacks a needed one, or is no CSV.
    """
    # Not split into lines before: a field between quotes may have ends of lines in it.
    reader = csv.reader(io.StringIO(read_text(path, way_out), newline=""), strict=True)
    header: list[str] | None = None
    rows = []
    for line, fields in _numbered(reader, path):
        if header is None:
            header = _columns(fields, needed, path, way_out)
        else:
            place = f"{path}, line {line}"
            rows.append(Row(place, _by_column(header, fields, needed, place)))
    if header is None:
        header = _columns([], needed, path, way_out)
    return TextList(rows, frozenset(header), "column")


def read_json_lines(path: Path, way_out: str) -> TextList:
    """Read a file with a JSON object a line; lines end in line feeds alone, empty ones are passed over.

    A line that is no JSON object, has a key twice, or a number that is not finite, is a row with a fault.

    Raises:
        InputError: the file cannot be read.
    """
    lines = enumerate(text_lines(read_text(path, way_out)), 1)
    rows = [_json_row(line, f"{path}, line {number}") for number, line in lines if line.strip()]
    return TextList(rows, frozenset(key for row in rows for key in row.fields), "key")


def read_words(path: Path, way_out: str) -> list[tuple[int, list[str]]]:
    """Read the words of every line that has some, with the line's number; spaces or tabs stand between them.

    Raises:
        InputError: the file cannot be read.
    """
    lines = enumerate(_LINE_END.split(read_text(path, way_out)), 1)
    return [(number, words) for number, line in lines if (words := _WORD.findall(line))]


def _numbered(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Return rows that are not empty, with the line that each begins in."""
    line = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {line} is not valid CSV ({error}); put quotes around a field with commas, quotes or "
            "ends of lines in it, and double the quotes in it"
        ) from error


def _columns(names: Sequence[str], needed: Sequence[str], path: Path, way_out: str) -> list[str]:
    columns = [name.strip().casefold() for name in names]
    if lacking := [name for name in needed if name not in columns]:
        shown = ",".join(names)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        raise InputError(
            f"{path} lacks the {_named('column', lacking)}: its first line, which must name the columns, with "
            f"commas between them, is {shown!r}; {way_out}"
        )
    if twice := [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]:
        raise InputError(f"{path} has the {_named('column', twice)} more than once; keep one of each")
    return columns


def _by_column(
    columns: Sequence[str], fields: Sequence[str], needed: Sequence[str], place: str
) -> dict[str, str]:
    row = dict(zip(columns, fields, strict=False))
    # A column without a name is what a spreadsheet leaves behind the last one: nothing may stand in it.
    if len(fields) > len(columns) or row.pop("", "").strip():
        count = len(list(filter(None, columns)))
        raise InputError(
            f"{place} has {len(fields)} fields, but there are {count} columns; put quotes around a field that "
            "has commas in it"
        )
    if lacking := [name for name in needed if name not in row]:
        raise InputError(f"{place} ends before its {_named('column', lacking)}; complete the row")
    return row


def _named(what: str, names: Sequence[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _json_row(line: str, place: str) -> Row:
    try:
        content = parse_json(line, "it", _WAY_OUT, controls=True)
    except InputError as error:
        return Row(place, {}, str(error))
    if not isinstance(content, dict):
        return Row(place, {}, f"it is not a JSON object; {_WAY_OUT}")
    return Row(place, content)
