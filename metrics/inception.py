"""The inception score (Salimans et al. 2016): exp of the mean KL divergence between p(y|x) and p(y)."""

import math

import numpy as np
from numpy.typing import NDArray

from vdm_bench.metrics.moments import ClassSums


def inception_score(sample: ClassSums | NDArray[np.floating]) -> float:
    """Give the inception score over all clips at once (one split).

    Written as exp(H(y) - H(y|x)), the mutual information of clip and class. It lies in [1, C], and a finite
    sample pulls it down, so it is comparable only at the same N.

    Args:
        sample: sums over class probabilities, or probabilities [N, C].

    Raises:
        InputError: a row of the probabilities is no distribution.

    Example:
        >>> inception_score(np.eye(4))
        4.0
    """
    sums = sample if isinstance(sample, ClassSums) else ClassSums.from_probabilities(sample)
    marginal = sums.probabilities / sums.count
    present = marginal[marginal > 0]
    entropy = -float((present * np.log(present)).sum())
    return max(math.exp(entropy + sums.negentropy / sums.count), 1.0)
