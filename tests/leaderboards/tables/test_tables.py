import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.store import COLUMNS, load_runs
from vdm_bench.leaderboards.tables.formats import format_tables
from vdm_bench.metrics.score import Estimate

Make = Callable[..., Any]
FORMATS = ("text", "csv", "markdown", "latex", "json")


@pytest.fixture(scope="session")
def frame(make_frame: Callable[..., pd.DataFrame], make_record: Make, make_score: Make) -> pd.DataFrame:
    up = {"metric": "is", "higher_is_better": True, "n_reference": 0}
    return make_frame(
        make_record("slow_net", make_score(123.456, ends=(120.1, 126.7), floor=3.1, marks=("lossy",))),
        make_record(
            "best net",
            make_score(121.1, ends=(119.0, 123.3), floor=3.1, marks=("2 clips skipped", "lossy")),
            make_score(12.345, **up),
            departures=("64 of 2048 clips",),
        ),
        make_record("broken", make_score(None, floor=3.1, status="NaN features")),
        make_record("far", make_score(500.0, ends=(400.0, 600.0), floor=3.1)),
        make_record("small", make_score(99.0, n=64, signed={"prec": "bf16"})),
    )


@pytest.fixture(scope="session")
def pair(make_frame: Callable[..., pd.DataFrame], make_record: Make, make_score: Make) -> pd.DataFrame:
    return make_frame(
        make_record("a_b", make_score(7.0, ends=(6.5, 7.5), floor=1.0)),
        make_record("c", make_score(8.0, ends=(7.6, 8.4), floor=1.0)),
    )


