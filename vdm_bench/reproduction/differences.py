"""Paired differences of runs: of the same protocol, over the same number of clips, from the same seeds."""

from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.jackknife import score_difference
from vdm_bench.metrics.score import Difference, Score


def paired_difference(first: Record, second: Record, metric: str) -> Difference | None:
    """Give a score of the first run less that of the second one.

    Returns:
        The difference; None where one of them has no value, or no interval, as of fewer than 10 clips.
    """
    a, b = (_score(record, metric) for record in (first, second))
    return None if a.value is None or b.value is None else score_difference(a, b)


def _score(record: Record, metric: str) -> Score:
    return next(score for score in record.scores if score.metric == metric)
