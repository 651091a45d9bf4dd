"""From two folders of mixed videos to a LaTeX row: what `score` proposes is run, and works."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vdm_bench.cli import cli
from vdm_bench.cli.proposal import replaced
from vdm_bench.scoring import score as scoring
from vdm_bench.video.write import write_clip

SIZES = ((64, 96), (80, 80), (96, 64), (48, 64))
SCORE = ("score", "my samples", "--reference", "real", "--metric", "embedded/fvd", "--workers", "2")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for folder, frames in (("my samples", 7), ("real", 9)):
        Path(folder).mkdir()
        for number in range(12):
            height, width = SIZES[number % 4]
            clip = random.integers(0, 256, (frames + number % 3, height, width, 3), np.uint8)
            write_clip(Path(folder, f"{number}.mp4"), clip, fps=8)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def proposed(result: Result) -> list[str]:
    """Return the arguments of the command that was printed last."""
    assert result.exit_code == 2
    program, *arguments = shlex.split(result.stderr.splitlines()[-1])
    assert program == "vdm-bench"
    return arguments


def test_a_latex_row_takes_the_command_that_score_proposes() -> None:
    first = call(*SCORE, "--format", "latex")
    assert first.stdout == ""
    assert "the generated clips differ in size and length; the reference clips differ in size" in first.stderr
    assert "     3  96x64, 7 to 9 frames at 8 fps" in first.stderr
    command = proposed(first)
    fit = ["--frames", "7", "--size", "48", "--resize", "antialias", "--aspect", "center-crop"]
    assert command == [*SCORE, "--format", "latex", *fit]
    second = call(*command)
    assert second.exit_code == 0, second.output
    assert "& my samples &" in second.stdout
    assert "the record is not kept" in second.stderr
    kept = call(*command[:-8], "--out", "runs/mine", *fit)
    assert "the record is not kept" not in kept.stderr
    assert call("report", "runs/mine", "--format", "latex").stdout == second.stdout


def test_options_that_do_not_fit_are_replaced_in_the_proposal() -> None:
    command = proposed(call(*SCORE, "--frames=20", "--size", "32", "--resize", "half-pixel"))
    assert command == [*SCORE, "--size", "32", "--resize", "half-pixel", "--frames", "7"]
    assert call(*command).exit_code == 0


def test_broken_and_very_short_videos_are_skipped_in_the_proposal() -> None:
    whole = Path("real/0.mp4").read_bytes()
    Path("real/0.mp4").write_bytes(whole[: len(whole) // 2])
    write_clip(Path("real/short.mp4"), np.zeros((2, 64, 64, 3), np.uint8), fps=8)
    refused = call(*SCORE)
    assert "1  cannot be read: real/0.mp4: truncated" in refused.stderr
    assert "(--skip-broken leaves out 2 that are too short or cannot be read)" in refused.stderr
    command = proposed(refused)
    assert command[-1] == "--skip-broken"
    result = call(*command)
    assert result.exit_code == 0, result.output


def test_explain_proposes_too() -> None:
    arguments = ("explain", "my samples", "--reference", "real", "--from", "embedded/fvd", "--to", "embedded/fvd")
    assert call(*proposed(call(*arguments))).exit_code == 0


@pytest.mark.usefixtures("settled")
def test_a_stored_score_reads_no_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [*proposed(call(*SCORE)), "--out", "runs/mine"]
    first = call(*command)
    assert first.exit_code == 0, first.output

    def fail(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(scoring, "read_headers", fail)
    again = call(*command)
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert call(*command, "--recheck").exit_code != 0


@pytest.mark.usefixtures("settled")
def test_a_plan_says_what_would_be_computed_and_writes_nothing() -> None:
    command = [*proposed(call(*SCORE)), "--out", "runs/mine"]
    plan = call(*command, "--plan")
    assert plan.exit_code == 0, plan.output
    lines = plan.stdout.splitlines()
    assert lines[:5] == [
        "a plan: nothing is computed or written",
        "generated: 12 clips of 7x48x48 from my samples",
        "reference: 12 clips of 7x48x48 from real",
        "metrics: embedded/fvd",
        f"networks: {lines[4].removeprefix('networks: ')}",
    ]
    assert lines[4].startswith("networks: embedded@")
    assert lines[5].startswith("time: about ")
    assert lines[6:] == ["results: runs/mine"]
    assert not Path("runs").exists()
    assert call(*command).exit_code == 0
    assert "from real, features of 12 are stored" in call(*command, "--plan").stdout


def test_a_plan_names_all_missing_weights() -> None:
    command = proposed(call(*SCORE, "--metric", "fvd", "--metric", "c3d/is"))
    lines = call(*command, "--plan").stdout.splitlines()
    assert "weights to download: i3d-k400, c3d-ucf101" in lines
    assert lines[-2].endswith("to read the clips; the networks need their weights to be timed")
    assert lines[-1] == "results: nothing is kept; --out DIR keeps the record and the features"


def test_json_and_a_table_format_exclude_each_other() -> None:
    result = call(*SCORE, "--json", "--format", "latex")
    assert (result.exit_code, "leave out --format" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a b", "--frames", "9"], ["a b", "--frames", "4", "--skip-broken"]),
        (["--frames=9", "a"], ["a", "--frames", "4", "--skip-broken"]),
        (["--skip-broken", "a"], ["a", "--frames", "4", "--skip-broken"]),
        (["--json", "--", "--frames"], ["--json", "--frames", "4", "--skip-broken", "--", "--frames"]),
    ],
)
def test_replaced_options_are_given_once(arguments: list[str], expected: list[str]) -> None:
    assert replaced(arguments, {"--frames": "4", "--skip-broken": None}) == expected
