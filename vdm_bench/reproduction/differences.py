"""Paired differences of runs: of the same protocol, over the same number of clips, from the same seeds."""

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.jackknife import score_difference
from vdm_bench.metrics.score import Difference


def paired_differences(first: Record, second: Record) -> dict[str, Difference]:
    """Give the scores of the first run less those of the second one, by metric.

    Raises:
        InputError: a score without an interval, as of fewer than 10 clips.
    """
    others = {score.metric: score for score in second.scores}
    found = {}
    for score in first.scores:
        difference = score_difference(score, others[score.metric])
        if difference is None:
            raise InputError(
                f"{score.metric} of {first.name} and {second.name} has no interval, so nothing can be said of "
                "their difference; take 10 clips or more by --limit"
            )
        found[score.metric] = difference
    return found
