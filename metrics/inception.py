"""The inception score (Salimans et al. 2016): exp of the mean KL divergence between p(y|x) and p(y)."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import guarded
from vdm_bench.metrics.choices import SplitOrder
from vdm_bench.metrics.jackknife import Groups, Resampled, group_bounds, permutation
from vdm_bench.metrics.moments import ClassSums, checked_features, merge_all, real_numbers

Array = NDArray[np.float64]


def inception_score(
    sample: ClassSums | NDArray[np.floating],
    *,
    splits: int = 1,
    shuffle_seed: int | None = None,
    order: SplitOrder = "permuted",
) -> float:
    """Return the inception score, or with several splits the mean score of equal parts.

    It is computed as exp(H(y) - H(y|x)), the exponential of the mutual information of clip and class, and lies in
    [1, C]. A finite sample lowers it, so it is comparable only at the same N and the same number of splits.

    Args:
        sample: class probabilities [N, C]; with one split, their sums are enough.
        splits: number of parts; part i holds clips i N // splits to (i + 1) N // splits of the order.
        shuffle_seed: seed of NumPy's legacy generator, which then shuffles the clips before the split
            (StyleGAN-V: 10 splits, seed 42); or None.
        order: of the clips without a `shuffle_seed`: `permuted`, the fixed pseudo-random order of `permutation`,
            or `given`. In the given order, a set that is sorted by class scores lower, because each part lacks
            most classes.

    Raises:
        InputError: a row of the probabilities is not a distribution, or there are more splits than clips.

    Example:
        >>> inception_score(np.eye(4))
        4.0
    """
    if splits == 1:
        return _score_of_sums(sample if isinstance(sample, ClassSums) else ClassSums.from_probabilities(sample))
    if isinstance(sample, ClassSums):
        raise InputError("an inception score in several splits needs the probabilities of every clip")
    return float(split_scores(sample, splits=splits, shuffle_seed=shuffle_seed, order=order).mean())


def split_scores(
    probabilities: NDArray[np.floating],
    *,
    splits: int,
    shuffle_seed: int | None = None,
    order: SplitOrder = "permuted",
) -> Array:
    """Return the inception score of each part: float64 [splits]. The usual spread is their `.std()` (ddof 0).

    Args:
        probabilities: [N, C], N >= splits.
        splits: as for `inception_score`.
        shuffle_seed: as for `inception_score`.
        order: as for `inception_score`.

    Raises:
        InputError: a row of the probabilities is not a distribution, or there are more splits than clips.
    """
    p = real_numbers(probabilities)
    parts = _parts(len(p), splits, shuffle_seed, order)
    return np.array([_score_of_sums(ClassSums.from_probabilities(p[part])) for part in parts])


def resampled_split_score(
    probabilities: NDArray[np.floating],
    groups: Groups,
    *,
    splits: int,
    shuffle_seed: int | None = None,
    order: SplitOrder = "permuted",
) -> Resampled:
    """Compute a score in several splits, of all clips and without each group of clips.

    A clip stays in the same part when others are left out.

    Args:
        probabilities: [N, C].
        groups: groups of the jackknife.
        splits: as for `inception_score`.
        shuffle_seed: as for `inception_score`.
        order: as for `inception_score`.

    Returns:
        The score; it is not resampled if a part lies within one group, because it would be empty without that
        group.

    Raises:
        InputError: a row of the probabilities is not a distribution, or there are more splits than clips.
    """
    p = checked_features(probabilities)
    labels = groups.labels
    parts: list[dict[int, ClassSums]] = []
    for part in _parts(len(p), splits, shuffle_seed, order):
        cells = {g: part[labels[part] == g] for g in range(groups.count)}
        parts.append({g: ClassSums.from_probabilities(p[cell]) for g, cell in cells.items() if len(cell)})

    def score(left_out: int) -> float:
        rests = (merge_all(sums for g, sums in part.items() if g != left_out) for part in parts)
        return float(np.mean([_score_of_sums(rest) for rest in rests]))

    complete = min(map(len, parts)) > 1
    return Resampled(score(-1), np.array([score(g) for g in range(groups.count) if complete]))


def softmax(logits: NDArray[np.floating]) -> Array:
    """Return class probabilities, float64 [N, C], from logits [N, C].

    Raises:
        InputError: the shape is wrong, or a value is not finite.
    """
    with guarded():
        p: Array = special.softmax(checked_features(logits), axis=1)
    return p


def _score_of_sums(sums: ClassSums) -> float:
    marginal = sums.probabilities / sums.count
    present = marginal[marginal > 0]
    entropy = -float((present * np.log(present)).sum())
    return max(math.exp(entropy + sums.negentropy / sums.count), 1.0)


def _parts(count: int, splits: int, shuffle_seed: int | None, order: SplitOrder) -> list[NDArray[np.int64]]:
    """Return the indices of the clips of each part."""
    if not 1 <= splits <= count:
        raise InputError(f"{count} clips cannot be cut into {splits} parts")
    clips = permutation(count) if order == "permuted" and shuffle_seed is None else np.arange(count)
    if shuffle_seed is not None:
        np.random.RandomState(shuffle_seed).shuffle(clips)  # legacy: it reproduces published numbers
    return [clips[start:stop] for start, stop in group_bounds(count, splits)]
