"""Compare two runs, metric by metric: the difference, and whether it exceeds noise.

The interval of a difference comes from the jackknife: `metrics.jackknife.score_difference`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.jackknife import score_difference
from vdm_bench.metrics.score import Estimate, Score, Signature

Verdict = Literal["better", "worse", "within noise", "no interval", "not comparable"]
Differing = Sequence[tuple[str, str | None, str | None]]
# Relative to the larger value. In float32, machines differ by 3e-7 of a score (docs/numerical-error.md). Equal
# runs share all their noise, so that without this tolerance rounding would count as a difference.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Comparison:
    """Comparison of a metric's scores in two runs.

    Attributes:
        first: the score to compare with.
        second: the score that the verdict is about.
        verdict: `better` or `worse` if the interval of the change excludes zero; `within noise` if it includes
            zero, or if the change is within the tolerance between machines; `no interval` if there is none;
            `not comparable` if the signatures differ or a value is missing.
        change: second value minus first value, in the unit of the score; None if not comparable.
        interval: the change with its confidence interval, or None.
        differing: signature keys that differ, as (key, value of the first, value of the second).
        reason: why the scores are not comparable; empty if they are.
    """

    first: Score
    second: Score
    verdict: Verdict
    change: float | None = None
    interval: Estimate | None = None
    differing: Differing = ()
    reason: str = ""

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self.second.metric

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return self.second.higher_is_better

    @property
    def worsening(self) -> float:
        """How much worse the second score is; negative if it is better."""
        return (self.change or 0.0) * (-1 if self.higher_is_better else 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON types."""
        found = self.interval
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "verdict": self.verdict,
            "first_value": self.first.value,
            "second_value": self.second.value,
            "change": self.change,
            "low": found and found.low,
            "high": found and found.high,
            "level": found and found.level,
            "method": found and found.method,
            "differing": [{"key": key, "first": a, "second": b} for key, a, b in self.differing],
            "reason": self.reason,
        }


def compare_scores(first: Score, second: Score) -> Comparison:
    """Compare two scores of the same metric.

    Args:
        first: the score to compare with.
        second: the score that the verdict is about.
    """
    differing = Signature.parse(first.signature).differences(Signature.parse(second.signature))
    if differing:
        return Comparison(first, second, "not comparable", differing=differing, reason=differing_keys(differing))
    if first.higher_is_better != second.higher_is_better:
        reason = "the records disagree about the direction of the metric"
        return Comparison(first, second, "not comparable", reason=reason)
    if first.value is None or second.value is None:
        status = first.status if first.value is None else second.status
        return Comparison(first, second, "not comparable", reason=f"no value: {status}")
    change, found = second.value - first.value, score_difference(second, first)
    if not math.isfinite(change):
        return Comparison(first, second, "not comparable", reason="the change is too large for a float")
    compared = Comparison(first, second, "within noise", change, found)
    if abs(change) <= ROUNDING * max(abs(first.value), abs(second.value)):
        return compared
    if found is not None and found.low <= 0 <= found.high:
        return compared
    verdict: Verdict = "worse" if compared.worsening > 0 else "better"
    return Comparison(first, second, "no interval" if found is None else verdict, change, found)


def compare_records(first: Record, second: Record) -> list[Comparison]:
    """Compare the metrics that both runs have, in the order of the first."""
    others = {score.metric: score for score in second.scores}
    return [compare_scores(score, others[score.metric]) for score in first.scores if score.metric in others]


def differing_keys(differing: Differing) -> str:
    """Return how two signatures differ, as text: `n 64 v 128, task (none) v unconditional`."""
    return ", ".join(f"{key} {here or '(none)'} v {there or '(none)'}" for key, here, there in differing)


@dataclass(frozen=True)
class RunComparison:
    """Pairwise comparisons of several runs.

    Attributes:
        runs: path and record of each run.
        pairs: comparisons by the indices (i, j) of two runs, i < j.
    """

    runs: Sequence[tuple[str, Record]]
    pairs: dict[tuple[int, int], list[Comparison]]

    @classmethod
    def of(cls, runs: Iterable[tuple[str, Record]]) -> "RunComparison":
        """Compare every pair of runs."""
        runs = list(runs)
        pairs = {(i, j): compare_records(runs[i][1], runs[j][1]) for i, j in combinations(range(len(runs)), 2)}
        return cls(runs, pairs)

    @property
    def comparable(self) -> bool:
        """Whether at least two scores are comparable."""
        return any(
            comparison.verdict != "not comparable" for found in self.pairs.values() for comparison in found
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON types; `first` and `second` are indices of runs, from 0."""
        runs = [
            {
                "name": record.name,
                "path": path,
                "protocol": record.protocol and record.protocol.name,
                "created": record.created.isoformat(),
            }
            for path, record in self.runs
        ]
        comparisons = [
            {"first": i, "second": j, **comparison.to_dict()}
            for (i, j), found in self.pairs.items()
            for comparison in found
        ]
        return {"runs": runs, "comparisons": comparisons}
