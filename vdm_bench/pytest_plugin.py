"""The pytest plugin: the fixture `vdm_check` compares a run with a baseline in your own tests.

pytest loads this module whenever it starts, so it imports nothing else of the package before the fixture is used.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from vdm_bench.leaderboards.checks.check import CheckResult

__all__ = ["VdmCheck", "vdm_check"]

UPDATE = "--vdm-update-baseline"


class VdmCheck(Protocol):
    """The type of the fixture `vdm_check`."""

    def __call__(
        self,
        run: str | Path,
        *,
        baseline: str | Path,
        fail_on: str | Sequence[str] = (),
        strict: bool = False,
    ) -> "CheckResult":
        """Fail the test if a run is worse than its baseline, cannot be compared, or has none.

        Args:
            run: run folder, folder of runs, or `run.json`; relative paths start at pytest's root folder.
            baseline: baseline file or run; relative paths likewise.
            fail_on: rules such as `fvd:5%`; without any, no metric may get worse by more than noise.
            strict: also fail on changes within noise.

        Returns:
            The result of the comparison.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that updates baselines."""
    parser.getgroup("vdm-bench").addoption(
        UPDATE, action="store_true", help="store the runs that vdm_check is called with in their baselines"
    )


@pytest.fixture
def vdm_check(pytestconfig: pytest.Config) -> VdmCheck:
    """Compare a run with a baseline: `vdm_check("runs/mine", baseline="baseline.json", fail_on="fvd:5%")`."""

    def check(
        run: str | Path,
        *,
        baseline: str | Path,
        fail_on: str | Sequence[str] = (),
        strict: bool = False,
    ) -> "CheckResult":
        from vdm_bench.errors import VdmBenchError
        from vdm_bench.leaderboards.checks.check import check_runs, update_baseline
        from vdm_bench.leaderboards.tables.comparisons import format_check, format_closing

        run, baseline = pytestconfig.rootpath / run, pytestconfig.rootpath / baseline
        rules = [fail_on] if isinstance(fail_on, str) else fail_on
        try:
            if pytestconfig.getoption(UPDATE):
                update_baseline(run, baseline)
            result = check_runs(run, baseline, rules, strict=strict)
        except VdmBenchError as error:
            message = str(error)
        else:
            if not result.exit_code:
                return result
            message = f"{format_closing(result, f'pytest {UPDATE}')}\n{format_check(result)}"
        pytest.fail(f"vdm_check: {message.strip()}", pytrace=False)

    return check
