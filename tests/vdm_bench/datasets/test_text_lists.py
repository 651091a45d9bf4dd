"""Lists as text: what editors and spreadsheets make of them is read whole, or refused by its line."""

import re
from pathlib import Path

import pytest

from vdm_bench.datasets.text_lists import read_csv, read_json_lines, read_words
from vdm_bench.errors import InputError

NEEDED = ("file", "caption")


def rows_of(path: Path, text: str, encoding: str = "utf-8") -> list[tuple[str, str]]:
    path.write_bytes(text.encode(encoding))
    return [(row.fields["file"], row.fields["caption"]) for row in read_csv(path, NEEDED, "fix it").rows]


@pytest.mark.parametrize(
    "text",
    [
        'file,caption\na,"x, y"\nb,z\n',
        'file,caption\r\na,"x, y"\r\nb,z',  # of Windows
        'file,caption\ra,"x, y"\rb,z\r',  # of old Macintoshes
        '\ufefffile,caption\na,"x, y"\nb,z\n',
        '\n\nfile,caption\n\na,"x, y"\n , \nb,z\n,\n',  # with empty rows
        'Caption , FILE,note\n"x, y",a,n\nz,b,n\n',
        'file,caption,,\na,"x, y",,\nb,z\n',  # a spreadsheet's empty columns
        'label,file,caption\n3,a,"x, y"\n,b,z\n',
    ],
)
def test_the_same_rows_are_read_from_files_of_all_kinds(tmp_path: Path, text: str) -> None:
    assert rows_of(tmp_path / "list.csv", text) == [("a", "x, y"), ("b", "z")]


def test_a_field_between_quotes_is_whole(tmp_path: Path) -> None:
    text = 'file,caption\na,"line 1\r\nline 2\u2028still 2, ""quoted"""\nb,5" wide\n'
    expected = [("a", 'line 1\r\nline 2\u2028still 2, "quoted"'), ("b", '5" wide')]
    assert rows_of(tmp_path / "list.csv", text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('file,caption\na,"1\n2"\nb,x, y\n', r"line 4 has 3 fields, but there are 2 columns; put quotes around"),
        ("file,caption\na,x,\n", r"line 2 has 3 fields, but there are 2 columns"),
        ("file,caption,\na,x, y\n", r"line 2 has 3 fields, but there are 2 columns"),
        ("label,file,caption\n3,a\n", r"line 2 ends before its column caption; complete the row"),
        ("file,caption,File\n", r"has the column file more than once; keep one of each"),
        ("file;caption\na;x\n", r"lacks the columns file, caption: .* is 'file;caption'; fix it"),
        ("file\na\n", r"lacks the column caption: .* is 'file'; fix it"),
        ("", r"lacks the columns file, caption: .* is ''; fix it"),
        (
            'file,caption\na,"x\nb,y\nc,z\n',
            r"line 2 is not valid CSV \(unexpected end of data\); put quotes around",
        ),
        ('file,caption\na,x\nb,"y"z\n', r"line 3 is not valid CSV .*; put quotes around"),
    ],
)
def test_a_row_that_would_lose_something_is_refused_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"list\.csv,? {message}"):
        rows_of(tmp_path / "list.csv", text)


def test_a_column_that_no_row_has_is_said(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("file,caption,label\na,x\n")
    assert read_csv(path, NEEDED, "fix it").without(path, label="no labels", start="begins at 0") == [
        f"{path} has no column start: begins at 0"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\r{"a": 2}', "it cannot be read as JSON: .*; write an object a line"),
        ('["a"]', "it is not a JSON object; write an object a line"),
        ('{"a": 1, "a": 2}', "'a' stands in it twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 3_000 + "]" * 3_000 + "}", "nested too deeply"),
        ('{"a": Infinity}', "it holds Infinity"),
        ('{"a": -1e999}', "it holds -1e999"),
        ('{"a": ' + "9" * 5_000 + "}", "a number of thousands of digits"),
    ],
)
def test_a_line_that_is_no_object_costs_no_other(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(f'{{"a": 1}}\n\n{text}\n{{"a": 2}}\n', newline="")
    first, bad, last = read_json_lines(path, "fix it").rows
    assert [(row.fields, row.fault) for row in (first, last)] == [({"a": 1}, ""), ({"a": 2}, "")]
    assert bad.place == f"{path}, line 3"
    assert re.search(message, bad.fault)
    assert not bad.fields


def test_words_stand_between_spaces_and_tabs_alone(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa\u2028b 1\r\n\r\n \tc\t 2 \rd 3".encode())
    assert read_words(path, "fix it") == [(1, ["a\u2028b", "1"]), (3, ["c", "2"]), (4, ["d", "3"])]
