"""The features of one side: how they are read, cut into groups, and refused.

Whatever the size of the blocks they come in, features are taken in chunks of one size, so that neither the value
nor the time depends on it. All clips together are summed up in the order in which they come, and once more group
by group: so a value hangs on no group, and no more than a few clips of each group are held.
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

Array = NDArray[np.float64]
Bounds = Sequence[tuple[int, int]]

CHUNK_CLIPS = 1024  # summarised at once, or d where that is more: small blocks would cost a merge each
FEWEST_ROUNDS = 10  # over the same conditions, for the jackknife to leave out rounds
GROUP_CLIPS = 256  # of a group, held until there are as many, or d


@dataclass(frozen=True)
class Features:
    """The features of one side, read in order as often as asked.

    Attributes:
        count: N.
        dimension: d.
        blocks: gives float32 [n, d], block by block; every call starts again.
        conditions: clip i was generated for condition i modulo this; None where each has a condition of its own.
    """

    count: int
    dimension: int
    blocks: Callable[[], Iterable[NDArray[np.float32]]]
    conditions: int | None = None


def check_count(name: str, role: str, features: Features, fewest: int = 2) -> None:
    """Refuse a side of fewer than `fewest` clips."""
    if features.count < fewest:
        found = f"there {'is' if features.count == 1 else 'are'} {features.count}"
        raise InputError(f"{name} needs at least {fewest} {role} clips; {found}")


def checked_sides(name: str, reference: Features | None, *generated: Features, fewest: int = 2) -> Features:
    """Return the reference, once there are clips enough on all sides and their dimensions agree.

    Raises:
        InputError: they are not, or do not, or there is no reference.
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
    """Return the groups behind an interval, or a single one where there are fewer than `fewest` clips, or 10.

    An interval says what other clips would change that the model makes for the same conditions. Where those come
    round 10 times and more, groups are whole rounds: each holds every condition as often, so what divides the
    conditions moves nothing. With fewer rounds groups are clips, as if the conditions, too, were drawn anew.
    """
    count, conditions = features.count, features.conditions or features.count
    most = group_count(features.dimension)
    if count < max(fewest, FEWEST_CLIPS):
        return Groups.of_clips(count, 1)
    if conditions < count and count % conditions == 0 and count // conditions >= FEWEST_ROUNDS:
        return Groups.of_rounds(count, conditions, most)
    return Groups.of_clips(count, most)


def limit_groups(real: Features, generated: Features) -> tuple[Groups, Groups] | None:
    """Return the groups of both sides behind a value at N = infinity, or None where there is none to be trusted.

    Infinitely many clips are of infinitely many conditions, so those that come round again stay whole here. The
    number of conditions is then what must be large; without whole rounds nobody knows which clip is whose.
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
    """Return the moments of one side and, for each grouping, of each of its groups.

    Raises:
        InputError: there are fewer features than `count`, or values that are not finite.
    """
    return summarised(features, Moments.from_features, *groupings)


def summarised(
    features: Features, summarise: Callable[[NDArray[np.float32]], S], *groupings: Groups
) -> tuple[S, list[list[S]]]:
    """Summarise the features, all of them and by group for each grouping, reading each block once.

    Raises:
        InputError: there are fewer features than `count`, or values that are not finite.
    """
    bounds = group_bounds(features.count, groupings[0].count)  # cut so, a value keeps its last bits
    sorters = [_Sorter(groups, summarise, max(GROUP_CLIPS, features.dimension)) for groups in groupings]

    def taken(chunk: NDArray[np.float32]) -> S:
        for sorter in sorters:
            sorter.add(chunk)
        return summarise(chunk)

    cut = itertools.groupby(_chunks(features, bounds), key=lambda pair: pair[0])
    whole = merge_all(merge_all(taken(chunk) for _, chunk in chunks) for _, chunks in cut)
    return whole, [sorter.summaries() or [whole] for sorter in sorters]


class _Sorter(Generic[S]):
    """Sums up each group of clips that come in the order of their index; nothing, where there is one group."""

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
        """Return the summary of each group, once all clips are there."""
        for g, held in enumerate(self._held):
            if held:
                self._sum_up(g)
        return [self._summaries[g] for g in range(len(self._held))]


def _chunks(features: Features, bounds: Bounds) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Cut the blocks anew: (group, float32 [n, d]), large chunks of which none reaches across a group's end."""
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
        features: of the side.
        order: int64 [N], the clip whose features each row holds; as they come, if None.

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
