"""Lists of videos as plain text, CSV or JSON lines; errors name the file and the line."""

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
_WAY_OUT = "write an object a line"  # for JSON lines
_SHOWN = 60  # characters of a header in an error message


@dataclass(frozen=True)
class Row:
    """A row of a list.

    Attributes:
        place: file and line, for messages.
        fields: its values by column.
        fault: why the row could not be read; empty if it could.
    """

    place: str
    fields: Mapping[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class TextList:
    """The content of a list.

    Attributes:
        rows: in the order of the list.
        columns: all that occur.
        kind: what the format calls them, `column` or `key`.
    """

    rows: Sequence[Row]
    columns: frozenset[str]
    kind: str

    def without(self, path: Path, **columns: str) -> list[str]:
        """Return a note for each optional column that is missing.

        Args:
            path: of the list.
            columns: by name, what it means that the column is missing.
        """
        there = self.columns
        return [
            f"{path} has no {self.kind} {name}: {what}" for name, what in columns.items() if name not in there
        ]


def read_csv(path: Path, needed: Sequence[str], way_out: str) -> TextList:
    """Read a CSV file: UTF-8 with or without a byte order mark, separated by commas, with a header.

    Column names are stripped and compared without regard to case. Empty rows are skipped.

    Args:
        path: of the file.
        needed: columns that every row must have.
        way_out: what to do if the file is invalid, for errors.

    Raises:
        InputError: the file cannot be read; a column is missing or occurs twice; or a row has too many fields,
            lacks a needed one, or is not valid CSV.
    """
    # Not split into lines first: a quoted field may contain line ends.
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
    """Read a file with one JSON object per line; only line feeds end a line, and empty lines are skipped.

    A line that is not a JSON object, repeats a key, or contains NaN or infinity becomes a row with a `fault`.

    Raises:
        InputError: the file cannot be read.
    """
    lines = enumerate(text_lines(read_text(path, way_out)), 1)
    rows = [_json_row(line, f"{path}, line {number}") for number, line in lines if line.strip()]
    return TextList(rows, frozenset(key for row in rows for key in row.fields), "key")


def read_words(path: Path, way_out: str) -> list[tuple[int, list[str]]]:
    """Return the words of every line that is not blank, with its number; words are separated by spaces or tabs.

    Raises:
        InputError: the file cannot be read.
    """
    lines = enumerate(_LINE_END.split(read_text(path, way_out)), 1)
    return [(number, words) for number, line in lines if (words := _WORD.findall(line))]


def _numbered(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the line that it begins in."""
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
    # Spreadsheets write a column without a name after the last one; it must be empty.
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
