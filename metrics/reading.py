"""The features of one side: how they are read, cut into groups, and refused.

Whatever the size of the blocks they come in, features are taken in chunks of one size, so that neither the value
nor the time depends on it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.moments import Moments, S, checked_features

Array = NDArray[np.float64]
Bounds = Sequence[tuple[int, int]]

CHUNK_CLIPS = 1024  # summarised at once, or d where that is more: small blocks would cost a merge each


@dataclass(frozen=True)
class Features:
    """The features of one side, read in order as often as asked.

    Attributes:
        count: N.
        dimension: d.
        blocks: gives float32 [n, d], block by block; every call starts again.
    """

    count: int
    dimension: int
    blocks: Callable[[], Iterable[NDArray[np.float32]]]


def check_count(name: str, role: str, features: Features, fewest: int = 2) -> None:
    """Refuse a side of fewer than `fewest` clips."""
    if features.count < fewest:
        found = f"there {'is' if features.count == 1 else 'are'} {features.count}"
        raise InputError(f"{name} needs at least {fewest} {role} clips; {found}")


def checked_sides(name: str, reference: Features | None, *generated: Features, fewest: int = 2) -> Features:
    """Give the reference, once there are clips enough on all sides and their dimensions agree.

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


def group_moments(features: Features, bounds: Bounds) -> list[Moments]:
    """Give the moments of each group of one side.

    Raises:
        InputError: there are fewer features than `count`, or values that are not finite.
    """
    return summarised(features, bounds, Moments.from_features)


def summarised(features: Features, bounds: Bounds, summarise: Callable[[NDArray[np.float32]], S]) -> list[S]:
    """Summarise the features by group, reading each block once.

    Raises:
        InputError: there are fewer features than `count`, or values that are not finite.
    """
    groups: list[S] = []
    for group, chunk in _chunks(features, bounds):
        if group < len(groups):
            groups[group] = groups[group].merge(summarise(chunk))
        else:
            groups.append(summarise(chunk))
    return groups


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


def gathered(features: Features) -> Array:
    """Give all features of one side: float64 [N, d].

    Raises:
        InputError: there are fewer features than `count`, or values that are not finite.
    """
    matrix = np.empty((features.count, features.dimension))
    start = 0
    for _, chunk in _chunks(features, [(0, features.count)]):
        matrix[start : start + len(chunk)] = chunk
        start += len(chunk)
    return checked_features(matrix)
