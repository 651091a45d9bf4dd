"""`vdm-bench history`: the scores of a baseline over the commits of its file."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.checks.history import read_snapshots, score_histories
from vdm_bench.leaderboards.tables.history import format_history

Make = Callable[..., Any]


def git(folder: Path, *arguments: str, date: str = "2026-03-04T05:06:07+00:00") -> None:
    names = {f"GIT_{who}_{what}": "test@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(folder), **names, **dates}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=environment)


@pytest.fixture
def commit(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that commits runs, or bytes, as `sub/baseline.json`, a day later each time."""
    git(tmp_path, "init", "-q")
    path = tmp_path / "sub" / "baseline.json"
    path.parent.mkdir()
    days = iter(range(1, 20))

    def make(message: str, *runs: Any, data: bytes | None = None) -> Path:
        if data is None:
            Baseline(path, {}).updated(runs).write()
        else:
            path.write_bytes(data)
        git(tmp_path, "add", "sub/baseline.json")
        git(tmp_path, "commit", "-q", "-m", message, date=f"2026-03-{next(days):02}T05:06:07+00:00")
        return path

    return make


def told(path: Path) -> tuple[list[Any], list[str]]:
    notes: list[str] = []
    return score_histories(read_snapshots(path, note=notes.append)), notes


def test_a_score_has_a_point_for_each_commit_that_changed_it(
    commit: Callable[..., Path], make_record: Make, make_score: Make
) -> None:
    first = make_score(50.0, ends=(48.0, 52.0))
    commit("one", make_record("a", first))
    commit("two", make_record("a", first), make_record("b", make_score(7.0)))
    commit("three", make_record("a", make_score(60.0, ends=(58.0, 62.0))), make_record("b", make_score(7.0)))
    path = commit("four", make_record("a", make_score(61.0, n=64)), make_record("b", make_score(7.0)))
    (a, b), notes = told(path)
    assert [(point.snapshot.subject, point.score.value) for point in a.points] == [
        ("one", 50.0),
        ("three", 60.0),
        ("four", 61.0),
    ]
    assert [point.compared and point.compared.verdict for point in a.points] == [None, "worse", "not comparable"]
    assert [(point.snapshot.subject, point.score.value) for point in b.points] == [("two", 7.0)]
    assert notes == []
    lines = format_history([a, b]).splitlines()
    assert lines[0] == "a on bair-prediction: fvd ↓"
    assert [line.split()[0] for line in lines[4:7]] == ["2026-03-01", "2026-03-03", "2026-03-04"]
    assert lines[5].split()[2:] == ["60.0", "[58.0,", "62.0]", "+10.0", "worse", "three"]
    assert "not comparable: fvd: n 256 v 64" in lines
    assert "b on bair-prediction: fvd ↓" in lines


def test_what_is_not_committed_comes_last(
    commit: Callable[..., Path], make_record: Make, make_score: Make
) -> None:
    path = commit("one", make_record("a", make_score(50.0)))
    Baseline(path, {}).updated([make_record("a", make_score(55.0))]).write()
    ((history,), _) = told(path)
    assert [point.snapshot.commit for point in history.points][1:] == ["uncommitted"]
    assert history.latest.value == 55.0


def test_a_commit_that_cannot_be_read_is_left_out_with_a_note(
    commit: Callable[..., Path], make_record: Make, make_score: Make
) -> None:
    commit("one", make_record("a", make_score(50.0)))
    commit("conflict", data=b"<<<<<<< HEAD\n")
    path = commit("three", make_record("a", make_score(51.0)))
    ((history,), (note,)) = told(path)
    assert [point.snapshot.subject for point in history.points] == ["one", "three"]
    assert note.startswith("left out commit ")
    assert "is not JSON" in note


def test_the_command_prints_tables_json_and_a_plot(
    commit: Callable[..., Path], make_record: Make, make_score: Make, tmp_path: Path
) -> None:
    commit("one\x1b[31m & more " + 50 * "x", make_record("a", make_score(50.0, ends=(48.0, 52.0))))
    path = commit("two", make_record("a", make_score(None, status="NaN")))
    shown = CliRunner().invoke(cli, ["history", str(path), "--plot", str(tmp_path / "plot.svg")])
    assert (shown.exit_code, shown.stderr) == (0, f"wrote {tmp_path / 'plot.svg'}\n")
    assert "\x1b" not in shown.stdout
    assert "..." in shown.stdout
    assert "<svg" in (tmp_path / "plot.svg").read_text("utf-8")
    found = json.loads(CliRunner().invoke(cli, ["history", str(path), "--json"]).stdout)
    ((first, second),) = [history["points"] for history in found["histories"]]
    assert (first["value"], first["low"], first["verdict"]) == (50.0, 48.0, None)
    assert (second["value"], second["status"], second["verdict"]) == (None, "NaN", "not comparable")


def test_files_without_a_history_are_refused(tmp_path: Path, commit: Callable[..., Path]) -> None:
    commit("one", data=b"{}")
    with pytest.raises(InputError, match=r"other\.json has no commits; add and commit it"):
        read_snapshots(tmp_path / "sub" / "other.json", note=print)
    with pytest.raises(InputError, match=r"git cannot read the history of .*; give a file in a git repository"):
        read_snapshots(tmp_path / "nowhere" / "b.json", note=print)
    result = CliRunner().invoke(cli, ["history", str(tmp_path / "sub/baseline.json"), "--plot", "x.txt"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "x.txt is not a plot file; name one that ends in .png, .svg, .pdf" in result.stderr
