"""The fixture `vdm_check`, as pytest runs it in somebody's repository."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from paths import ROOT
from records import build_record, build_score

from vdm_bench.leaderboards.record import write_record

pytest_plugins = ["pytester"]

PLUGIN = "vdm_bench.pytest_plugin"


def written(path: Path, value: float, n: int = 64) -> None:
    score = build_score(value, metric="embedded/fvd", n=n, ends=(value - 1, value + 1))
    write_record(build_record("model", score), path / "run.json")


@pytest.fixture
def runs(pytester: pytest.Pytester) -> Path:
    """Runs with an FVD of 10, 10.5 and 20, and one with another number of clips."""
    for name, value, n in (("base", 10.0, 64), ("near", 10.5, 64), ("worse", 20.0, 64), ("few", 10.0, 32)):
        written(pytester.path / "runs" / name, value, n)
    return pytester.path


@pytest.fixture
def run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, runs: Path
) -> Callable[..., pytest.RunResult]:
    """Run a test with a body of one line."""
    monkeypatch.setenv("COLUMNS", "200")
    installed = any(point.value == PLUGIN for point in entry_points(group="pytest11"))

    def call(body: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(f"def test_fvd(vdm_check):\n    {body}\n")
        plugin = () if installed else ("-p", PLUGIN)
        return pytester.runpytest_subprocess(*plugin, *options)

    return call


def test_a_run_that_is_no_worse_passes(run: Callable[..., pytest.RunResult]) -> None:
    result = run('assert vdm_check("runs/near", baseline="runs/base").exit_code == 0')
    result.assert_outcomes(passed=1)


def test_a_regression_fails_and_says_what_and_by_how_much(run: Callable[..., pytest.RunResult]) -> None:
    result = run('vdm_check("runs/worse", baseline="runs/base", fail_on="embedded/fvd:50%")')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "vdm_check: regression: embedded/fvd",
            "if the change is intended, update the baseline with pytest --vdm-update-baseline",
            "model on bair-prediction: compared with model of 2026-03-04 05:06 UTC in *base*run.json",
            "FAIL   embedded/fvd*10.0*20.0*+10.0*50%   worse",
            "FAILED *::test_fvd - Failed: vdm_check: regression: embedded/fvd",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "pytest_plugin.py" not in result.stdout.str()


def test_a_limit_lets_pass_and_strict_does_not(run: Callable[..., pytest.RunResult]) -> None:
    run('vdm_check("runs/worse", baseline="runs/base", fail_on=["embedded/fvd:10"])').assert_outcomes(passed=1)
    run('vdm_check("runs/near", baseline="runs/base", strict=True)').assert_outcomes(failed=1)


def test_what_cannot_be_compared_fails(run: Callable[..., pytest.RunResult]) -> None:
    result = run('vdm_check("runs/few", baseline="runs/base")')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["vdm_check: undecided: embedded/fvd", "not comparable: embedded/fvd: n 64 v 32"])


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('vdm_check("runs/none", baseline="runs/base")', "vdm_check: *none does not exist; give a run folder*"),
        ('vdm_check("runs/base", baseline="runs/base", fail_on="fvd")', "vdm_check: --fail-on 'fvd' is not*"),
        ('vdm_check("runs/base", baseline="b.json")', "missing: embedded/fvd: *b.json does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(run: Callable[..., pytest.RunResult], body: str, line: str) -> None:
    result = run(body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([line])
    assert "During handling" not in result.stdout.str()


def test_the_option_takes_runs_into_the_baseline(run: Callable[..., pytest.RunResult], runs: Path) -> None:
    body = 'vdm_check("runs/base", baseline="baseline.json")'
    run(body).assert_outcomes(failed=1)
    run(body, "--vdm-update-baseline").assert_outcomes(passed=1)
    assert (runs / "baseline.json").exists()
    run(body).assert_outcomes(passed=1)
    shutil.copy(runs / "runs" / "worse" / "run.json", runs / "runs" / "base" / "run.json")
    run(body).assert_outcomes(failed=1)


def test_paths_start_at_the_root_folder_wherever_pytest_is_called(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., pytest.RunResult], runs: Path
) -> None:
    (runs / "pytest.ini").write_text("[pytest]\n")
    (runs / "below").mkdir()
    monkeypatch.chdir(runs / "below")
    result = run('vdm_check("runs/near", baseline="runs/base")', str(runs))
    result.assert_outcomes(passed=1)


def test_the_plugin_loads_nothing_when_pytest_starts() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import vdm_bench.pytest_plugin\n"
        "print(sorted(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    of_ours = ["vdm_bench", "vdm_bench.pytest_plugin", "vdm_bench.runtime", "vdm_bench.runtime.lazy"]
    assert eval(out) == [*of_ours, "vdm_bench.version"]


def test_the_entry_point_is_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"vdm_bench": PLUGIN}
