"""`vdm-bench report` over folders as they are found: with bad records among the good ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from vdm_bench.cli import cli
from vdm_bench.leaderboards.record import write_record

Make = Callable[..., Any]


def report(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


@pytest.fixture
def runs(tmp_path: Path, make_record: Make, make_score: Make) -> Path:
    for name, value in (("good", 7.0), ("bad", 8.0), ("worse", 9.0)):
        write_record(make_record(name, make_score(value)), tmp_path / "runs" / name / "run.json")
    return tmp_path / "runs"


def spoil(record: Path, old: str, new: str) -> None:
    text = record.read_text()
    assert old in text
    record.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"value": 8.0', '"value": NaN', "scores[0].value: Input should be a finite number"),
        ('"seed": 7', '"seed": 7, "colour": "red"', "sampler.colour: there is no such field"),
        ('"value": 8.0', '"value": 8.5', "it has changed since it was written (its checksum is not that of"),
        ('"schema_version": 1', '"schema_version": 2', "was written by a newer version of vdm-bench"),
        ("fvd|n:256|", "fvd|n:512|", "the digest f7f1d80fb8a7 is not that of the signature"),
        ('"n_generated": 256', '"n_generated": 250', "fvd is signed n:256, but is made of 250 generated clips"),
    ],
)
def test_the_others_are_reported_and_what_was_left_out_is_named(
    runs: Path, old: str, new: str, words: str
) -> None:
    bad = runs / "bad" / "run.json"
    spoil(bad, old, new)
    result = report(runs)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"left out: {bad} ")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "good" in result.stdout
    assert "worse" in result.stdout
    assert "bad" not in result.stdout
    named = report(runs / "good", bad)
    assert (named.exit_code, named.stdout) == (2, "")
    assert words in named.stderr


def test_where_nothing_is_left_there_is_an_error(runs: Path) -> None:
    for record in runs.rglob("run.json"):
        record.write_text("{")
    result = report(runs)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: none of the 3 records is valid; the first: ")


def test_parquet_goes_to_a_file_alone(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    result = report(runs, "--format", "parquet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "name a file with -o FILE" in result.stderr
    path = tmp_path / "scores.parquet"
    assert report(runs, "--format", "parquet", "-o", path).exit_code == 0
    assert pd.read_parquet(path)["name"].tolist() == ["good", "bad", "worse"]
