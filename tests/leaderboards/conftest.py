"""Builders of scores, records and frames; session-wide, because hypothesis calls them many times a test."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from records import build_counts, build_record, build_score

from vdm_bench.leaderboards.record import ClipCounts, Record, write_record
from vdm_bench.leaderboards.store import load_runs
from vdm_bench.metrics.score import Score


@pytest.fixture(scope="session")
def make_score() -> Callable[..., Score]:
    return build_score


@pytest.fixture(scope="session")
def make_counts() -> Callable[..., ClipCounts]:
    return build_counts


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    return build_record


@pytest.fixture(scope="session")
def make_frame(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pd.DataFrame]:
    """Give a function that writes records and loads them again, as `run.json` in folders 0, 1, 2, ..."""

    def make(*records: Record) -> pd.DataFrame:
        folder = tmp_path_factory.mktemp("runs")
        for index, record in enumerate(records):
            write_record(record, Path(folder, str(index), "run.json"))
        return load_runs([Path(folder, str(index)) for index in range(len(records))])

    return make
