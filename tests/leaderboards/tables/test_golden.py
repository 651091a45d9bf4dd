"""Every format against a file that a person has read, `tests/golden/tables/<what>.<format>`.

Where a change of the files is meant, write them again by

    WRITE_GOLDEN=1 pytest tests/leaderboards/tables/test_golden.py

and read what `git diff tests/golden/tables` says.
"""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from paths import TESTS
from records import with_reasons

from vdm_bench.leaderboards.published import PublishedRow
from vdm_bench.leaderboards.ranking import Board, make_boards
from vdm_bench.leaderboards.record import ProtocolInfo, Record, SkippedClip, write_record
from vdm_bench.leaderboards.report import PageOptions, read_runs, write_report
from vdm_bench.leaderboards.store import load_runs
from vdm_bench.leaderboards.tables.formats import format_boards, format_tables
from vdm_bench.metrics.score import Estimate

Make = Callable[..., Any]
GOLDEN = TESTS / "golden" / "tables"
FORMATS = {"text": "txt", "markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}


def row(method: str, text: str, group: str = "", **fields: Any) -> PublishedRow:
    given = {"spread": None, "higher_is_better": False, "caveats": (), "source": "arXiv:2204.03458"}
    names = {"table": "2", "method": method, "protocol": "bair-prediction", "metric": "fvd", "group": group}
    return PublishedRow(**{**names, **given, "value": float(text), "text": text, **fields})


PUBLISHED = (
    row("good", "60.50"),
    row("real data", "1.5", caveats=("real clips",)),
    row("bad", "99", spread=0.5, spread_text="0.50", source="arXiv:1", table="later"),
    row("x", "9", "128x128"),
    row("both", "20.5", "private, training set", half="training set"),
    row("both", "21.25", "private, validation set", half="validation set"),
)


@pytest.fixture(scope="module")
def records(make_record: Make, make_score: Make, make_counts: Make) -> list[Record]:
    """Ties, a missing value, footnotes, groups that are not comparable, names that need escapes."""
    up = {"metric": "is", "higher_is_better": True, "n_reference": 0}
    infinite = Estimate(118.25, 116.5, 120.0, 0.95, "linear")
    skipped = [SkippedClip(source="a", reason="b")]
    return [
        make_record("slow_net", make_score(123.456, ends=(120.1, 126.7), floor=3.1, marks=("lossy", "m; n"))),
        make_record(
            "best | net",
            replace(make_score(121.1, ends=(119.0, 123.3), floor=3.1, marks=("lossy",)), infinite=infinite),
            make_score(12.345, **up),
            departures=("64 of 2048 clips",),
        ),
        make_record("near", make_score(122.0, ends=(120.0, 124.0)), departures=("64 of 2048 clips",)),
        make_record("equal", make_score(121.1, ends=(119.0, 123.3), floor=3.1)),
        make_record("broken", make_score(None, floor=3.1, status="NaN features")),
        make_record("far", make_score(500.0, ends=(400.0, 600.0), level=0.9, n_reference=128, floor=0.1 + 0.2)),
        make_record(
            "small",
            make_score(99.0, n=64, signed={"prec": "bf16"}),
            reference=make_counts(expected=258, skipped=skipped * 2),
            generated=make_counts(expected=257, skipped=skipped),
        ),
        make_record("free", make_score(600.0), protocol=None),
        make_record("other", make_score(700.0), protocol=ProtocolInfo(name="mine", digest="1", departures=[])),
    ]


@pytest.fixture(scope="module")
def folder(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    for number, record in enumerate(records):
        write_record(record, folder / str(number) / "run.json")
    return folder


def departures_only(run: Any) -> str:
    return "it departs" if run["departures"] else ""


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    loaded = load_runs(folder)
    path = loaded["path"].str.replace(str(folder), "runs").astype("string")
    return loaded.assign(path=path, verified=loaded["name"] == "equal")


@pytest.fixture(scope="module")
def boards(frame: pd.DataFrame) -> list[Board]:
    return make_boards(PUBLISHED, with_reasons(frame, departures_only))


def tables_of_page(folder: Path, page: Path) -> str:
    """The tables of a page with their headings, and the notes; the digests of the runs are left out."""
    runs = read_runs([folder])
    runs = replace(runs, frame=with_reasons(runs.frame, departures_only))
    write_report(runs, page, PageOptions())
    found = re.findall(
        r"<h3 id=\"table-.*?</table>|<ol class=\"notes\">.*?</ul>", page.read_text("utf-8"), re.DOTALL
    )
    return re.sub(r"#run-[0-9a-f]{12}", "#run", "\n".join(found)) + "\n"


@pytest.mark.parametrize("name", [f"{what}.{ext}" for what in ("scores", "boards") for ext in FORMATS.values()])
def test_tables_are_those_of_the_golden_file(name: str, frame: pd.DataFrame, boards: list[Board]) -> None:
    fmt: Any = next(fmt for fmt, ext in FORMATS.items() if name.endswith(ext))
    compare(name, format_tables(frame, fmt) if name.startswith("scores") else format_boards(boards, fmt))


def test_the_tables_of_a_page_are_those_of_the_golden_file(folder: Path, tmp_path: Path) -> None:
    compare("page.html", tables_of_page(folder, tmp_path / "page.html"))


def compare(name: str, found: str) -> None:
    path = GOLDEN / name
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(found, "utf-8", newline="\n")
        pytest.skip(f"wrote {path}; read what git diff says of it")
    assert found == path.read_text("utf-8"), f"{name} has changed; if that is meant: {__doc__}"
