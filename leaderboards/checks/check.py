"""The check of runs against a baseline: what got worse by more than is allowed, and by more than noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vdm_bench.errors import NotComparableError
from vdm_bench.leaderboards.checks.baseline import Baseline, title_of
from vdm_bench.leaderboards.checks.compare import Comparison, Differ, Verdict, compare_scores
from vdm_bench.leaderboards.checks.tolerances import NO_WORSE, Rule, check_patterns
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.score import Score

FINE = 0
REGRESSION = 1
NOT_COMPARABLE = NotComparableError.exit_code

Mark = Verdict | Literal["missing"]
Outcome = Literal["passed", "failed", "no answer", "not gated"]


@dataclass(frozen=True)
class Finding:
    """What the check says of one metric.

    Attributes:
        metric: name of the recipe.
        mark: the verdict about the run, or `missing` where it or the baseline has no such score.
        rules: that cover the metric; none where it is shown alone.
        broken: those of them that the run breaks.
        compared: the two scores, unless one is missing.
        before: the baseline's score, or None.
        now: the run's score, or None.
        reason: why there is no answer.
    """

    metric: str
    mark: Mark
    rules: tuple[Rule, ...]
    broken: tuple[Rule, ...] = ()
    compared: Comparison | None = None
    before: Score | None = None
    now: Score | None = None
    reason: str = ""

    @property
    def outcome(self) -> Outcome:
        """What follows from it."""
        if not self.rules:
            return "not gated"
        if self.broken:
            return "failed"
        return "no answer" if self.mark in ("missing", "not comparable") else "passed"

    def to_dict(self) -> dict[str, Any]:
        """Give the finding as plain JSON types; `first` is the baseline, `second` the run."""
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
    """What the check says of one run.

    Attributes:
        path: the record, as it was found.
        run: the run.
        baseline: the run it is held against, or None.
        findings: one a metric of either.
    """

    path: str
    run: Record
    baseline: Record | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class CheckResult:
    """What the check says of all runs.

    Attributes:
        baseline: path of the baseline.
        strict: whether changes within noise count.
        runs: in the order given.
    """

    baseline: str
    strict: bool
    runs: tuple[RunCheck, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of all runs."""
        return tuple(finding for run in self.runs for finding in run.findings)

    @property
    def exit_code(self) -> int:
        """0 fine, 1 a regression, 3 a gated score that cannot be compared, or nothing to compare."""
        outcomes = {finding.outcome for finding in self.findings}
        if "failed" in outcomes:
            return REGRESSION
        return FINE if "passed" in outcomes and "no answer" not in outcomes else NOT_COMPARABLE

    def to_dict(self) -> dict[str, Any]:
        """Give the result as plain JSON types."""
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


def check_runs(
    runs: Sequence[tuple[str, Record]],
    baseline: Baseline,
    rules: Sequence[Rule],
    difference: Differ,
    *,
    strict: bool = False,
) -> CheckResult:
    """Hold runs against a baseline.

    Args:
        runs: the path of each, and its record.
        baseline: the runs to hold them against.
        rules: what may not get worse, and by how much; a metric that no rule covers is shown alone. Without any
            rule no metric may get worse by more than noise.
        difference: see `compare_scores`.
        strict: count changes within noise, too.

    Raises:
        InputError: a rule covers no metric.
    """
    pairs = [(path, run, baseline.run_for(run)) for path, run in runs]
    check_patterns(
        rules, [score.metric for _, *pair in pairs for record in pair if record for score in record.scores]
    )
    chosen = tuple(rules) or NO_WORSE
    checks = [
        RunCheck(path, run, old, tuple(_findings(run, old, baseline, chosen, difference, strict)))
        for path, run, old in pairs
    ]
    return CheckResult(str(baseline.path), strict, tuple(checks))


def _findings(
    run: Record,
    old: Record | None,
    baseline: Baseline,
    rules: Sequence[Rule],
    difference: Differ,
    strict: bool,
) -> Iterator[Finding]:
    known = {score.metric: score for score in old.scores} if old else {}
    new = {score.metric: score for score in run.scores}
    for metric in dict.fromkeys([*new, *known]):
        covering = tuple(rule for rule in rules if rule.covers(metric))
        before, now = known.get(metric), new.get(metric)
        if before and now:
            yield _compared(before, now, covering, difference, strict)
        else:
            reason = _no_baseline(baseline, run, old) if now else "the run has no such score"
            yield Finding(metric, "missing", covering, before=before, now=now, reason=reason)


def _no_baseline(baseline: Baseline, run: Record, old: Record | None) -> str:
    if not baseline.exists:
        return f"there is no baseline {baseline.path}"
    if old:
        return "the baseline has no such score"
    known = ", ".join(map(title_of, baseline.runs.values())) or "nothing"
    return f"the baseline has no {title_of(run)}; it has {known}"


def _compared(before: Score, now: Score, covering: tuple[Rule, ...], difference: Differ, strict: bool) -> Finding:
    found = compare_scores(before, now, difference)
    broken: tuple[Rule, ...] = ()
    if found.change is not None:
        broken = tuple(rule for rule in covering if rule.broken_by(found, strict=strict))
    return Finding(now.metric, found.verdict, covering, broken, found, before, now, found.reason)
