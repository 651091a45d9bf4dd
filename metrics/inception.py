"""The inception score (Salimans et al. 2016): exp of the mean KL divergence between p(y|x) and p(y)."""

import math

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.jackknife import Resampled
from vdm_bench.metrics.moments import ClassSums, checked_features, merge_all

Array = NDArray[np.float64]


def inception_score(
    sample: ClassSums | NDArray[np.floating], *, splits: int = 1, shuffle_seed: int | None = None
) -> float:
    """Give the inception score, or with several splits the mean of the scores of equal parts.

    Written as exp(H(y) - H(y|x)), the mutual information of clip and class. It lies in [1, C], and a finite
    sample pulls it down, so it is comparable only at the same N and the same number of splits.

    Args:
        sample: class probabilities [N, C], or with one split the sums over them.
        splits: number of parts; part i is clips i N // splits up to (i + 1) N // splits.
        shuffle_seed: of the order in which clips are cut into parts, by NumPy's legacy generator as in
            StyleGAN-V (10 splits, 42), or nothing for the order given.

    Raises:
        InputError: a row of the probabilities is no distribution, or there are more splits than clips.

    Example:
        >>> inception_score(np.eye(4))
        4.0
    """
    if splits == 1:
        return _score_of_sums(sample if isinstance(sample, ClassSums) else ClassSums.from_probabilities(sample))
    if isinstance(sample, ClassSums):
        raise InputError("an inception score in several splits needs the probabilities of every clip")
    return float(split_scores(sample, splits=splits, shuffle_seed=shuffle_seed).mean())


def split_scores(probabilities: NDArray[np.floating], *, splits: int, shuffle_seed: int | None = None) -> Array:
    """Give the inception score of each part: float64 [splits]. Their spread is `.std()`, over `splits`.

    Args:
        probabilities: [N, C], N >= splits.
        splits: as for `inception_score`.
        shuffle_seed: as for `inception_score`.

    Raises:
        InputError: a row of the probabilities is no distribution, or there are more splits than clips.
    """
    order = _order(len(probabilities), splits, shuffle_seed)
    parts = np.split(np.asarray(probabilities)[order], _ends(len(order), splits)[:-1])
    return np.array([_score_of_sums(ClassSums.from_probabilities(part)) for part in parts])


def resampled_split_score(
    probabilities: NDArray[np.floating],
    bounds: list[tuple[int, int]],
    *,
    splits: int,
    shuffle_seed: int | None = None,
) -> Resampled:
    """Compute a score in several splits of all clips, and without each group of consecutive clips.

    Every clip stays in its part when others are left out.

    Args:
        probabilities: [N, C].
        bounds: half-open ranges of clips, the jackknife's groups.
        splits: as for `inception_score`.
        shuffle_seed: as for `inception_score`.

    Returns:
        The score, resampled unless a part lies within one group and would be empty without it.

    Raises:
        InputError: a row of the probabilities is no distribution, or there are more splits than clips.
    """
    p = checked_features(probabilities)
    order = _order(len(p), splits, shuffle_seed)
    parts: list[dict[int, ClassSums]] = []
    for part in np.split(order, _ends(len(p), splits)[:-1]):
        cells = {g: part[(start <= part) & (part < stop)] for g, (start, stop) in enumerate(bounds)}
        parts.append({g: ClassSums.from_probabilities(p[cell]) for g, cell in cells.items() if len(cell)})

    def score(left_out: int) -> float:
        rests = (merge_all(sums for g, sums in part.items() if g != left_out) for part in parts)
        return float(np.mean([_score_of_sums(rest) for rest in rests]))

    complete = min(map(len, parts)) > 1
    return Resampled(score(-1), np.array([score(g) for g in range(len(bounds)) if complete]))


def softmax(logits: NDArray[np.floating]) -> Array:
    """Give class probabilities, float64 [N, C], from logits [N, C].

    Raises:
        InputError: the shape is wrong, or a value is not finite.
    """
    x = checked_features(logits)
    p: Array = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


def _score_of_sums(sums: ClassSums) -> float:
    marginal = sums.probabilities / sums.count
    present = marginal[marginal > 0]
    entropy = -float((present * np.log(present)).sum())
    return max(math.exp(entropy + sums.negentropy / sums.count), 1.0)


def _order(count: int, splits: int, shuffle_seed: int | None) -> NDArray[np.int64]:
    if not 1 <= splits <= count:
        raise InputError(f"{count} clips cannot be cut into {splits} parts")
    order = np.arange(count)
    if shuffle_seed is not None:
        np.random.RandomState(shuffle_seed).shuffle(order)  # legacy: it reproduces published numbers
    return order


def _ends(count: int, splits: int) -> NDArray[np.int64]:
    return np.arange(1, splits + 1) * count // splits
