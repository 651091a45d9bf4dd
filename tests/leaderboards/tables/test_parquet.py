import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.store import COLUMNS, load_runs
from vdm_bench.leaderboards.tables.formats import write_parquet

pytest.importorskip("pyarrow")
from pyarrow import parquet

Make = Callable[..., Any]
LISTS = ["departures", "marks"]


@pytest.fixture
def frame(make_frame: Make, make_record: Make, make_score: Make) -> pd.DataFrame:
    return make_frame(
        make_record("worse", make_score(0.1 + 0.2, ends=(-1 / 3, 1e300), floor=1e-17), departures=("a; b", "c")),
        make_record("=1+1", make_score(None, status="too few clips", marks=("Übung, \u202e",)), protocol=None),
        make_record("best", make_score(0.25), make_score(2.0, metric="is", higher_is_better=True)),
    )


def test_everything_but_tuples_comes_back_as_it_was(frame: pd.DataFrame, tmp_path: Path) -> None:
    write_parquet(frame, tmp_path / "scores.parquet")
    back = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(back.columns) == ["rank", "mark", *(column.name for column in COLUMNS)]
    assert back["name"].tolist() == ["best", "worse", "=1+1", "best"]
    assert back["rank"].tolist() == [1, 2, pd.NA, 1]
    assert back["mark"].tolist() == ["best", pd.NA, pd.NA, "best"]
    for column in LISTS:
        back[column] = back[column].map(tuple)
    order = [2, 0, 1, 3]  # of the frame's rows in the file
    expected = frame.iloc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(back[list(frame.columns)], expected, check_exact=True)


def test_lists_are_lists_of_texts_even_where_all_are_empty(
    tmp_path: Path, make_frame: Make, make_record: Make, make_score: Make
) -> None:
    frames = {"empty": load_runs([]), "bare": make_frame(make_record("a", make_score()))}
    for name, frame in frames.items():
        write_parquet(frame, tmp_path / name)
        schema = parquet.read_schema(tmp_path / name)
        assert [str(schema.field(column).type) for column in LISTS] == ["list<element: string>"] * 2
        dtypes = pd.read_parquet(tmp_path / name).dtypes
        assert {name: str(dtype) for name, dtype in dtypes.items()} == {
            "rank": "Int64",
            "mark": "string",
            **{column.name: column.dtype for column in COLUMNS},
        }


def test_without_pyarrow_the_extra_is_named(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'vdm-bench\[parquet\]'"):
        write_parquet(frame, tmp_path / "scores.parquet")
    assert list(tmp_path.iterdir()) == []
