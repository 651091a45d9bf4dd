"""Plots show what the records hold: points, intervals, extrapolations, and which runs stand together."""

import base64
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from records import with_reasons

from vdm_bench.leaderboards.published import PublishedRow
from vdm_bench.leaderboards.ranking import make_boards, plain_rows
from vdm_bench.leaderboards.record import Curve, Record, SamplerInfo, write_record
from vdm_bench.leaderboards.report.charts import (
    MOST_LINES,
    MOST_SCORES,
    Metric,
    count_charts,
    curve_charts,
    guidance_charts,
    score_chart,
    time_charts,
)
from vdm_bench.leaderboards.report.plots import draw
from vdm_bench.leaderboards.report.runs import Runs, read_runs
from vdm_bench.leaderboards.store import frame_of
from vdm_bench.metrics.score import Estimate

Make = Callable[..., Any]
FVD = Metric("fvd", higher_is_better=False)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Runs]:
    def write_and_read(*records: Record) -> Runs:
        for number, record in enumerate(records):
            write_record(record, tmp_path / str(number) / "run.json")
        return read_runs([tmp_path])

    return write_and_read


def rows_of(runs: Runs, published: tuple[PublishedRow, ...] = ()) -> Any:
    (board,) = make_boards(published, with_reasons(runs.frame, lambda row: "" if published else "a test"))
    return plain_rows(board.rows)


def svg_of(chart: Any) -> str:
    kind, _, data = draw(chart).address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    text = base64.b64decode(data).decode()
    ET.fromstring(text)
    return text


def test_long_names_that_begin_alike_are_told_apart(read: Make, make_record: Make, make_score: Make) -> None:
    long = "a large model of many frames with a guidance weight of"
    runs = read(*(make_record(f"{long} {weight}.0", make_score(float(weight))) for weight in (2, 5)))
    (chart,) = score_chart(FVD, rows_of(runs))
    text = svg_of(chart)
    for weight in (2, 5):
        assert f">a large model…weight of {weight}.0</text>" in text


def test_scores_are_drawn_best_first_with_their_intervals_and_the_floor(
    read: Make, make_record: Make, make_score: Make
) -> None:
    runs = read(
        make_record("worse", make_score(12.0, ends=(11.0, 13.0), floor=3.0)),
        make_record("better", make_score(7.0, ends=(6.5, 7.5), floor=3.0)),
        make_record("none", make_score(None, status="NaN", floor=3.0)),
    )
    (chart,) = score_chart(FVD, rows_of(runs))
    assert [line.label for line in chart.own] == ["better", "worse"]
    points = [line.points[0] for line in chart.own]
    assert [(p.value, p.low, p.high) for p in points] == [(7.0, 6.5, 7.5), (12.0, 11.0, 13.0)]
    assert (chart.floor, chart.published, chart.note) == (3.0, (), "")
    assert chart.alt == (
        "fvd by model: better 7.00 [6.50, 7.50]; worse 12.0 [11.0, 13.0]. The floor is 3.000. The table has all."
    )
    text = svg_of(chart)
    for word in ("better", "worse", "floor of a perfect model", "fvd (lower is better)"):
        assert f">{word}</text>" in text


def test_published_scores_stand_beside_own_ones_with_their_spread(
    read: Make, make_record: Make, make_score: Make
) -> None:
    row = PublishedRow("1", "Theirs", "bair-prediction", "", "fvd", 9.0, 0.5, False, (), "arXiv:1", "9.0", "0.5")
    (chart,) = score_chart(FVD, rows_of(read(make_record("mine", make_score(7.0))), (row,)))
    assert [line.label for line in chart.own] == ["mine"]
    ((theirs,),) = [line.points for line in chart.published]
    assert (theirs.value, theirs.low, theirs.high) == (9.0, 8.5, 9.5)


def test_one_score_makes_no_plot_and_many_are_cut(read: Make, make_record: Make, make_score: Make) -> None:
    assert score_chart(FVD, rows_of(read(make_record("a", make_score(1.0))))) == []
    many = [make_record(f"m{number:03}", make_score(1.0 + number)) for number in range(MOST_SCORES + 5)]
    (chart,) = score_chart(FVD, rows_of(read(*many)))
    assert len(chart.own) == MOST_SCORES
    assert chart.note == "The best 30 are drawn, 5 more are not."


