"""The features of one side: reading them in chunks, summarising them by jackknife group, checking their counts.

Features arrive in blocks of any size and are regrouped into chunks of one size, so neither the value nor the time
depends on the blocks. All clips are summarised in their order, and each group separately: the value does not
depend on the groups, and only a few clips of each group are in memory.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.jackknife import Groups, group_bounds
from vdm_bench.metrics.moments import Moments, S, checked_features, merge_all
from vdm_bench.metrics.uncertainty import FEWEST_CLIPS, can_extrapolate, group_count

__all__ = ["Features"]

Array = NDArray[np.float64]
Bounds = Sequence[tuple[int, int]]

CHUNK_CLIPS = 1024  # summarised at once, or d if that is more: small blocks would cost a merge each
FEWEST_ROUNDS = 10  # from this many rounds on, the jackknife leaves out rounds instead of clips
GROUP_CLIPS = 256  # clips of a group that are collected before they are summarised, or d if that is more


@dataclass(frozen=True)
class Features:
    """The features of one side, which can be read in order repeatedly.

    Attributes:
        count: N.
        dimension: d.
        blocks: returns float32 [n, d] block by block; every call starts from the first clip.
        conditions: clip i was generated for condition i modulo this; None where each has a condition of its own.
    """

    count: int
    dimension: int
    blocks: Callable[[], Iterable[NDArray[np.float32]]]
    conditions: int | None = None


def check_count(name: str, role: str, features: Features, fewest: int = 2) -> None:
    """Check that a side has enough clips.

    Raises:
        InputError: it has fewer than `fewest`.
    """
    if features.count < fewest:
        found = f"there {'is' if features.count == 1 else 'are'} {features.count}"
        raise InputError(f"{name} needs at least {fewest} {role} clips; {found}")


def checked_sides(name: str, reference: Features | None, *generated: Features, fewest: int = 2) -> Features:
    """Check that all sides have enough clips and the same dimension; return the reference.

    Raises:
        InputError: too few clips on a side, different dimensions, or no reference.
    """
    if reference is None:
        raise InputError(f"{name} needs reference clips")
    check_count(name, "reference", reference, fewest)
    for side in generated:
        check_count(name, "generated", side, fewest)
        if side.dimension != reference.dimension:
            raise InputError(
                f"the generated features have {side.dimension} dimensions, "
                f"those of the reference {reference.dimension}"
            )
    return reference


def interval_groups(features: Features, fewest: int = FEWEST_CLIPS) -> Groups:
    """Return the jackknife groups behind an interval; a single group for fewer than `fewest` clips or 10.

    The interval answers how the score would vary if the model sampled the same conditions again. With 10 or more
    rounds over the conditions, a group is a set of whole rounds: every group holds each condition equally often,
    so differences between conditions do not widen the interval. With fewer rounds, groups are sets of clips, as
    if the conditions had been drawn again, too.
    """
    count, conditions = features.count, features.conditions or features.count
    most = group_count(features.dimension)
    if count < max(fewest, FEWEST_CLIPS):
        return Groups.of_clips(count, 1)
    if conditions < count and count % conditions == 0 and count // conditions >= FEWEST_ROUNDS:
        return Groups.of_rounds(count, conditions, most)
    return Groups.of_clips(count, most)


def limit_groups(real: Features, generated: Features) -> tuple[Groups, Groups] | None:
    """Return the groups of both sides for the extrapolation to N = infinity; None where it would not be reliable.

    Infinitely many clips have infinitely many conditions, so all clips of one condition stay in the same group,
    and it is the number of conditions that must be large. If the last round is incomplete, there are no groups.
    """
    count, most = generated.count, group_count(real.dimension)
    conditions = min(generated.conditions or count, count)
    enough = min(real.count, conditions) >= most and can_extrapolate(real.count, conditions, real.dimension)
    if count % conditions or not enough:
        return None
    of_generated = (
        Groups.of_clips(count, most) if conditions == count else Groups.of_conditions(count, conditions, most)
    )
    return Groups.of_clips(real.count, most), of_generated


def group_moments(features: Features, *groupings: Groups) -> tuple[Moments, list[list[Moments]]]:
    """Return the moments of one side and, for each grouping, the moments of each group.

    Raises:
        InputError: there are fewer features than `count`, or values that are not finite.
    """
    return summarised(features, Moments.from_features, *groupings)


def summarised(
    features: Features, summarise: Callable[[NDArray[np.float32]], S], *groupings: Groups
) -> tuple[S, list[list[S]]]:
    """Summarise all features and, for each grouping, those of each group; each block is read once.

    Raises:
        InputError: there are fewer features than `count`, or values that are not finite.
    """
    bounds = group_bounds(features.count, groupings[0].count)  # fixes the order of merges, and so the last bits
    sorters = [_Sorter(groups, summarise, max(GROUP_CLIPS, features.dimension)) for groups in groupings]

    def taken(chunk: NDArray[np.float32]) -> S:
        for sorter in sorters:
            sorter.add(chunk)
        return summarise(chunk)

    cut = itertools.groupby(_chunks(features, bounds), key=lambda pair: pair[0])
    whole = merge_all(merge_all(taken(chunk) for _, chunk in chunks) for _, chunks in cut)
    return whole, [sorter.summaries() or [whole] for sorter in sorters]


class _Sorter(Generic[S]):
    """Summarises each group while clips arrive in the order of their indices; with one group it does nothing."""

    def __init__(self, groups: Groups, summarise: Callable[[NDArray[np.float32]], S], enough: int) -> None:
        self._groups, self._summarise, self._enough = groups, summarise, enough
        self._seen = 0
        self._held: list[list[NDArray[np.float32]]] = [[] for _ in range(groups.count if groups.count > 1 else 0)]
        self._summaries: dict[int, S] = {}

    def add(self, chunk: NDArray[np.float32]) -> None:
        """Take the next clips, float32 [n, d]."""
        labels = self._groups.labels_of(self._seen, self._seen + len(chunk))
        self._seen += len(chunk)
        for g, held in enumerate(self._held):
            held.append(chunk[labels == g])
            if sum(map(len, held)) >= self._enough:
                self._sum_up(g)

    def _sum_up(self, g: int) -> None:
        clips = np.concatenate(self._held[g])
        self._held[g].clear()
        if len(clips):
            summary = self._summarise(clips)
            self._summaries[g] = self._summaries[g].merge(summary) if g in self._summaries else summary

    def summaries(self) -> list[S]:
        """Return the summary of each group; call it after the last clip was added."""
        for g, held in enumerate(self._held):
            if held:
                self._sum_up(g)
        return [self._summaries[g] for g in range(len(self._held))]


def _chunks(features: Features, bounds: Bounds) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Regroup the blocks into large chunks (range, float32 [n, d]); no chunk crosses the end of a range."""
    most = max(CHUNK_CLIPS, features.dimension)
    sizes = [
        (g, min(most, stop - at)) for g, (start, stop) in enumerate(bounds) for at in range(start, stop, most)
    ]
    stream = iter(features.blocks())
    held = np.empty((0, features.dimension), np.float32)
    for group, size in sizes:
        parts = [held]
        while sum(map(len, parts)) < size:
            block = next(stream, None)
            if block is None:
                raise InputError(f"the features end before the last of {features.count} clips")
            parts.append(block)
        joined = np.concatenate(parts) if len(parts) > 1 else held
        held = joined[size:]
        yield group, joined[:size]


def gathered(features: Features, order: NDArray[np.int64] | None = None) -> Array:
    """Return all features of one side: float64 [N, d].

    Args:
        features: the side's.
        order: int64 [N], row i of the result holds the features of clip order[i]; None keeps the clips' order.

    Raises:
        InputError: there are fewer features than `count`, or values that are not finite.
    """
    matrix = np.empty((features.count, features.dimension))
    places = np.arange(features.count) if order is None else np.argsort(order)
    start = 0
    for _, chunk in _chunks(features, [(0, features.count)]):
        matrix[places[start : start + len(chunk)]] = chunk
        start += len(chunk)
    return checked_features(matrix)
