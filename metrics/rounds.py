"""Scores of rounds: the same conditions come again, each time with other clips.

BAIR's 100 samples of each of 256 videos are scored as one set by some, and round by round by others.
"""

from collections.abc import Sequence

from vdm_bench.metrics.jackknife import interval_of_mean, resampled_mean
from vdm_bench.metrics.statistics import Estimate


def mean_of_rounds(rounds: Sequence[Estimate]) -> Estimate:
    """Give the mean of the scores of rounds of clips, each against the same reference.

    Given frames and reference stay, and each round is drawn anew, so the scores are independent, and their spread
    gives the interval; where all are equal, as of a collapsed model, there is none. A mean of scores at finite
    numbers has no limit to extrapolate to. One round is itself.
    """
    if len(rounds) == 1:
        return rounds[0]
    values = [one.value for one in rounds]
    floors = [one.floor for one in rounds if one.floor is not None]
    floor = sum(floors) / len(floors) if floors else None
    resampled = resampled_mean(values)
    if resampled.says_nothing:
        return Estimate(resampled.value, floor=floor)
    return Estimate(
        sum(values) / len(values),
        interval_of_mean(values, "rounds"),
        floor,
        jackknife=tuple(resampled.without.tolist()),
        jackknife_groups="permuted-rounds",
    )
