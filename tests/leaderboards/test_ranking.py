from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.ranking import group_scores
from vdm_bench.leaderboards.store import COLUMNS

Make = Callable[..., Any]


@pytest.fixture(scope="session")
def ranked(make_frame: Make, make_record: Make, make_score: Make) -> Callable[..., list[tuple[Any, ...]]]:
    """Rank scores, given by name, that belong to one group: (name, rank, mark), best first."""

    def rank(**scores: dict[str, Any]) -> list[tuple[Any, ...]]:
        records = [make_record(name, make_score(**fields)) for name, fields in scores.items()]
        (group,) = group_scores(make_frame(*records))
        columns = [group.rows[column].tolist() for column in ("name", "rank", "mark")]
        return [tuple(None if cell is pd.NA else cell for cell in row) for row in zip(*columns, strict=True)]

    return rank


def test_the_lowest_is_best_where_lower_is_better(ranked: Make) -> None:
    rows = ranked(a={"value": 12.0}, b={"value": 7.0}, c={"value": 9.0})
    assert rows == [("b", 1, "best"), ("c", 2, None), ("a", 3, None)]


def test_the_highest_is_best_where_higher_is_better(ranked: Make) -> None:
    up = {"metric": "is", "higher_is_better": True}
    rows = ranked(a={"value": 12.0, **up}, b={"value": 7.0, **up}, c={"value": 9.0, **up})
    assert rows == [("a", 1, "best"), ("c", 2, None), ("b", 3, None)]


def test_rows_without_a_value_come_last_and_unranked(ranked: Make) -> None:
    none = {"value": None, "status": "NaN features"}
    assert ranked(a=none, b={"value": 7.0}, c=none) == [("b", 1, "best"), ("a", None, None), ("c", None, None)]
    up = {"metric": "is", "higher_is_better": True}
    assert ranked(a={**none, **up}, b={"value": 7.0, **up})[0] == ("b", 1, "best")


def test_where_no_row_has_a_value_none_is_best(ranked: Make) -> None:
    assert ranked(a={"value": None, "status": "x", "ends": (1.0, 2.0)}) == [("a", None, None)]


def test_an_interval_that_overlaps_with_the_best_row_s_ties(ranked: Make) -> None:
    rows = ranked(
        best={"value": 10.0, "ends": (8.0, 12.0)},
        inside={"value": 11.0, "ends": (10.5, 11.5)},
        overlaps={"value": 13.0, "ends": (11.9, 14.1)},
        touches={"value": 14.0, "ends": (12.0, 16.0)},
        apart={"value": 15.0, "ends": (12.1, 18.0)},
        far_but_wide={"value": 30.0, "ends": (5.0, 55.0)},
    )
    assert rows == [
        ("best", 1, "best"),
        ("inside", 2, "tie"),
        ("overlaps", 3, "tie"),
        ("touches", 4, "tie"),
        ("apart", 5, None),
        ("far_but_wide", 6, "tie"),
    ]


def test_intervals_overlap_from_below_where_higher_is_better(ranked: Make) -> None:
    up = {"metric": "is", "higher_is_better": True}
    rows = ranked(
        best={"value": 16.0, "ends": (14.0, 18.0), **up},
        touches={"value": 12.0, "ends": (10.0, 14.0), **up},
        apart={"value": 11.0, "ends": (8.0, 13.9), **up},
    )
    assert rows == [("best", 1, "best"), ("touches", 2, "tie"), ("apart", 3, None)]


def test_a_row_that_ties_with_a_tied_row_alone_does_not_tie(ranked: Make) -> None:
    rows = ranked(
        a={"value": 10.0, "ends": (8.0, 12.0)},
        b={"value": 13.0, "ends": (11.0, 15.0)},
        c={"value": 16.0, "ends": (14.0, 18.0)},
    )
    assert [mark for _, _, mark in rows] == ["best", "tie", None]


def test_without_an_interval_equal_values_tie_alone(ranked: Make) -> None:
    assert ranked(a={"value": 10.0}, b={"value": 10.0}, c={"value": 10.1}) == [
        ("a", 1, "best"),
        ("b", 1, "tie"),
        ("c", 3, None),
    ]
    rows = ranked(
        a={"value": 10.0, "ends": (8.0, 12.0)}, b={"value": 10.5}, c={"value": 11.0, "ends": (10.0, 12.0)}
    )
    assert rows == [("a", 1, "best"), ("b", 2, None), ("c", 3, "tie")]


def test_intervals_of_different_levels_do_not_tie(ranked: Make) -> None:
    rows = ranked(a={"value": 10.0, "ends": (8.0, 12.0)}, b={"value": 11.0, "ends": (9.0, 13.0), "level": 0.5})
    assert rows == [("a", 1, "best"), ("b", 2, None)]


