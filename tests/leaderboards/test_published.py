"""The published rows: whole, checked field by field, and printed with exactly the published figures."""

import csv
import re
from dataclasses import replace
from typing import Any

import pytest
from paths import ROOT
from records import with_reasons

from vdm_bench.errors import InputError
from vdm_bench.leaderboards import published
from vdm_bench.leaderboards.published import HALVES, citation, parse_entries, parse_rows, published_rows
from vdm_bench.leaderboards.ranking import make_boards
from vdm_bench.leaderboards.store import load_runs
from vdm_bench.leaderboards.tables.formats import format_boards
from vdm_bench.metrics.recipes import recipes
from vdm_bench.protocols import get_protocol, protocol_names

CSV = (ROOT / "leaderboards" / "published_data" / "published.csv").read_text()
HEAD, *LINES = CSV.splitlines()
# The halves of a pair a/b as the list of facts calls them, behind the last underscore of its protocols.
HALF_OF_FACTS = dict(zip(("train", "val", "1split", "10splits"), HALVES, strict=True))


def with_row(**changes: str) -> str:
    """The file with its first row changed."""
    row = next(csv.DictReader([HEAD, LINES[0]])) | changes
    quoted = ",".join('"' + value.replace('"', '""') + '"' for value in row.values())
    return "\n".join([HEAD, quoted, *LINES[1:]]) + "\n"


def test_every_fact_is_there_and_nothing_else() -> None:
    facts = ROOT.parent / "shared" / "facts" / "published.csv"
    if not facts.is_file():
        pytest.skip(f"needs the list of facts, {facts}")
    expected = []
    for fact in csv.DictReader(facts.open(newline="")):
        half = HALF_OF_FACTS.get(fact["protocol"].rpartition("_")[2], "")
        method = fact["method"].replace(" (ours)", "")
        figures = (fact["value"], fact["std"], fact["higher_is_better"] == "1")
        expected.append((fact["table"], method, half if fact["table"] in "456" else "", *figures))
    found = [
        (row.table, row.method, row.half, row.text, row.spread_text, row.higher_is_better)
        for row in published_rows()
    ]
    assert found == expected


def test_each_row_names_a_known_protocol_and_recipe_and_a_citable_paper() -> None:
    known = recipes()
    for row in published_rows():
        assert row.protocol in protocol_names()
        assert known[row.metric].higher_is_better is row.higher_is_better
        assert row.source.removeprefix("arXiv:") in citation(row.source)


def test_rows_that_follow_a_protocol_are_of_metrics_that_it_has() -> None:
    for row in published_rows():
        if not row.group:
            assert row.metric in get_protocol(row.protocol).metrics, row


def test_known_figures_of_the_paper() -> None:
    figures = {(row.table, row.method, row.metric, row.half): row for row in published_rows()}
    assert figures["1", "Video Diffusion", "c3d/fid", ""].printed == "295 ± 3"
    assert figures["1", "TGAN-v2", "c3d/is", ""].printed == "28.87 ± 0.47"  # the later one, 128x128
    assert figures["3", "Video Diffusion Langevin 128 steps", "fvd", ""].value == 16.2
    method = "large model, frameskip 4, guidance weight 2.0"
    pair = [figures["5", method, "fid/frames-avg", half] for half in ("training set", "validation set")]
    assert [(row.text, row.group) for row in pair] == [
        ("9.39", "private videos, frameskip 4, training set"),
        ("9.36", "private videos, frameskip 4, validation set"),
    ]
    assert {row.pair for row in pair} == {"private videos, frameskip 4"}


def test_rows_of_one_protocol() -> None:
    assert [row.method for row in published_rows("bair-prediction-debiased")] == ["MAGVIT-B-FP", "MAGVIT-L-FP"]
    assert published_rows("shapes-class") == ()


def printed_tables(text: str) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """Read tables in Markdown: (metric, protocol, how it departs) -> rows by the titles of the columns."""
    tables = {}
    for part in text.split("### ")[1:]:
        lines = [re.sub(r"\\(.)", r"\1", line) for line in part.splitlines()]
        protocol, _, but = lines[2].partition(", but: ")
        table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
        key = (lines[0].split()[0], protocol.split(",")[0], but)
        assert key not in tables
        tables[key] = [dict(zip(table[0], cells, strict=True)) for cells in table[2:]]
    return tables


