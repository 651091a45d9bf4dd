import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import SkippedClip, write_record
from vdm_bench.leaderboards.store import COLUMNS, find_records, load_runs
from vdm_bench.metrics.score import Extrapolation

Make = Callable[..., Any]


@pytest.fixture
def tree(tmp_path: Path, make_record: Make, make_score: Make) -> Path:
    for place in ("b", "a/deep", "a", ".hidden", "a/.cache/x"):
        write_record(make_record(place, make_score()), tmp_path / place / "run.json")
    (tmp_path / "b" / "other.json").write_text("{}")
    return tmp_path


def test_a_file_is_itself(tree: Path) -> None:
    assert find_records(tree / "b" / "run.json") == [tree / "b" / "run.json"]
    assert find_records(str(tree / "b" / "other.json")) == [tree / "b" / "other.json"]


def test_a_folder_is_searched_sorted_and_without_hidden_folders(tree: Path) -> None:
    assert find_records(tree) == [tree / place / "run.json" for place in ("a/deep", "a", "b")]
    assert find_records(tree / ".hidden") == [tree / ".hidden" / "run.json"]


def test_a_folder_without_records_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(InputError, match=f"no run.json in {tmp_path} or below; give a folder"):
        find_records(tmp_path)


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_records(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_searched_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse_b(path: str | Path) -> Any:  # permissions would not bind root, so the refusal is played
        if Path(path).name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_b)
    with pytest.raises(InputError, match=r"cannot search .*b: Permission denied; mend its permissions"):
        find_records(tree)


def test_a_row_holds_what_the_record_says(
    tmp_path: Path, make_record: Make, make_score: Make, make_counts: Make
) -> None:
    score = replace(
        make_score(12.5, ends=(12.0, 13.0), floor=3.5, marks=("lossy",)),
        infinite=Extrapolation(2.5, 2.0, 3.0, 0.95, "linear"),
    )
    broken = [SkippedClip(source="a", reason="b")]
    record = make_record(
        "model",
        score,
        departures=("64 of 2048",),
        reference=make_counts(expected=258, skipped=broken * 2),
        generated=make_counts(expected=257, skipped=broken),
    )
    write_record(record, tmp_path / "run.json")
    frame = load_runs(tmp_path)
    assert frame.to_dict("records") == [
        {
            "name": "model",
            "protocol": "bair-prediction",
            "protocol_digest": "ab12",
            "departures": ("64 of 2048",),
            "sampler": "baseline:copy",
            "seed": 7,
            "metric": "fvd",
            "value": 12.5,
            "low": 12.0,
            "high": 13.0,
            "level": 0.95,
            "floor": 3.5,
            "infinite": 2.5,
            "infinite_low": 2.0,
            "infinite_high": 3.0,
            "higher_is_better": False,
            "n_reference": 256,
            "n_generated": 256,
            "digest": score.digest,
            "signature": "fvd|n:256|v:0.1.0",
            "status": "ok",
            "marks": ("lossy",),
            "skipped": 3,
            "created": pd.Timestamp("2026-03-04T05:06:07Z"),
            "code_version": "0.1.0",
            "path": str(tmp_path / "run.json"),
        }
    ]


def test_what_a_record_does_not_have_is_missing(make_frame: Make, make_record: Make, make_score: Make) -> None:
    frame = make_frame(make_record("model", make_score(None, status="too few clips"), protocol=None))
    row = frame.iloc[0]
    missing = {column for column in frame if row[column] is pd.NA}
    assert missing == {
        *("protocol", "protocol_digest", "value", "low", "high", "level", "floor"),
        *("infinite", "infinite_low", "infinite_high"),
    }
    assert row["departures"] == ()
    assert row["status"] == "too few clips"


def test_columns_and_dtypes_are_the_same_for_any_number_of_rows(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    declared = {column.name: column.dtype for column in COLUMNS}
    frames = [
        load_runs([]),
        make_frame(make_record("no scores")),
        make_frame(make_record("a", make_score(None, status="x"), protocol=None)),
        make_frame(
            make_record("a", make_score(), make_score(metric="is")), make_record("b", make_score(ends=(9, 11)))
        ),
    ]
    assert [len(frame) for frame in frames] == [0, 0, 1, 3]
    for frame in frames:
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == declared
        assert list(frame.columns) == list(declared)


def test_a_seed_is_kept_to_the_last_digit(make_frame: Make, make_record: Make, make_score: Make) -> None:
    record = make_record("a", make_score())
    big = record.model_copy(update={"sampler": record.sampler.model_copy(update={"seed": 2**63 - 1})})
    without = record.model_copy(update={"sampler": record.sampler.model_copy(update={"seed": None})})
    assert make_frame(big, without)["seed"].tolist() == [2**63 - 1, pd.NA]


def test_a_record_that_is_reached_twice_is_loaded_once(tree: Path) -> None:
    frame = load_runs([tree, tree / "b", tree / "a" / ".." / "b" / "run.json"])
    assert sorted(frame["name"]) == ["a", "a/deep", "b"]


def test_a_broken_record_among_sound_ones_is_named(tree: Path) -> None:
    (tree / "a" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"a/run\.json is not JSON"):
        load_runs([tree])
