"""Own runs among published rows: ranked together where nothing speaks against it, and apart with the reason."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from records import with_reasons

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.published import PublishedRow, published_rows
from vdm_bench.leaderboards.ranking import BOARD_COLUMNS, Board, make_boards
from vdm_bench.leaderboards.record import ProtocolInfo
from vdm_bench.leaderboards.store import load_runs
from vdm_bench.leaderboards.tables.formats import format_boards

Make = Callable[..., Any]


def row(method: str, value: str, group: str = "", **fields: Any) -> PublishedRow:
    given = {
        "spread": None,
        "higher_is_better": False,
        "caveats": (),
        "source": "arXiv:2204.03458",
        "text": value,
    }
    names = {"table": "2", "method": method, "protocol": "bair-prediction", "metric": "fvd"}
    return PublishedRow(**{**names, **given, "group": group, "value": float(value), **fields})


ROWS = (
    row("good", "60.50"),
    row("real data", "1.5", caveats=("real clips",)),
    row("bad", "99"),
    row("x", "9", "128x128"),
)


def departures_only(run: Mapping[str, Any]) -> str:
    return "it departs" if run["departures"] else ""


@pytest.fixture(scope="session")
def frame(make_frame: Make, make_record: Make, make_score: Make) -> pd.DataFrame:
    bf16 = {"prec": "bf16"}
    return make_frame(
        make_record("mine", make_score(70.0, ends=(65.0, 75.0), marks=("lossy",))),
        make_record("also mine", make_score(71.0, ends=(66.0, 76.0))),
        make_record("few", make_score(50.0, n=64), departures=("64 of 256 clips",)),
        make_record("half", make_score(40.0, ends=(39.0, 41.0), signed=bf16)),
        make_record("free", make_score(3.0), protocol=None),
        make_record("other", make_score(4.0), protocol=ProtocolInfo(name="mine", digest="1", departures=[])),
    )


@pytest.fixture(scope="session")
def boards(frame: pd.DataFrame) -> list[Board]:
    return make_boards(ROWS, with_reasons(frame, departures_only))


def names(board: Board) -> list[tuple[Any, str]]:
    ranks = [None if pd.isna(rank) else int(rank) for rank in board.rows["rank"]]
    return list(zip(ranks, board.rows["name"], strict=True))


def test_runs_stand_among_published_rows_that_follow_the_protocol(boards: list[Board]) -> None:
    assert names(boards[0]) == [(1, "good"), (2, "mine"), (3, "also mine"), (4, "bad"), (None, "real data")]
    assert boards[0].rows["mark"].fillna("").tolist() == ["best", "", "", "", ""]


def test_rows_of_unlike_protocol_are_in_a_group_of_their_own(boards: list[Board]) -> None:
    assert (boards[1].group, names(boards[1])) == ("128x128", [(1, "x")])


def test_runs_that_depart_or_have_another_signature_are_apart(boards: list[Board]) -> None:
    apart = {board.rows["name"][0]: board for board in boards[2:4]}
    assert apart["few"].rows["apart"][0] == "it departs"
    assert apart["half"].rows["apart"][0].startswith("its signature is not that of the own runs among them")
    assert all(board.apart is not None and names(board)[0][0] == 1 for board in apart.values())


def test_runs_of_protocols_without_published_rows_come_last(boards: list[Board]) -> None:
    assert [(board.protocol, names(board)) for board in boards[4:]] == [
        ("mine", [(1, "other")]),
        ("", [(1, "free")]),
    ]
    assert [board.rows["apart"][0] for board in boards[4:]] == ["", ""]


def test_of_two_equally_common_signatures_the_latest_is_ranked(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    late = datetime(2027, 1, 1, tzinfo=UTC)
    frame = make_frame(
        make_record("old", make_score(70.0)),
        make_record("new", make_score(80.0, signed={"prec": "bf16"}), created=late),
    )
    boards = make_boards(ROWS, with_reasons(frame))
    assert names(boards[0]) == [(1, "good"), (2, "new"), (3, "bad"), (None, "real data")]
    assert boards[2].rows["name"].tolist() == ["old"]


def test_a_better_run_is_the_best_and_a_published_row_is_no_tie(
    make_frame: Make, make_record: Make, make_score: Make
) -> None:
    frame = make_frame(
        make_record("a", make_score(50.0, ends=(40.0, 70.0))),
        make_record("b", make_score(65.0, ends=(60.0, 70.0))),
    )
    rows = make_boards(ROWS, with_reasons(frame))[0].rows
    assert list(zip(rows["name"], rows["mark"].fillna(""), strict=True))[:3] == [
        ("a", "best"), ("good", ""), ("b", "tie"),
    ]  # fmt: skip


def test_a_frame_that_does_not_say_who_is_apart_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"no column `apart`.*with_apart"):
        make_boards(ROWS, frame)


def test_json_and_csv_hold_every_row_and_column(boards: list[Board]) -> None:
    content = json.loads(format_boards(boards, "json"))["boards"]
    assert [board["apart"] for board in content] == [False, False, True, True, True, True]
    assert list(content[0]["rows"][0]) == list(BOARD_COLUMNS)
    first, own = content[0]["rows"][:2]
    assert (first["origin"], first["text"], first["created"], first["digest"]) == (
        "published",
        "60.50",
        None,
        None,
    )
    assert (own["origin"], own["value"], own["marks"], own["n_generated"]) == ("run", 70.0, ["lossy"], 256)
    lines = format_boards(boards, "csv").splitlines()
    assert len(lines) == 1 + sum(len(board["rows"]) for board in content)
    assert lines[0] == ",".join(BOARD_COLUMNS)
    assert "NaT" not in "".join(lines)


def test_in_latex_the_best_is_bold_also_where_a_half_ranks() -> None:
    table = format_boards(make_boards(published_rows("text-video"), with_reasons(load_runs([]))), "latex")
    first = table.split(r"\midrule")[1].splitlines()[1]
    assert r"41.65 & \textbf{43.70} & [1] table 5" in first


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="'html' is not a format"):
        format_boards([], "html")  # type: ignore[arg-type]


def test_nothing_to_show() -> None:
    assert format_boards(make_boards([], with_reasons(load_runs([]))), "text") == "no scores\n"
