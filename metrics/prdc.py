"""Precision, recall, density and coverage: how two sets of features overlap, by nearest neighbours.

A set's manifold is the union of balls around its clips; the radius of a ball is the distance to the clip's k-th
nearest neighbour in the set. Precision and recall: Kynkaanniemi et al. 2019, eq. 2; density and coverage: Naeem
et al. 2020, eq. 4 and 5. Balls are closed, as in the former; the public code of the latter leaves out the
boundary, which matters only for repeated clips.

Squared distances are |a|^2 + |b|^2 - 2 a.b, block by block, so no N x M matrix is ever in memory. This sum
cancels for clips that are close together and far from the origin. Features are therefore centred on the
reference's mean first: |a|^2 is then as large as the squared distances, with a rounding error of 1e-16. Distances
within `SLACK` of a radius count as inside, so that repeated clips are neighbours despite rounding.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import unit_of
from vdm_bench.metrics.choices import Measure
from vdm_bench.metrics.jackknife import Resampled
from vdm_bench.metrics.moments import checked_features, real_pair

Array = NDArray[np.float64]
Bounds = Sequence[tuple[int, int]]

BLOCK_BYTES = 2**27  # of one block of distances
SLACK = 1e-12  # relative to |a|^2 + |b|^2, whose rounding error is 1e-15


def neighbour_score(
    reference: NDArray[np.floating], generated: NDArray[np.floating], measure: Measure, *, k: int = 5
) -> float:
    """Return one of the four measures.

    Args:
        reference: features [N, d], N > k.
        generated: features [M, d], M > k.
        measure: `precision`, the share of generated clips within the reference's manifold; `recall`, the share
            of reference clips within the generated manifold; `density`, the mean number of reference balls that
            contain a generated clip, divided by k; `coverage`, the share of reference balls that contain a
            generated clip.
        k: the neighbour whose distance is the radius of a ball.

    Raises:
        InputError: k or fewer clips, different dimensions, or values that are not finite.
    """
    return resampled_neighbour_score(reference, generated, measure, [(0, len(generated))], k=k).value


def resampled_neighbour_score(
    reference: NDArray[np.floating],
    generated: NDArray[np.floating],
    measure: Measure,
    bounds: Bounds,
    *,
    k: int = 5,
) -> Resampled:
    """Compute a measure for all generated clips, and without each group.

    It is exact for all four measures. Recall depends on the radii of generated clips, which change when others
    are left out, so the k nearest neighbours are stored for each group.

    Args:
        reference: features [N, d], N > k.
        generated: features [M, d], M > k.
        measure: as for `neighbour_score`.
        bounds: half-open ranges that split 0..M-1 into groups of consecutive rows; a single group is never left
            out.
        k: the neighbour whose distance is the radius; more than k clips must remain without any group.

    Raises:
        InputError: k or fewer clips, different dimensions, or values that are not finite.
    """
    x, y = _centred(reference, generated)
    sizes = np.array([stop - start for start, stop in bounds])
    fewest = min(len(x), len(y), len(y) - int(sizes.max()) if len(sizes) > 1 else len(y))
    if fewest <= k:
        raise InputError(f"{measure} with k = {k} needs more than {k} clips on both sides; there are {fewest}")
    if measure == "recall":
        return _recall(x, y, bounds, k)
    radii = _radii(x, k)
    if measure == "coverage":
        return _coverage(x, y, radii, bounds)
    balls = _count_balls(y, x, radii).numpy()  # of the reference that contain each generated clip
    per_clip = balls / k if measure == "density" else (balls > 0).astype(np.float64)
    sums = np.array([per_clip[start:stop].sum() for start, stop in bounds])
    return Resampled(float(per_clip.mean()), _means_without(sums, sizes))


def _centred(reference: NDArray[np.floating], generated: NDArray[np.floating]) -> tuple[Tensor, Tensor]:
    x, y = real_pair(reference, generated)
    if len(x) and len(y):
        x, y = checked_features(x), checked_features(y)
        unit = unit_of(x, y)  # scales all distances alike, so the order of neighbours stays
        x, y = (x, y) if unit == 1 else (x / unit, y / unit)
    mean = x.mean(axis=0)
    return torch.from_numpy(x - mean), torch.from_numpy(y - mean)


def _means_without(sums: Array, sizes: NDArray[np.int64]) -> Array:
    """Return the mean without each group, given the sums and sizes of all groups."""
    if len(sums) == 1:
        return np.empty(0)
    means: Array = (sums.sum() - sums) / (sizes.sum() - sizes)
    return means


def _distances(a: Tensor, b: Tensor, *, slack: float = 0.0) -> Iterator[tuple[int, Tensor]]:
    """Return squared distances from a [N, d] to b [M, d] in blocks of rows: (first row, float64 [n, M]).

    Each distance is reduced by `slack` times |a|^2 + |b|^2. The next block overwrites the tensor.
    """
    a_norms, b_norms = (side.square().sum(dim=1) * (1 - slack) for side in (a, b))
    rows = max(1, min(len(a), BLOCK_BYTES // (8 * len(b))))
    buffer = torch.empty(rows, len(b), dtype=torch.float64)
    for start in range(0, len(a), rows):
        part = a[start : start + rows]
        block = torch.addmm(b_norms, part, b.mT, alpha=-2, out=buffer[: len(part)])
        yield start, block.add_(a_norms[start : start + rows, None])


def _nearest(x: Tensor, others: Tensor, k: int, first: int) -> Tensor:
    """Return the k smallest squared distances, float64 [N, k], from each clip of x to the `others` except itself.

    `others` are the consecutive clips of x that begin at index `first`; if there are fewer than k, the rest is
    infinity.
    """
    nearest = torch.full((len(x), k), torch.inf, dtype=torch.float64)
    for start, block in _distances(x, others):
        own = torch.arange(start, start + len(block)) - first
        itself = (own >= 0) & (own < len(others))
        block[itself.nonzero()[:, 0], own[itself]] = torch.inf
        few = min(k, len(others))
        nearest[start : start + len(block), :few] = block.topk(few, dim=1, largest=False).values
    return nearest.clamp_(min=0)


def _radii(x: Tensor, k: int) -> Tensor:
    """Return the squared distance from each clip to its k-th nearest neighbour: float64 [N]."""
    return _nearest(x, x, k, 0).amax(dim=1)


def _count_balls(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Count the balls that contain each point: int64 [points]."""
    counts = [(block <= radii).sum(dim=1) for _, block in _distances(points, centres, slack=SLACK)]
    return torch.cat(counts)


