import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from paths import ROOT
from records import build_note

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import SkippedClip, write_record
from vdm_bench.leaderboards.store import COLUMNS, find_records, load_runs
from vdm_bench.leaderboards.verified import Verification, write_verification
from vdm_bench.metrics.score import Estimate

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
    with pytest.raises(InputError, match=f"no run.json in {tmp_path} or below; give the --out folder"):
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
    with pytest.raises(InputError, match=r"cannot search .*b: Permission denied; fix its permissions"):
        find_records(tree)


def test_a_row_holds_what_the_record_says(
    tmp_path: Path, make_record: Make, make_score: Make, make_counts: Make
) -> None:
    score = replace(
        make_score(12.5, ends=(12.0, 13.0), floor=3.5, marks=("lossy",)),
        infinite=Estimate(2.5, 2.0, 3.0, 0.95, "linear"),
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
    (row,) = load_runs(tmp_path).to_dict("records")
    assert (row["name"], row["protocol"], row["sampler"], row["seed"]) == (
        "model",
        "bair-prediction",
        "baseline:copy",
        7,
    )
    assert [row[key] for key in ("value", "low", "high", "level", "floor")] == [12.5, 12.0, 13.0, 0.95, 3.5]
    assert [row[key] for key in ("infinite", "infinite_low", "infinite_high")] == [2.5, 2.0, 3.0]
    assert (row["departures"], row["marks"], row["skipped"]) == (("64 of 2048",), ("lossy",), 3)
    assert (row["digest"], row["signature"]) == (score.digest, score.signature)
    assert (row["created"], row["path"]) == (pd.Timestamp("2026-03-04T05:06:07Z"), str(tmp_path / "run.json"))


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


def test_a_broken_record_in_a_folder_is_left_out_and_named(tree: Path) -> None:
    (tree / "a" / "run.json").write_text("{")
    said: list[str] = []
    assert sorted(load_runs([tree], note=said.append)["name"]) == ["a/deep", "b"]
    assert len(said) == 1
    assert re.fullmatch(r".*/a/run\.json is not JSON: .* run the benchmark again", said[0])


def test_without_a_listener_what_was_left_out_is_a_warning(tree: Path) -> None:
    (tree / "a" / "run.json").write_text('{"schema_version": 2}')
    with pytest.warns(UserWarning, match=r"left out: .*a/run.json was written by a newer version"):
        assert len(load_runs(tree)) == 2


def test_a_broken_record_that_is_named_itself_is_refused(tree: Path) -> None:
    (tree / "a" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"a/run\.json is not JSON"):
        load_runs([tree, tree / "a" / "run.json"])


def test_where_no_record_is_sound_nothing_is_loaded(tree: Path) -> None:
    for place in ("a", "a/deep", "b"):
        (tree / place / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"none of the 3 records is valid; the first: .*a/deep/run.json is not"):
        load_runs(tree)
    with pytest.raises(InputError, match=r"^[^;]*b/run\.json is not JSON"):
        load_runs(tree / "b")


def test_a_record_without_scores_is_sound(tmp_path: Path, make_record: Make) -> None:
    write_record(make_record("empty"), tmp_path / "a" / "run.json")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text("{")
    assert load_runs(tmp_path, note=lambda text: None).empty


# What was verified


@pytest.fixture
def note(tree: Path) -> Verification:
    """A note on the record in `b`, written beside it."""
    record = tree / "b" / "run.json"
    made = build_note(record.read_bytes())
    assert write_verification(made, record) == tree / "b" / "verified.json"
    return made


def verified(tree: Path) -> list[str]:
    frame = load_runs(tree)
    return frame["name"][frame["verified"]].tolist()


def test_a_record_is_verified_where_a_note_says_so(tree: Path, note: Verification) -> None:
    assert verified(tree) == ["b"]


def test_a_note_that_an_editor_saved_is_one_and_one_in_utf_16_is_none(tree: Path, note: Verification) -> None:
    path = tree / "b" / "verified.json"
    text = path.read_text("utf-8")
    path.write_text(text, "utf-8-sig")
    assert verified(tree) == ["b"]
    path.write_text(text, "utf-16")
    with pytest.warns(UserWarning, match=r"verified\.json is damaged: .* not UTF-8"):
        assert verified(tree) == []


def test_a_note_on_other_bytes_is_none(tree: Path, note: Verification) -> None:
    shutil.copy(tree / "b" / "verified.json", tree / "a" / "verified.json")
    assert verified(tree) == ["b"]
    with (tree / "b" / "run.json").open("a") as file:
        file.write(" ")  # the same record in other words
    assert verified(tree) == []


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"record_sha256": "0" * 64},
        {"colour": "red"},
        {"clips": 0},
        {"verified": "2026-03-05T00:00:00"},
    ],
)
def test_a_note_that_is_not_sound_is_none(tree: Path, note: Verification, change: dict[str, object]) -> None:
    path = tree / "b" / "verified.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.warns(UserWarning, match="its checksum is not that of its content"):
        assert verified(tree) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_a_note_that_cannot_be_read_is_none(tree: Path, content: bytes) -> None:
    (tree / "b" / "verified.json").write_bytes(content)
    words = r"left out: .*verified\.json is damaged: .*; run `vdm-bench verify` again"
    with pytest.warns(UserWarning, match=words):
        assert verified(tree) == []


def test_the_columns_in_the_docs_are_those_of_the_frame() -> None:
    text = (ROOT / "docs" / "exports.md").read_text("utf-8")
    rows = [f"| `{column.name}` | {column.dtype} | {column.description} |" for column in COLUMNS]
    table = "\n".join(["| column | dtype | what it holds |", "| --- | --- | --- |", *rows, ""])
    assert table in text, "the table must be:\n" + table
