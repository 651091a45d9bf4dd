"""Precision, recall, density and coverage: how two sets of features overlap, told by nearest neighbours.

A set's manifold is the union of balls around its clips, each reaching to its clip's k-th nearest neighbour in the
set. Precision and recall: Kynkaanniemi et al. 2019, eq. 2; density and coverage: Naeem et al. 2020, eq. 4 and 5.
Balls are closed, as in the first; the public code of the second leaves out the boundary, which matters only where
clips are repeated.

Squared distances are |a|^2 + |b|^2 - 2 a.b, block by block, so no N x M matrix is ever held. That sum cancels
where clips lie close together and far from the origin, so features are centred on the reference's mean first:
then |a|^2 is of the size of the squared distances themselves, and float64 leaves 1e-16 of it. Distances within
`SLACK` of a radius count as reaching it, so that repeated clips are neighbours whatever the rounding.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import unit_of
from vdm_bench.metrics.jackknife import Resampled
from vdm_bench.metrics.moments import checked_features, real_numbers

Array = NDArray[np.float64]
Bounds = Sequence[tuple[int, int]]
Measure = Literal["precision", "recall", "density", "coverage"]

BLOCK_BYTES = 2**27  # of one block of distances
SLACK = 1e-12  # of |a|^2 + |b|^2; rounding is 1e-15 of it


def neighbour_score(
    reference: NDArray[np.floating], generated: NDArray[np.floating], measure: Measure, *, k: int = 5
) -> float:
    """Return one of the four measures.

    Args:
        reference: features [N, d], N > k.
        generated: features [M, d], M > k.
        measure: `precision`, the share of generated clips within the reference's manifold; `recall`, the share
            of reference clips within the generated one; `density`, by how many balls of the reference a
            generated clip is held, over k; `coverage`, the share of the reference's balls that hold a generated
            clip.
        k: which neighbour a ball reaches to.

    Raises:
        InputError: k or fewer clips, unlike dimensions, or values that are not finite.
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

    It is exact for all four: leaving generated clips out changes their own radii too, on which recall depends, so
    the k nearest neighbours are kept for each group.

    Args:
        reference: features [N, d], N > k.
        generated: features [M, d], M > k.
        measure: as for `neighbour_score`.
        bounds: half-open ranges that cut 0..M-1 into groups, each of clips that stand together; a single one has
            nothing left without it.
        k: which neighbour a ball reaches to; more than k clips must be left without a group.

    Raises:
        InputError: k or fewer clips, unlike dimensions, or values that are not finite.
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
    held = _held_by(y, x, radii).numpy()  # by how many balls of the reference each generated clip is held
    per_clip = held / k if measure == "density" else (held > 0).astype(np.float64)
    sums = np.array([per_clip[start:stop].sum() for start, stop in bounds])
    return Resampled(float(per_clip.mean()), _means_without(sums, sizes))


def _centred(reference: NDArray[np.floating], generated: NDArray[np.floating]) -> tuple[Tensor, Tensor]:
    x, y = real_numbers(reference), real_numbers(generated)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"features must be [N, d] and [M, d]; these are {list(x.shape)} and {list(y.shape)}")
    if len(x) and len(y):
        x, y = checked_features(x), checked_features(y)
        unit = unit_of(x, y)  # by which no distance is nearer to another
        x, y = (x, y) if unit == 1 else (x / unit, y / unit)
    mean = x.mean(axis=0)
    return torch.from_numpy(x - mean), torch.from_numpy(y - mean)


def _means_without(sums: Array, sizes: NDArray[np.int64]) -> Array:
    """Return the mean without each group, from the sums and sizes of all groups."""
    if len(sums) == 1:
        return np.empty(0)
    means: Array = (sums.sum() - sums) / (sizes.sum() - sizes)
    return means


def _distances(a: Tensor, b: Tensor, *, slack: float = 0.0) -> Iterator[tuple[int, Tensor]]:
    """Return squared distances from a [N, d] to b [M, d] as (first row, float64 [n, M]), rows in blocks.

    Each is less by `slack` times |a|^2 + |b|^2. The tensor is written over by the next block.
    """
    a_norms, b_norms = (side.square().sum(dim=1) * (1 - slack) for side in (a, b))
    rows = max(1, min(len(a), BLOCK_BYTES // (8 * len(b))))
    buffer = torch.empty(rows, len(b), dtype=torch.float64)
    for start in range(0, len(a), rows):
        part = a[start : start + rows]
        block = torch.addmm(b_norms, part, b.mT, alpha=-2, out=buffer[: len(part)])
        yield start, block.add_(a_norms[start : start + rows, None])


def _nearest(x: Tensor, others: Tensor, k: int, first: int) -> Tensor:
    """Return the k least squared distances, float64 [N, k], from each clip of x to the `others`, not to itself.

    others: consecutive clips of x, those from index `first` on. Where they are fewer than k, infinity fills up.
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


def _held_by(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Count for each point the balls that hold it: int64 [points]."""
    counts = [(block <= radii).sum(dim=1) for _, block in _distances(points, centres, slack=SLACK)]
    return torch.cat(counts)


def _coverage(x: Tensor, y: Tensor, radii: Tensor, bounds: Bounds) -> Resampled:
    covered = torch.zeros(
        len(x), len(bounds), dtype=torch.bool
    )  # whether group g reaches into the ball of clip i
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
        held = block <= radii
        by_group = torch.stack([held[:, left:right].any(dim=1) for left, right in bounds], dim=1).sum(dim=1)
        hits += int((by_group > 0).sum())
        # A clip held by balls of two groups stays held whichever group goes: radii only grow.
        hits_without += (by_group > 1).sum()
        hits_without += _held_without(block[by_group < 2], widest, radii_without)
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


def _held_without(block: Tensor, widest: Tensor, radii_without: Tensor) -> Tensor:
    """Count the rows of distances [n, M] that a ball holds when group g is gone: int64 [groups]."""
    rows, columns = (block <= widest).nonzero(as_tuple=True)
    held = block[rows, columns, None] <= radii_without[columns]
    hit = torch.zeros(len(block), radii_without.shape[1], dtype=torch.int64)
    return hit.index_add_(0, rows, held.long()).gt_(0).sum(dim=0)