def _coverage(x: Tensor, y: Tensor, radii: Tensor, bounds: Bounds) -> Resampled:
    # [i, g]: whether a clip of group g lies in the ball of reference clip i
    covered = torch.zeros(len(x), len(bounds), dtype=torch.bool)
    for start, block in _distances(x, y, slack=SLACK):
        stop = start + len(block)
        for g, (left, right) in enumerate(bounds):
            covered[start:stop, g] = block[:, left:right].amin(dim=1) <= radii[start:stop]
    groups = covered.sum(dim=1)
    value = (groups > 0).double().mean()
    without = (groups[:, None] > covered).double().mean(dim=0) if len(bounds) > 1 else torch.empty(0)
    return Resampled(float(value), without.double().numpy())


def _recall(x: Tensor, y: Tensor, bounds: Bounds, k: int) -> Resampled:
    group_of = torch.repeat_interleave(torch.tensor([stop - start for start, stop in bounds]))
    radii, radii_without = _radii_without(y, bounds, group_of, k)
    widest = radii_without.amax(dim=1)
    hits, hits_without = 0, torch.zeros(len(bounds), dtype=torch.int64)
    for _, block in _distances(x, y, slack=SLACK):
        inside = block <= radii
        by_group = torch.stack([inside[:, left:right].any(dim=1) for left, right in bounds], dim=1).sum(dim=1)
        hits += int((by_group > 0).sum())
        # A clip inside balls of two groups stays inside whichever group is left out: radii only grow.
        hits_without += (by_group > 1).sum()
        hits_without += _hits_without(block[by_group < 2], widest, radii_without)
    without = hits_without.numpy() / len(x) if len(bounds) > 1 else np.empty(0)
    return Resampled(hits / len(x), without)


def _radii_without(y: Tensor, bounds: Bounds, group_of: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return squared radii [M], and those without each group [M, groups]: -infinity for the group's own clips."""
    nearest = torch.stack([_nearest(y, y[left:right], k, left) for left, right in bounds], dim=1)
    radii = nearest.flatten(1).kthvalue(k, dim=1).values
    without = torch.full((len(y), len(bounds)), -torch.inf, dtype=torch.float64)
    for g in range(len(bounds) if len(bounds) > 1 else 0):
        others = torch.cat([nearest[:, :g], nearest[:, g + 1 :]], dim=1).flatten(1)
        without[:, g] = others.kthvalue(k, dim=1).values
    without[torch.arange(len(y)), group_of] = -torch.inf
    return radii, without


def _hits_without(block: Tensor, widest: Tensor, radii_without: Tensor) -> Tensor:
    """Count the rows of the distances [n, M] that lie in a ball when group g is left out: int64 [groups]."""
    rows, columns = (block <= widest).nonzero(as_tuple=True)
    inside = block[rows, columns, None] <= radii_without[columns]
    hit = torch.zeros(len(block), radii_without.shape[1], dtype=torch.int64)
    return hit.index_add_(0, rows, inside.long()).gt_(0).sum(dim=0)