@pytest.mark.parametrize("table", ["1", "2", "3", "3-text", "4", "5", "6", "later"])
def test_tables_print_exactly_the_published_figures(table: str) -> None:
    boards = make_boards(published_rows(), with_reasons(load_runs([])))
    tables = printed_tables(format_boards(boards, "markdown"))
    rows = [row for row in csv.DictReader(CSV.splitlines()) if row["table"] == table]
    assert rows
    for row in rows:
        source = {"3-text": "next to table 3", "later": ""}.get(table, f"table {table}")
        (printed,) = [
            cells
            for cells in tables[row["metric"], row["protocol"], row["group"]]
            if cells["name"] == row["method"] and cells["source"].partition("] ")[2] == source
        ]
        assert printed[row["half"] or "value"] == row["value"]
        assert printed.get("±", "") == row["spread"]
        caveats = [text for text in row["caveats"].split("; ") if text]
        assert len(printed.get("marks", "").split()) == len(caveats)


def test_a_metric_pair_is_two_columns_ranked_by_the_protocols_metric() -> None:
    text = format_boards(
        make_boards(published_rows("text-video"), with_reasons(load_runs([]))), "text", width=160
    )
    first = text.splitlines()
    assert first[:4] == [
        "fvd ↓",
        "text-video, but: private videos",
        "not comparable with rows that follow the protocol",
        "ranked by: validation set",
    ]
    row = next(line for line in first if "small model, 8 image frames" in line)
    assert re.split(r" {2,}", row.strip())[:4] == ["3", "small model, 8 image frames", "57.84", "60.72"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": "26,998"}, "line 2: value: '26,998' is not allowed here"),
        ({"value": "nan"}, "line 2: value: 'nan' is not allowed here"),
        ({"spread": "-3"}, "line 2: spread: '-3' is not allowed here"),
        ({"table": "7"}, "line 2: table: '7' is not allowed here"),
        ({"method": " "}, "line 2: method: ' ' is not allowed here"),
        ({"half": "test set"}, "line 2: half: 'test set' is not allowed here"),
        ({"higher_is_better": "1"}, "line 2: higher_is_better: '1' is not allowed here"),
        ({"source": "a blog"}, "line 2: source: 'a blog' is not allowed here"),
        ({"method": "TGAN-F"}, "line 4: method: 'TGAN-F' is already in line 2"),
        ({"higher_is_better": "yes"}, "line 4: higher_is_better: other rows of c3d/fid say the opposite"),
        ({"protocol": "UCF 101"}, "line 2: protocol: 'UCF 101' is not allowed here"),
    ],
)
def test_a_wrong_row_is_refused_by_file_line_and_field(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(f"rows.csv, {message}")):
        parse_rows(with_row(**changes), "rows.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV.replace("table,method", "table,name", 1), "line 1: the columns must be table,method,"),
        (f"{CSV}1,too,few\n", f"line {len(LINES) + 2}: the number of fields differs from the number of columns"),
        (f"{CSV}{LINES[-1]},more\n", f"line {len(LINES) + 2}: the number of fields differs"),
        (f'{CSV}1,"open', f"line {len(LINES) + 2}: this is not valid CSV"),
    ],
)
def test_a_damaged_file_is_refused_by_file_and_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(f"rows.csv, {message}")):
        parse_rows(text, "rows.csv")


def test_every_source_has_an_entry_and_every_entry_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(published._package_entries()) == {row.source for row in published_rows()}
    monkeypatch.setattr(published, "_package_entries", dict)
    published._package_rows.cache_clear()
    try:
        with pytest.raises(InputError, match=r"no published row has the source 'arXiv:2204\.03458'"):
            published_rows()
    finally:
        published._package_rows.cache_clear()


def test_citations_are_bibtex_of_the_paper() -> None:
    entry = citation("arXiv:2204.03458")
    assert entry.startswith("@misc{ho2022video,\n  title = {Video Diffusion Models},\n")
    assert entry.count("{") == entry.count("}")
    assert entry.endswith("\n}\n")
    with pytest.raises(InputError, match="no published row has the source 'arXiv:1234'"):
        citation("arXiv:1234")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@misc{a,\n  title = {A}\n}\n", "'@misc{a,' has no arXiv eprint"),
        (2 * "@misc{a,\n  eprint = {2204.03458}\n}\n", "arXiv:2204.03458 appears twice"),
    ],
)
def test_wrong_entries_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_entries(text, "papers.bib")


@pytest.mark.parametrize(
    ("form", "harmful"), [("text", "\x1b"), ("markdown", "<"), ("latex", "$x$"), ("csv", ",=1")]
)
def test_hostile_names_are_harmless_in_every_format(form: Any, harmful: str) -> None:
    name = "=1 <img onerror=alert(1)>\x1b[2J $x$"
    row = replace(published_rows()[0], method=name, caveats=(name,), source=name)
    text = format_boards(make_boards([row], with_reasons(load_runs([]))), form)
    assert harmful not in text
    assert "onerror" in text
