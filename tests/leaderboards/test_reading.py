"""What a score says in words, at its borders; and that tables say it."""

from collections.abc import Callable
from typing import Any

import pytest

from vdm_bench.leaderboards.tables.formats import format_tables
from vdm_bench.leaderboards.tables.reading import reading

Make = Callable[..., Any]

CHANCE = "below the floor: by chance, or because reference clips were copied"
REAL = "not distinguishable from real clips at N = 64"


def words(value: float | None, ends: tuple[float, float] | None, floor: float | None, **fields: Any) -> str:
    return reading(value, ends, floor, **{"n_reference": 256, "n_generated": 64, **fields})


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((5.0, 9.99), CHANCE),
        ((5.0, 10.0), REAL),
        ((9.0, 11.0), REAL),
        ((10.0, 15.0), REAL),
        ((10.01, 15.0), "at 64 clips the floor is 83 % of the value: use more clips"),
    ],
)
def test_an_interval_that_touches_the_floor_includes_it(ends: tuple[float, float], expected: str) -> None:
    assert words(12.0 if ends[1] > 12 else 9.5, ends, 10.0) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (9.99, CHANCE),
        (10.0, REAL),
        (10.01, "at 64 clips the floor is 100 % of the value: use more clips"),
        (25.0, "at 64 clips the floor is 40 % of the value: use more clips"),
        (40.0, "at 64 clips the floor is 25 % of the value: use more clips"),
        (40.01, ""),
    ],
)
def test_a_quarter_of_the_value_is_too_much_floor(value: float, expected: str) -> None:
    assert words(value, None, 10.0) == expected


def test_the_side_with_fewer_clips_is_named() -> None:
    few = {"n_reference": 32, "n_generated": 64}
    assert words(25.0, (20.0, 30.0), 10.0, **few) == (
        "at 32 reference clips the floor is 40 % of the value: use more clips"
    )
    assert words(10.0, (5.0, 15.0), 10.0, **few).endswith("at N = 32")
    assert words(10.0, (5.0, 15.0), 10.0, n_reference=0).endswith("at N = 64")
    assert words(10.0, (5.0, 15.0), 10.0, n_reference=64).endswith("at N = 64")


def test_an_unbiased_distance_has_the_floor_zero() -> None:
    assert words(0.01, (-0.01, 0.03), 0.0) == REAL
    assert words(-0.02, (-0.03, -0.01), 0.0) == CHANCE
    assert words(0.02, (0.01, 0.03), 0.0) == ""


def test_without_value_floor_or_distance_there_are_no_words() -> None:
    assert words(None, None, 10.0) == ""
    assert words(10.0, (5.0, 15.0), None) == ""
    assert words(10.0, (5.0, 15.0), 10.0, higher_is_better=True) == ""


def test_tables_for_people_say_it_in_a_footnote(make_frame: Make, make_record: Make, make_score: Make) -> None:
    frame = make_frame(make_record("a", make_score(12.0, ends=(9.0, 15.0), floor=10.0, n=64)))
    assert f"(1) {REAL}\n" in format_tables(frame, "text")
    assert REAL in format_tables(frame, "latex")
    assert REAL not in format_tables(frame, "csv") + format_tables(frame, "json")