def test_latex_sets_all_values_of_the_first_rank_in_bold_in_every_group(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    frame = make_frame(
        make_record("a", make_score(7.0, ends=(6.5, 7.5)), make_score(3.0, metric="is", higher_is_better=True)),
        make_record("b", make_score(7.0, ends=(6.5, 7.5)), make_score(2.0, metric="is", higher_is_better=True)),
        make_record("c", make_score(7.1, ends=(6.6, 7.6))),  # a tie, but not the best value
    )
    latex = format_tables(frame, "latex")
    assert re.findall(r"(\w) & (?:[\d.]*)\\textbf\{([^}]*)\}", latex) == [
        ("a", "7.00"),
        ("b", "7.00"),
        ("a", "3.000"),
    ]
    for environment in ("table", "tabular"):
        assert latex.count(rf"\begin{{{environment}}}") == latex.count(rf"\end{{{environment}}}") == 2


def test_latex_needs_no_character_beyond_what_pdflatex_knows(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    score = replace(make_score(12.5), infinite=Estimate(10.25, 9.75, 10.75, 0.95, "linear"))
    latex = format_tables(make_frame(make_record("a", score)), "latex")
    assert r"at N = $\infty$ &" in latex or r"at N = $\infty$ \\" in latex
    assert latex.isascii()


def test_verified_rows_are_told_from_reported_ones(make_frame: Make, make_record: Make, make_score: Make) -> None:
    frame = make_frame(make_record("a ✓ verified", make_score(7.0)), make_record("b", make_score(8.0)))
    for format_name in ("text", "markdown", "latex"):
        assert "as reported" not in format_tables(frame, format_name)
    frame["verified"] = frame["name"] == "b"
    lines = format_tables(frame, "text").splitlines()
    assert lines[3].split() == ["rank", "name", "value", "interval", "floor", "verified"]
    assert [line.split()[-1] for line in lines[5:7]] == ["-", "yes"]
    assert lines[8].startswith("verified: recomputed from the clips by `vdm-bench verify`")
    for format_name in ("markdown", "latex"):
        assert "other rows are as reported" in format_tables(frame, format_name)


@pytest.mark.parametrize("format_name", ["markdown", "latex"])
def test_why_groups_are_apart_stands_in_every_format_for_people(frame: pd.DataFrame, format_name: Any) -> None:
    table = format_tables(frame, format_name)
    assert table.count("not comparable with the group above: n 64 v 256, prec bf16 v (none)") == 1
    assert table.count("its interval overlaps that of the best") == 1


def test_where_no_row_has_a_value_nothing_is_best(
    make_frame: Callable[..., pd.DataFrame], make_record: Make, make_score: Make
) -> None:
    frame = make_frame(make_record("a", make_score(None, status="NaN features")))
    for format_name in ("text", "markdown", "latex"):
        table = format_tables(frame, format_name)
        assert "best" not in table
        assert "textbf" not in table
        assert "(1) no value: NaN features" in table


def test_what_differs_in_a_group_is_shown_row_by_row(
    make_frame: Callable[..., pd.DataFrame], make_record: Make, make_score: Make
) -> None:
    frame = make_frame(
        make_record("a", make_score(7.0, ends=(6.5, 7.5), floor=1.0, n_reference=128)),
        make_record("b", make_score(8.0, ends=(7.6, 8.4), level=0.9, floor=1.9)),
    )
    lines = format_tables(frame, "text").splitlines()
    assert lines[1] == "256 generated clips"
    assert lines[3] == "rank       name   value   interval            floor   reference"
    assert lines[5] == "   1   *   a       7.00   [6.50, 7.50] 95 %   1.000         128"
    assert lines[6] == "   2       b       8.00   [7.60, 8.40] 90 %   1.900         256"


def test_text_is_as_wide_as_asked_and_has_no_colours(
    make_frame: Callable[..., pd.DataFrame], make_record: Make, make_score: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    frame = make_frame(make_record("x" * 200, make_score(7.0)))
    for given_width, width in (({}, 100), ({"width": 60}, 60)):
        text = format_tables(frame, "text", **given_width)
        assert "\x1b" not in text
        assert max(len(line) for line in text.splitlines()) == width
        assert text.count("x") == 200  # folded, nothing lost


def test_csv_and_json_hold_every_column_and_every_digit(
    make_frame: Callable[..., pd.DataFrame], make_record: Make, make_score: Make
) -> None:
    value, low = 0.1 + 0.2, -1 / 3
    frame = make_frame(
        make_record("a", make_score(value, ends=(low, 1e-17), marks=("m; n", "o")), departures=("d",)),
        make_record("b", make_score(None, status="too few clips")),
    )
    rows = list(csv.DictReader(io.StringIO(format_tables(frame, "csv"))))
    assert list(rows[0]) == ["rank", "mark", *(column.name for column in COLUMNS)]
    assert (float(rows[0]["value"]), float(rows[0]["low"]), float(rows[0]["high"])) == (value, low, 1e-17)
    assert (rows[0]["rank"], rows[0]["mark"], rows[0]["marks"]) == ("1", "best", "m; n; o")
    assert (rows[1]["rank"], rows[1]["mark"], rows[1]["value"]) == ("", "", "")

    text = format_tables(frame, "json")
    assert "NaN" not in text
    (group,) = json.loads(text)["groups"]
    assert list(group) == [
        "metric", "digest", "signature", "higher_is_better", "n_reference", "n_generated", "floor", "scores",
    ]  # fmt: skip
    assert list(group["scores"][0]) == list(rows[0])
    first = group["scores"][0]
    assert (first["value"], first["low"], first["high"]) == (value, low, 1e-17)
    assert (first["marks"], first["departures"], first["floor"]) == (["m; n", "o"], ["d"], None)
    assert group["scores"][1]["value"] is None


def test_json_refuses_what_json_cannot_hold(pair: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_tables(pair.assign(floor=pd.array([math.inf, math.inf], dtype="Float64")), "json")


@pytest.mark.parametrize(
    ("format_name", "nothing"),
    [
        ("text", "no scores\n"),
        ("markdown", "no scores\n"),
        ("latex", "% no scores\n"),
        ("csv", ",".join(["rank", "mark", *(column.name for column in COLUMNS)]) + "\n"),
        ("json", '{\n  "groups": []\n}\n'),
    ],
)
def test_no_scores(format_name: Any, nothing: str) -> None:
    assert format_tables(load_runs([]), format_name) == nothing


def test_an_unknown_format_is_refused(pair: pd.DataFrame) -> None:
    with pytest.raises(
        InputError, match="'html' is not a format of tables; choose one of text, csv, markdown, latex, json"
    ):
        format_tables(pair, "html")  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_order_of_the_rows_does_not_change_a_table(data: st.DataObject, frame: pd.DataFrame) -> None:
    shuffled = frame.iloc[data.draw(st.permutations(range(len(frame))))]
    for format_name in FORMATS:
        assert format_tables(shuffled, format_name) == format_tables(frame, format_name)  # type: ignore[arg-type]


def test_tables_do_not_depend_on_the_order_of_the_paths(
    tmp_path: Path, make_record: Make, make_score: Make, frame: pd.DataFrame
) -> None:
    paths = frame["path"].drop_duplicates().tolist()
    assert format_tables(load_runs(paths[::-1]), "csv") == format_tables(load_runs(paths), "csv")


def test_the_value_at_infinitely_many_clips_stands_in_a_column_of_its_own(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    score = replace(make_score(12.5), infinite=Estimate(10.25, 9.75, 10.75, 0.95, "linear"))
    text = format_tables(make_frame(make_record("a", score), make_record("b", make_score(13.0))), "text")
    assert "at N = ∞" in text
    assert "10.25 [9.75, 10.75]" in text
    assert "at N = ∞" not in format_tables(make_frame(make_record("b", make_score(13.0))), "text")
