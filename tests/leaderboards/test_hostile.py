import csv
import io
import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from vdm_bench.leaderboards.tables.formats import format_tables

Make = Callable[..., Any]
FORMATS = ("text", "csv", "markdown", "latex", "json")

HOSTILE = "=a|b`c`<script>d</script>\\input{e} & 100 % [bold]f[/bold]"
ESCAPES = "\x1b[2J\x9b31m\n\r| x |\n\\end{table}\u202e"


@pytest.fixture(scope="session")
def hostile(make_frame: Callable[..., pd.DataFrame], make_record: Make, make_score: Make) -> pd.DataFrame:
    """A frame with hostile text wherever text comes from outside."""
    score = make_score(None, status=f"{HOSTILE}{ESCAPES}1", marks=(f"{HOSTILE}{ESCAPES}2",))
    frame = make_frame(make_record(HOSTILE, score, departures=(f"{HOSTILE}{ESCAPES}3",)))
    frame.loc[0, "name"] = HOSTILE + ESCAPES  # no record has such a name; a frame made elsewhere might
    return frame


@pytest.mark.parametrize("format_name", FORMATS)
def test_no_hostile_text_adds_a_line_or_moves_the_cursor(
    hostile: pd.DataFrame,
    make_frame: Callable[..., pd.DataFrame],
    make_record: Make,
    make_score: Make,
    format_name: Any,
) -> None:
    score = make_score(None, status="tame", marks=("mark",))
    tame = format_tables(make_frame(make_record("a", score, departures=("b",))), format_name)
    table = format_tables(hostile, format_name, width=1000)
    assert table.count("\n") == tame.count("\n")
    assert {c for c in table if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")} <= {"\n"}


def test_hostile_text_in_text_is_shown_as_it_is(hostile: pd.DataFrame) -> None:
    text = format_tables(hostile, "text", width=1000)
    assert f"{HOSTILE}\\x1b[2J\\x9b31m\\n\\r| x |\\n\\end{{table}}\\u202e " in text


def test_hostile_text_in_csv_is_one_cell_and_no_formula(hostile: pd.DataFrame) -> None:
    (row,) = csv.DictReader(io.StringIO(format_tables(hostile, "csv")))
    for cell in (row["name"], row["status"], row["marks"], row["departures"]):
        assert cell.startswith("'=a|b`c`<script>")
    assert None not in row


def test_a_negative_number_in_csv_stays_a_number(
    make_frame: Callable[..., pd.DataFrame], make_record: Make, make_score: Make
) -> None:
    frame = make_frame(make_record("-1", make_score(-1.5)))
    (row,) = csv.DictReader(io.StringIO(format_tables(frame, "csv")))
    assert (row["value"], row["name"]) == ("-1.5", "'-1")


def test_hostile_text_in_markdown_is_no_markup(hostile: pd.DataFrame) -> None:
    table = format_tables(hostile, "markdown")
    assert "<script>" not in table
    assert "| =a\\|b\\`c\\`&lt;script&gt;d&lt;/script&gt;\\\\input{e} &amp; 100 % \\[bold\\]f\\[/bold\\]" in table
    header, rules, row = (line.replace("\\|", "") for line in table.splitlines()[4:7])
    assert header.count("|") == rules.count("|") == row.count("|")


def test_hostile_text_in_latex_is_no_command(hostile: pd.DataFrame) -> None:
    table = format_tables(hostile, "latex")
    assert "\\input" not in table
    assert table.count("\\end{table}") == 1
    assert "\\textbackslash{}input\\{e\\} \\& 100 \\% [bold]f[/bold]" in table
    (row,) = (line for line in table.splitlines() if line.startswith("- &"))
    assert row.replace("\\&", "").count("&") == 6


def test_hostile_text_in_json_comes_back_to_the_letter(hostile: pd.DataFrame) -> None:
    (group,) = json.loads(format_tables(hostile, "json"))["groups"]
    assert group["scores"][0]["name"] == HOSTILE + ESCAPES
    assert group["scores"][0]["marks"] == [f"{HOSTILE}{ESCAPES}2"]
