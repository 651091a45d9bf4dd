"""Check runs against a baseline: a score fails if it got worse by more than its limit, and by more than noise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vdm_bench.errors import InputError, NotComparableError
from vdm_bench.leaderboards.checks.baseline import Baseline, BaselineChange, title_of
from vdm_bench.leaderboards.checks.compare import Comparison, Verdict, compare_scores
from vdm_bench.leaderboards.checks.tolerances import NO_WORSE, ToleranceRule, check_patterns
from vdm_bench.leaderboards.record import Record, read_record
from vdm_bench.leaderboards.store import find_records
from vdm_bench.metrics.score import Score
from vdm_bench.runtime.files import is_stream
from vdm_bench.runtime.locks import hold_file

FINE = 0
REGRESSION = 1
NOT_COMPARABLE = NotComparableError.exit_code

Mark = Verdict | Literal["missing"]
Outcome = Literal["passed", "failed", "no answer", "not gated"]


@dataclass(frozen=True)
class Finding:
    """The result of the check for one metric.

    Attributes:
        metric: name of the metric.
        mark: the verdict on the run, or `missing` if the run or the baseline lacks the score.
        rules: rules that cover the metric; if there are none, the metric is shown but not checked.
        broken: those of the rules that the run breaks.
        compared: comparison of the two scores, or None if one is missing.
        before: the baseline's score, or None.
        now: the run's score, or None.
        reason: why the scores cannot be compared; empty if they can.
    """

    metric: str
    mark: Mark
    rules: tuple[ToleranceRule, ...]
    broken: tuple[ToleranceRule, ...] = ()
    compared: Comparison | None = None
    before: Score | None = None
    now: Score | None = None
    reason: str = ""

    @property
    def outcome(self) -> Outcome:
        """What the finding means for the check; only `failed` and `no answer` make it fail."""
        if not self.rules:
            return "not gated"
        if self.broken:
            return "failed"
        return "no answer" if self.mark in ("missing", "not comparable") else "passed"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON types; `first` is the baseline, `second` the run."""
        return {
            "metric": self.metric,
            "outcome": self.outcome,
            "mark": self.mark,
            "rules": [str(rule) for rule in self.rules],
            "broken": [str(rule) for rule in self.broken],
            "baseline_value": self.before and self.before.value,
            "run_value": self.now and self.now.value,
            "compared": self.compared and self.compared.to_dict(),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class RunCheck:
    """The result of the check for one run.

    Attributes:
        path: path of the run's record.
        run: the run.
        baseline: the run that it is compared with, or None.
        findings: one per metric of the two runs.
    """

    path: str
    run: Record
    baseline: Record | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class CheckResult:
    """The result of the check for all runs.

    Attributes:
        baseline: path of the baseline.
        strict: whether changes within noise count.
        runs: results in the order of the runs.
    """

    baseline: str
    strict: bool
    runs: tuple[RunCheck, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all runs."""
        return tuple(finding for run in self.runs for finding in run.findings)

    @property
    def exit_code(self) -> int:
        """0: no regression; 1: regression; 3: a checked score, or every score, cannot be compared."""
        outcomes = {finding.outcome for finding in self.findings}
        if "failed" in outcomes:
            return REGRESSION
        return FINE if "passed" in outcomes and "no answer" not in outcomes else NOT_COMPARABLE

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        runs = [
            {
                "path": run.path,
                "name": run.run.name,
                "protocol": run.run.protocol and run.run.protocol.name,
                "baseline": run.baseline and run.baseline.name,
                "findings": [finding.to_dict() for finding in run.findings],
            }
            for run in self.runs
        ]
        return {"baseline": self.baseline, "strict": self.strict, "exit_code": self.exit_code, "runs": runs}


def check_records(
    runs: Sequence[tuple[str, Record]],
    baseline: Baseline,
    rules: Sequence[ToleranceRule],
    *,
    strict: bool = False,
) -> CheckResult:
    """Compare runs with a baseline.

    Args:
        runs: path and record of each run.
        baseline: the runs to compare them with.
        rules: how much worse metrics may get; a metric without a rule is shown but not checked. Without any rule,
            no metric may get worse by more than noise.
        strict: whether changes within noise count, too.

    Raises:
        InputError: a rule covers no metric.
    """
    pairs = [(path, run, baseline.run_for(run)) for path, run in runs]
    check_patterns(
        rules, [score.metric for _, *pair in pairs for record in pair if record for score in record.scores]
    )
    chosen = tuple(rules) or NO_WORSE
    checks = [
        RunCheck(path, run, old, tuple(_findings(run, old, baseline, chosen, strict))) for path, run, old in pairs
    ]
    return CheckResult(str(baseline.path), strict, tuple(checks))


def _findings(
    run: Record,
    old: Record | None,
    baseline: Baseline,
    rules: Sequence[ToleranceRule],
    strict: bool,
) -> Iterator[Finding]:
    known = {score.metric: score for score in old.scores} if old else {}
    new = {score.metric: score for score in run.scores}
    for metric in dict.fromkeys([*new, *known]):
        covering = tuple(rule for rule in rules if rule.covers(metric))
        before, now = known.get(metric), new.get(metric)
        if before and now:
            yield _compared(before, now, covering, strict)
        else:
            reason = _no_baseline(baseline, run, old) if now else "the run has no such score"
            yield Finding(metric, "missing", covering, before=before, now=now, reason=reason)


def _no_baseline(baseline: Baseline, run: Record, old: Record | None) -> str:
    if not baseline.exists:
        return f"{baseline.path} does not exist"
    if old:
        return "the baseline has no such score"
    known = ", ".join(map(title_of, baseline.runs.values())) or "no runs"
    return f"the baseline has no run {title_of(run)}; it has {known}"


def _compared(before: Score, now: Score, covering: tuple[ToleranceRule, ...], strict: bool) -> Finding:
    found = compare_scores(before, now)
    broken: tuple[ToleranceRule, ...] = ()
    if found.change is not None:
        broken = tuple(rule for rule in covering if rule.broken_by(found, strict=strict))
    return Finding(now.metric, found.verdict, covering, broken, found, before, now, found.reason)


def check_runs(run: Path, baseline: Path, fail_on: Sequence[str] = (), *, strict: bool = False) -> CheckResult:
    """Compare a run, or all runs in a folder, with a baseline.

    Args:
        run: run folder, folder of run folders, or `run.json`.
        baseline: baseline file, or a run folder or `run.json` in its place.
        fail_on: rules such as `fvd:5%`; without any, no metric may get worse by more than noise.
        strict: count changes within noise, too.

    Raises:
        InputError: a file or rule cannot be used.
    """
    rules = [ToleranceRule.parse(text) for text in fail_on]
    return check_records(_runs(run), Baseline.read(baseline), rules, strict=strict)


def update_baseline(
    run: Path, baseline: Path, *, only_new: bool = False, note: Callable[[str], None] | None = None
) -> list[BaselineChange]:
    """Store a run, or all runs in a folder, in a baseline file, which is created if it does not exist.

    Concurrent updates of the file wait for each other, so that no run is lost.

    Args:
        run: run folder, folder of run folders, or `run.json`.
        baseline: baseline file.
        only_new: whether to store only runs that the baseline lacks.
        note: called with a sentence if another process is waited for.

    Returns:
        The runs that were stored; none if the file already has their scores.

    Raises:
        InputError: a file cannot be used.
    """
    refuse_stream(baseline)
    with hold_file(baseline, "check", way_out="wait for it, or choose another --baseline", note=note):
        old = Baseline.read(baseline)
        records = [record for _, record in _runs(run)]
        changes = old.changes(records, only_new=only_new)
        if changes or not old.exists or old.single:
            old.updated(records, only_new=only_new).write()
        return changes


def refuse_stream(baseline: Path) -> None:
    """Refuse to update a baseline that is a pipe or a device, because reading it could block.

    Raises:
        InputError: it is a pipe or a device.
    """
    if is_stream(baseline):
        raise InputError(
            f"{baseline} is a pipe or a device and cannot store a baseline; give a file with --baseline"
        )


def _runs(run: Path) -> list[tuple[str, Record]]:
    return [(str(path), read_record(path)) for path in find_records(run)]