def test_a_curve_is_that_of_the_record_with_its_standard_errors(
    read: Make, make_record: Make, make_score: Make
) -> None:
    psnr = make_score(20.0, metric="psnr", higher_is_better=True, n_reference=0)
    curve = Curve(frames=[2, 3], values=[21.0, 19.0], standard_errors=[0.5, 0.25])
    bare = Curve(frames=[2, 3], values=[11.0, 9.0], standard_errors=None)
    runs = read(
        make_record("a", psnr, curves={"psnr": curve, "ssim": bare}),
        make_record(
            "b", make_score(10.0, metric="psnr", higher_is_better=True, n_reference=0), curves={"psnr": bare}
        ),
        make_record("c", make_score(9.0, metric="psnr", higher_is_better=True, n_reference=0)),
    )
    (chart,) = curve_charts(Metric("psnr", higher_is_better=True), rows_of(runs), runs.by_path)
    assert chart.titles == ["frame", "a", "b"]
    assert chart.rows == [["2", "21.00 [20.50, 21.50]", "11.00"], ["3", "19.00 [18.75, 19.25]", "9.000"]]
    assert ">psnr (higher is better)</text>" in svg_of(chart)


def guided(make_record: Make, make_score: Make, weight: object, value: float, **other: Any) -> Record:
    settings = {"guidance_weight": weight, "steps": 64, **other}
    sampler = SamplerInfo(kind="reference", spec="shapes", settings=settings, seed=0)
    return make_record(
        f"w={weight} {other}"[:99], make_score(value, ends=(value - 1, value + 1)), sampler=sampler
    )


def test_runs_that_differ_in_guidance_alone_make_a_line(read: Make, make_record: Make, make_score: Make) -> None:
    runs = read(
        guided(make_record, make_score, 4.0, 9.0),
        guided(make_record, make_score, "1", 5.0),
        guided(make_record, make_score, 0, 7.0),
        guided(make_record, make_score, 2.0, 6.0, gamma=0.3),
        guided(make_record, make_score, "a lot", 6.0),
        guided(make_record, make_score, "nan", 6.0),
    )
    (chart,) = guidance_charts(FVD, rows_of(runs), runs.by_path)
    assert chart.titles == ["guidance weight", "shapes"]
    assert chart.rows == [["0", "7.0 [6.0, 8.0]"], ["1", "5.0 [4.0, 6.0]"], ["4", "9.0 [8.0, 10.0]"]]
    assert ">guidance weight</text>" in svg_of(chart)


def test_lines_of_guidance_are_named_by_what_tells_them_apart(
    read: Make, make_record: Make, make_score: Make
) -> None:
    runs = read(
        *(guided(make_record, make_score, weight, 9.0 + weight, gamma=0.1) for weight in (0, 1)),
        *(guided(make_record, make_score, weight, 8.0 + weight, gamma=0.3) for weight in (0, 1)),
    )
    (chart,) = guidance_charts(FVD, rows_of(runs), runs.by_path)
    assert sorted(chart.titles[1:]) == ["gamma=0.1", "gamma=0.3"]


def test_numbers_that_no_float_holds_are_left_out(read: Make, make_record: Make, make_score: Make) -> None:
    curve = Curve(frames=[1, 10**400], values=[1.0, 2.0], standard_errors=None)
    limit = Estimate(1.0, 0.5, 1.5, 0.95, "linear")
    none = make_record("none", make_score(1.0, n=0, infinite=limit))
    runs = read(guided(make_record, make_score, 10**400, 1.0).model_copy(update={"curves": {"fvd": curve}}))
    rows = rows_of(runs)
    assert guidance_charts(FVD, rows, runs.by_path) == []
    (chart,) = curve_charts(FVD, rows, runs.by_path)
    assert [point.x for point in chart.lines[0].points] == [1.0]
    assert count_charts(plain_rows(frame_of(none))) == []


def test_without_two_weights_there_is_no_guidance_plot(read: Make, make_record: Make, make_score: Make) -> None:
    runs = read(
        guided(make_record, make_score, 1.0, 9.0),
        guided(make_record, make_score, 2.0, 9.0, gamma=0.3),
        make_record("x", make_score(3.0)),
    )
    assert guidance_charts(FVD, rows_of(runs), runs.by_path) == []


