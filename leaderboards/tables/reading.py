"""What a score means: whether it can be distinguished from real clips, and whether there are enough clips."""

MOST_FLOOR = 0.25  # largest share of the value that the floor may have before more clips are advised


def reading(
    value: float | None,
    ends: tuple[float, float] | None,
    floor: float | None,
    *,
    n_reference: int,
    n_generated: int,
    higher_is_better: bool = False,
) -> str:
    """Return what a distance says at its number of clips, in a few words; empty if there is nothing to add.

    The floor is the expected score of a perfect model. It is compared with the interval of the score, or with the
    value if there is no interval:

    - The interval includes the floor: real clips could score the same.
    - The interval is below the floor: better than real clips on average.
    - Otherwise, the floor is at least `MOST_FLOOR` of the value: the finite-sample bias is a large part of it.

    Args:
        value: the score, or None.
        ends: lower and upper end of its interval, or None.
        floor: expected score of a perfect model with as many clips, or None if it is unknown.
        n_reference: number of reference clips; 0 if there are none.
        n_generated: number of generated clips.
        higher_is_better: direction of the metric; a floor bounds distances, so nothing is said of other metrics.
    """
    if value is None or floor is None or higher_is_better:
        return ""
    low, high = ends or (value, value)
    if high < floor:
        return "below the floor: by chance, or because reference clips were copied"
    fewer_reference = 0 < n_reference < n_generated
    count = n_reference if fewer_reference else n_generated
    if low <= floor:
        return f"not distinguishable from real clips at N = {count}"
    if floor >= MOST_FLOOR * value:
        clips = "reference clips" if fewer_reference else "clips"
        return f"at {count} {clips} the floor is {100 * floor / value:.0f} % of the value: use more clips"
    return ""