def test_unlike_scores_are_not_ranked_together(make_frame: Make, make_record: Make, make_score: Make) -> None:
    groups = group_scores(
        make_frame(
            make_record("a", make_score(100.0, n=256), make_score(5.0, metric="fid")),
            make_record("b", make_score(90.0, n=256)),
            make_record("c", make_score(10.0, n=64, version="0.2.0")),
        )
    )
    assert [(group.metric, group.n_generated, list(group.rows["name"])) for group in groups] == [
        ("fid", 256, ["a"]),
        ("fvd", 256, ["b", "a"]),
        ("fvd", 64, ["c"]),
    ]
    assert groups[2].differences(groups[1]) == [("n", "64", "256")]
    assert all(group.rows["rank"].iloc[0] == 1 for group in groups)


def test_within_a_metric_groups_are_ordered_by_rows_then_clips(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    sizes = {"a": 64, "b": 64, "c": 128, "d": 256}
    groups = group_scores(make_frame(*(make_record(name, make_score(n=n)) for name, n in sizes.items())))
    assert [group.n_generated for group in groups] == [64, 256, 128]


def test_a_key_that_one_signature_lacks_is_a_difference(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    groups = group_scores(
        make_frame(
            make_record("a", make_score(signed={"prec": "bf16", "cov": "n"})),
            make_record("b", make_score(signed={"cov": "n-1"})),
        )
    )
    named = {group.rows["name"].iloc[0]: group for group in groups}
    assert named["a"].differences(named["b"]) == [("cov", "n", "n-1"), ("prec", "bf16", None)]


def test_scores_of_two_versions_are_comparable_and_the_group_names_neither(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    old, new = make_record("a", make_score(version="0.1.0")), make_record("b", make_score(version="0.2.0"))
    (both,) = group_scores(make_frame(old, new))
    (one,) = group_scores(make_frame(new))
    assert both.signature == "fvd|n:256"
    assert both.rows["signature"].tolist() == ["fvd|n:256|v:0.1.0", "fvd|n:256|v:0.2.0"]
    assert one.signature == "fvd|n:256|v:0.2.0"


def test_a_group_holds_what_its_rows_share(make_frame: Make, make_record: Make, make_score: Make) -> None:
    (same,) = group_scores(make_frame(*(make_record(name, make_score(floor=3.0)) for name in "ab")))
    assert (same.floor, same.n_reference, same.n_generated) == (3.0, 256, 256)
    differing = [make_score(floor=3.0, n_reference=10), make_score(n_reference=20)]
    (group,) = group_scores(make_frame(*(make_record(score.metric, score) for score in differing)))
    assert (group.floor, group.n_reference, group.n_generated) == (None, None, 256)


def test_records_that_contradict_each_other_about_the_direction_are_named(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    frame = make_frame(make_record("a", make_score()), make_record("b", make_score(higher_is_better=True)))
    with pytest.raises(InputError, match=r"0/run\.json, .*1/run\.json disagree .* direction of fvd"):
        group_scores(frame)


def test_the_given_frame_is_left_as_it_was(make_frame: Make, make_record: Make, make_score: Make) -> None:
    frame = make_frame(make_record("b", make_score(2.0)), make_record("a", make_score(1.0)))
    before = frame.copy(deep=True)
    (group,) = group_scores(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert list(group.rows.columns) == ["rank", "mark", *(column.name for column in COLUMNS)]


any_score = st.fixed_dictionaries(
    {
        "value": st.sampled_from([1.0, 2.0, 2.5, 3.0]),
        "n": st.sampled_from([64, 128]),
        "ends": st.none() | st.sampled_from([(0.5, 1.5), (1.5, 2.5), (2.5, 4.0)]),
        "metric": st.sampled_from(["fvd", "fid"]),
    }
)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), scores=st.lists(any_score, min_size=1, max_size=6))
def test_grouping_keeps_every_row_mixes_no_digests_and_heeds_no_order(
    data: st.DataObject, scores: list[dict[str, Any]], make_frame: Make, make_record: Make, make_score: Make
) -> None:
    frame = make_frame(*(make_record("same name", make_score(**fields)) for fields in scores))
    groups = group_scores(frame)
    assert sorted(path for group in groups for path in group.rows["path"]) == sorted(frame["path"])
    assert all(group.rows["digest"].tolist() == [group.digest] * len(group.rows) for group in groups)
    assert len({group.digest for group in groups}) == len(groups) == frame["digest"].nunique()
    for group in groups:
        assert group.rows["value"].is_monotonic_increasing
        assert (group.rows["mark"] == "best").sum() == 1

    order = data.draw(st.permutations(range(len(frame))))
    shuffled = group_scores(frame.iloc[order])
    assert [group.digest for group in shuffled] == [group.digest for group in groups]
    for one, other in zip(groups, shuffled, strict=True):
        pd.testing.assert_frame_equal(one.rows, other.rows)
