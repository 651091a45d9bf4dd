"""Two runs and more: the verdicts, what they rest on, and what is printed of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from vdm_bench.leaderboards.checks.compare import ROUNDING, Comparison, RunComparison, compare_scores
from vdm_bench.leaderboards.record import Record
from vdm_bench.leaderboards.tables.comparisons import format_comparison
from vdm_bench.metrics.score import Score

Make = Callable[..., Score]
MakeRecord = Callable[..., Record]


@pytest.fixture(scope="session")
def judge(make_score: Make) -> Callable[..., Comparison]:
    """Compare two values whose intervals reach 3 and 4 to either side, so that their difference reaches 5."""

    def compare(first: float | None, second: float | None, **fields: Any) -> Comparison:
        scores = [
            make_score(value, ends=None if value is None else (value - half, value + half), **fields)
            for value, half in ((first, 3), (second, 4))
        ]
        return compare_scores(*scores)

    return compare


@pytest.mark.parametrize(
    ("first", "second", "higher_is_better", "verdict"),
    [
        (100.0, 94.9, False, "better"),
        (100.0, 105.1, False, "worse"),
        (100.0, 94.9, True, "worse"),
        (100.0, 105.1, True, "better"),
        (100.0, 104.9, False, "within noise"),
        (100.0, 95.1, True, "within noise"),
        (100.0, 100.0, False, "within noise"),
    ],
)
def test_a_verdict_needs_an_interval_that_leaves_out_zero(
    judge: Callable[..., Comparison], first: float, second: float, higher_is_better: bool, verdict: str
) -> None:
    found = judge(first, second, higher_is_better=higher_is_better)
    assert found.verdict == verdict
    assert found.change == second - first
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((second - first - 5, second - first + 5))
    assert found.worsening == (first - second if higher_is_better else second - first)


def test_what_machines_differ_by_is_no_difference(make_score: Make) -> None:
    """Runs of one seed have all noise in common, so their interval would take rounding for a difference."""
    groups = tuple(range(90, 110))

    def against(change: float) -> Comparison:
        first = make_score(100.0, ends=(90, 110), jackknife=groups)
        second = make_score(100 + change, ends=(90, 110), jackknife=tuple(group + change for group in groups))
        return compare_scores(first, second)

    assert against(0.9 * 100 * ROUNDING).verdict == "within noise"
    assert against(1.1 * 100 * ROUNDING).verdict == "worse"
    assert against(-1.1 * 100 * ROUNDING).verdict == "better"
    interval = against(1.0).interval
    assert interval is not None
    assert interval.method == "paired-jackknife-20"


def test_pairs_tell_apart_what_independent_intervals_do_not(make_score: Make) -> None:
    groups = tuple(float(group) for group in range(90, 110))
    shifted = tuple(group + 1 + 0.01 * (group % 2) for group in groups)
    first, second = make_score(100.0, ends=(80, 120)), make_score(101.0, ends=(80, 120))
    assert compare_scores(first, second).verdict == "within noise"
    first, second = (
        make_score(value, ends=(80, 120), jackknife=jackknife)
        for value, jackknife in ((100.0, groups), (101.0, shifted))
    )
    assert compare_scores(first, second).verdict == "worse"


def test_records_of_consecutive_and_permuted_groups_are_not_paired(make_score: Make) -> None:
    """What a baseline of an older version holds is compared as if the runs had nothing in common."""
    groups = tuple(float(group) for group in range(90, 110))
    first = make_score(100.0, ends=(80, 120), jackknife=groups)
    second = make_score(101.0, ends=(80, 120), jackknife=groups, jackknife_groups="permuted-clips")
    found = compare_scores(first, second)
    assert found.verdict == "within noise"
    assert found.interval is not None
    assert found.interval.method == "independent-intervals"


def test_few_clips_give_no_verdict(make_score: Make) -> None:
    found = compare_scores(make_score(10.0), make_score(20.0))
    assert (found.verdict, found.change, found.interval) == ("no interval", 10.0, None)
    assert compare_scores(make_score(10.0), make_score(10.0)).verdict == "within noise"


def test_unlike_signatures_are_named_and_never_compared(make_score: Make) -> None:
    first = make_score(10.0, n=256, signed={"ref": "bair/256", "task": "prediction-1"})
    second = make_score(1.0, n=100, signed={"ref": "bair/256", "prec": "bf16"})
    found = compare_scores(first, second)
    assert (found.verdict, found.change) == ("not comparable", None)
    assert list(found.differing) == [
        ("task", "prediction-1", None),
        ("n", "256", "100"),
        ("prec", None, "bf16"),
    ]
    assert found.reason == "task prediction-1 v (none), n 256 v 100, prec (none) v bf16"


def test_the_version_of_the_software_is_no_difference(make_score: Make) -> None:
    scores = [
        make_score(value, ends=(0, 20), version=version) for value, version in ((10.0, "0.1"), (9.0, "2.0"))
    ]
    assert compare_scores(*scores).verdict == "within noise"


def test_scores_without_a_value_or_with_two_directions_are_not_comparable(make_score: Make) -> None:
    nothing, some = make_score(None, status="too few clips"), make_score(10.0)
    for pair in ((nothing, some), (some, nothing)):
        found = compare_scores(*pair)
        assert (found.verdict, found.reason) == ("not comparable", "no value: too few clips")
    found = compare_scores(some, make_score(10.0, higher_is_better=True))
    assert "disagree about the direction" in found.reason


def test_numbers_of_any_size_are_survived(make_score: Make) -> None:
    found = compare_scores(make_score(-1.5e308), make_score(1.5e308))
    assert (found.verdict, found.change) == ("not comparable", None)
    wide = [make_score(value, ends=(-1.5e308, 1.5e308)) for value in (1e307, 2e307)]
    found = compare_scores(*wide)
    assert (found.verdict, found.interval) == ("no interval", None)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.fixture
def records(make_record: MakeRecord, make_score: Make) -> list[Record]:
    return [
        make_record(
            name,
            make_score(value, ends=(value - 1, value + 1)),
            make_score(score, metric="is", higher_is_better=True, ends=(score - 1, score + 1), n=n),
        )
        for name, value, score, n in (("old", 50.0, 9.0, 256), ("new", 40.0, 9.5, 256), ("other", 60.0, 9.0, 128))
    ]


def text_of(*records: Record) -> str:
    runs = [(f"runs/{record.name}", record) for record in records]
    return format_comparison(RunComparison.of(runs))


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_two_runs_make_a_table(records: list[Record]) -> None:
    lines = squeezed(text_of(*records[:2]))
    assert lines[:4] == ["A old (runs/old)", "B new (runs/new)", "", "metric A B B - A 95 % interval verdict"]
    assert lines[5:7] == [
        "fvd ↓ 50.0 40.0 -10.0 [-11.4, -8.6] B is better",
        "is ↑ 9.0 9.5 +0.5 [-0.9, 1.9] within noise",
    ]
    assert lines[7].startswith("independent-intervals: the runs are treated as independent")


def test_what_cannot_be_compared_says_why(records: list[Record]) -> None:
    text = text_of(records[0], records[2])
    assert "is ↑ 9.0 9.0 - - not comparable" in squeezed(text)
    assert "\nnot comparable: is: n 256 v 128\n" in text


def test_metrics_of_one_run_alone_are_named(make_record: MakeRecord, make_score: Make) -> None:
    a = make_record("a", make_score(1.0), make_score(2.0, metric="kvd"))
    b = make_record("b", make_score(1.0), make_score(2.0, metric="psnr"), make_score(2.0, metric="ssim"))
    text = text_of(a, b)
    assert text.endswith("only A has kvd\nonly B has psnr, ssim\n")
    assert "no metric in common" in text_of(
        make_record("a", make_score(1.0, metric="kvd")), make_record("b", make_score(1.0))
    )


def test_three_runs_make_a_matrix_a_metric(records: list[Record]) -> None:
    lines = [line.split("  ") for line in text_of(*records).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["1 old", "-", "+10.0 worse", "-10.0 better"] in cells
    assert ["2 new", "-10.0 better", "-", "-20.0 better"] in cells
    assert ["3 other", "+10.0 worse", "+20.0 worse", "-"] in cells
    assert ["1 old", "-", "-0.5 within noise", "not comparable"] in cells
    assert ["3 other", "not comparable", "not comparable", "-"] in cells
    assert text_of(*records).count("not comparable: is: n 256 v 128\n") == 1


def test_a_matrix_shows_runs_without_the_metric_empty(make_record: MakeRecord, make_score: Make) -> None:
    names = ("a", "b", "c")
    made = [make_record(name, make_score(1.0, metric="kvd" if name == "b" else "fvd")) for name in names]
    lines = squeezed(text_of(*made))
    assert "2 b - - -" in lines
    assert "3 c 0.000 within noise - -" in lines


def test_names_cannot_move_the_cursor(make_record: MakeRecord, make_score: Make) -> None:
    status = "no\x1b[2J value"
    a, b = (make_record("name", make_score(None, metric="m\x1b[2J", status=status)) for _ in range(2))
    runs = [("runs/\x1b[2J", a), ("runs/b", b)]
    text = format_comparison(RunComparison.of(runs))
    assert "\x1b" not in text
    assert text.count("\\x1b[2J") >= 3


def test_json_holds_all_digits(records: list[Record]) -> None:
    runs = [("x", record) for record in records]
    content = RunComparison.of(runs).to_dict()
    assert [run["name"] for run in content["runs"]] == ["old", "new", "other"]
    first = content["comparisons"][0]
    assert (first["first"], first["second"], first["metric"]) == (0, 1, "fvd")
    assert (first["change"], first["verdict"]) == (-10.0, "better")
    assert first["high"] == pytest.approx(-10 + 2**0.5, rel=1e-12)
    unlike = content["comparisons"][3]
    assert unlike["differing"] == [{"key": "n", "first": "256", "second": "128"}]
    assert (unlike["verdict"], unlike["change"], unlike["low"]) == ("not comparable", None, None)


def test_nothing_is_comparable_where_all_signatures_differ(
    records: list[Record], make_record: MakeRecord
) -> None:
    assert RunComparison.of([("", record) for record in records]).comparable
    alone = make_record("other", *(score for score in records[2].scores if score.metric == "is"))
    assert not RunComparison.of([("", records[0]), ("", alone)]).comparable
