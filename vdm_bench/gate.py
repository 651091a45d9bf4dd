"""The gate: runs held against a baseline, for the command line and for tests."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.checks.baseline import Baseline
from vdm_bench.leaderboards.checks.check import CheckResult, check_runs
from vdm_bench.leaderboards.checks.tolerances import Rule
from vdm_bench.leaderboards.record import Record, read_record
from vdm_bench.leaderboards.store import find_records
from vdm_bench.metrics.jackknife import score_difference
from vdm_bench.runtime.files import is_stream
from vdm_bench.runtime.locks import hold_file


def check(run: Path, baseline: Path, fail_on: Sequence[str] = (), *, strict: bool = False) -> CheckResult:
    """Hold a run, or all runs of a folder, against a baseline.

    Args:
        run: run folder, folder of such, or `run.json`.
        baseline: baseline file, or a run folder or `run.json` in its place.
        fail_on: rules such as `fvd:5%`; without any, no metric may get worse by more than noise.
        strict: count changes within noise, too.

    Raises:
        InputError: a file or rule cannot be used.
    """
    rules = [Rule.parse(text) for text in fail_on]
    return check_runs(_runs(run), Baseline.read(baseline), rules, score_difference, strict=strict)


def update(run: Path, baseline: Path, *, note: Callable[[str], None] | None = None) -> bool:
    """Put a run, or all runs of a folder, into a baseline file; make the file if there is none.

    Others that update it at the same time are waited for, so that nobody's runs are lost.

    Args:
        run: run folder, folder of such, or `run.json`.
        baseline: baseline file.
        note: told, in a sentence, of whom is waited for.

    Returns:
        Whether the file was changed; it is not if it has these scores already.

    Raises:
        InputError: a file cannot be used.
    """
    refuse_stream(baseline)
    with hold_file(baseline, "check", way_out="wait for it, or choose another --baseline", note=note):
        old = Baseline.read(baseline)
        new = old.updated(record for _, record in _runs(run))
        if old.exists and new.runs == old.runs and not old.single:
            return False
        new.write()
        return True


def refuse_stream(baseline: Path) -> None:
    """Refuse a pipe or a device in the place of a baseline that is to be updated, before it is waited for.

    Raises:
        InputError: it is one.
    """
    if is_stream(baseline):
        raise InputError(
            f"{baseline} is a pipe or a device, and no baseline can be kept there; give a file by --baseline"
        )


def _runs(run: Path) -> list[tuple[str, Record]]:
    return [(str(path), read_record(path)) for path in find_records(run)]