def test_scores_stand_over_one_over_n_and_the_extrapolation_at_zero(
    read: Make, make_record: Make, make_score: Make
) -> None:
    def score(n: int, value: float, infinite: float | None) -> Any:
        limit = infinite and Estimate(infinite, infinite - 1, infinite + 1, 0.95, "linear")
        real = n // 10  # the number of real clips, too, may differ from point to point
        reference = {"n_reference": real, "signed": {"ref": f"clips/test/{real}"}}
        return make_score(value, n=n, ends=(value - 2, value + 2), infinite=limit, **reference)

    runs = read(
        make_record("a", score(100, 20.0, 10.5)),
        make_record("a", score(1000, 11.0, 10.0)),
        make_record("b", score(1000, 31.0, 30.0)),
        make_record("c", score(1000, 5.0, None)),
        make_record("d", make_score(7.0, n=50, n_reference=50, signed={"ref": "others/50"})),
    )
    (chart,) = count_charts(plain_rows(runs.frame))
    assert [(line.label, [p.x for p in line.points]) for line in chart.lines] == [
        ("a", [0, 1 / 1000, 1 / 100]),
        ("b", [0, 1 / 1000]),
    ]
    assert chart.titles == ["generated clips", "a", "b"]
    assert chart.rows == [
        ["∞", "10.0 [9.0, 11.0]", "30.0 [29.0, 31.0]"],  # of the most clips
        ["1,000", "11.0 [9.0, 13.0]", "31.0 [29.0, 33.0]"],
        ["100", "20.0 [18.0, 22.0]", "-"],
    ]
    text = svg_of(chart)
    for tick in ("∞", "1,000", "100"):
        assert f">{tick}</text>" in text


def test_runs_of_several_days_are_drawn_over_time(read: Make, make_record: Make, make_score: Make) -> None:
    days = [(3, 9.0), (1, 7.0), (2, 8.0), (2, 5.0)]
    records = [
        make_record(f"m{number}", make_score(value), created=datetime(2026, 3, day, tzinfo=UTC))
        for number, (day, value) in enumerate(days)
    ]
    runs = read(*records)
    (chart,) = time_charts(FVD, rows_of(runs), runs.by_path)
    assert chart.titles == ["day", "best of the day", "best so far"]
    assert chart.rows == [
        ["2026-03-01", "7.000", "7.000"],
        ["2026-03-02", "5.000", "5.000"],
        ["2026-03-03", "9.000", "5.000"],
    ]
    assert ">2026-03-01</text>" in svg_of(chart)
    assert time_charts(FVD, rows_of(runs)[:1], runs.by_path) == []


def test_no_more_lines_than_can_be_told_apart(read: Make, make_record: Make, make_score: Make) -> None:
    curve = Curve(frames=[1], values=[1.0], standard_errors=None)
    runs = read(*(make_record(f"m{n}", make_score(1.0 + n), curves={"fvd": curve}) for n in range(12)))
    (chart,) = curve_charts(FVD, rows_of(runs), runs.by_path)
    assert len(chart.lines) == MOST_LINES
    assert chart.note.endswith("The first 8 of 12 lines are drawn.")


@pytest.mark.parametrize(
    "values",
    [
        (1.0, 1e308, -1e308),
        (5e-324, 1.0, 2.0),
        (-5.0, 0.0, 1000.0),
        (0.0, 0.0, 0.0),
        (1e-12, 1e12, 3.0),
        (1e29, -1e29, 1.0),
        (5e-324, -1.0, 1e29),
    ],
)
def test_extreme_numbers_are_drawn_or_left_out(
    values: tuple[float, ...], read: Make, make_record: Make, make_score: Make
) -> None:
    """The records are sound; an interval may also leave out its value."""
    runs = read(
        *(
            make_record(f"m{number}", make_score(value, ends=(value, value + 1), floor=abs(values[1])))
            for number, value in enumerate(values)
        ),
        make_record("outside", make_score(3.0, ends=(5.0, 6.0), floor=abs(values[1]))),
    )
    (chart,) = score_chart(FVD, rows_of(runs))
    assert ">outside</text>" in svg_of(chart)


def test_a_users_own_style_of_plots_changes_nothing(read: Make, make_record: Make, make_score: Make) -> None:
    (chart,) = score_chart(FVD, rows_of(read(*(make_record(n, make_score(1.0, floor=2.0)) for n in "ab"))))
    before = draw(chart)
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "font.family": "serif", "text.usetex": True}):
        assert draw(chart) == before


def test_names_are_drawn_as_they_are(read: Make, make_record: Make, make_score: Make) -> None:
    attacks = ["$\\frac{a}{b}$ $", "<script>1</script>", "a & b", "漢字", "]]>-->"]
    runs = read(*(make_record(name, make_score(1.0 + place)) for place, name in enumerate(attacks)))
    (chart,) = score_chart(FVD, rows_of(runs))
    texts = ["".join(e.itertext()) for e in ET.fromstring(svg_of(chart)).iter("{http://www.w3.org/2000/svg}text")]
    for name in attacks:
        assert name in texts
