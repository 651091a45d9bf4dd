"""A record held against one made again from the same clips: each function gives the first fault, or None."""

import math
from collections.abc import Iterator

from vdm_bench.leaderboards.record import Curve, Record
from vdm_bench.metrics.score import Score, Signature


def unlike_signatures(claimed: Record, remade: Record) -> str | None:
    """Compare metrics and signatures; the version of the software may be another."""
    here, there = ({score.metric: score for score in record.scores} for record in (claimed, remade))
    if odd := sorted(here.keys() ^ there.keys()):
        return f"{odd[0]} is {'no metric of' if odd[0] in here else 'missing; it belongs to'} the protocol"
    for metric, score in here.items():
        if score.digest != there[metric].digest:
            return f"{metric} is signed {_differences(score, there[metric])}"
    return None


def _differences(claimed: Score, remade: Score) -> str:
    found = Signature.parse(claimed.signature).differences(Signature.parse(remade.signature))
    return "; ".join(f"{key}:{here or ''}, and must be {key}:{there or ''}" for key, here, there in found)


def unlike_counts(claimed: Record, remade: Record) -> str | None:
    """Compare what is said of the clips beside the scores."""
    for side in ("reference", "generated"):
        here, there = getattr(claimed, side), getattr(remade, side)
        for field in ("expected", "scored", "repeated", "lossy"):
            if getattr(here, field) != getattr(there, field):
                return f"{side}.{field} is {getattr(here, field)}, and must be {getattr(there, field)}"
        if len(here.skipped) != len(there.skipped):
            return f"{side}.skipped lists {len(here.skipped)} clips, and {len(there.skipped)} cannot be read"
    departures = remade.protocol.departures if remade.protocol else []
    if departures and not (claimed.protocol and claimed.protocol.departures):
        return f"a departure from the protocol is not in the record: {departures[0]}"
    return None


def unlike_scores(claimed: Record, remade: Record, tolerance: float) -> str | None:
    """Compare values, intervals, jackknives, floors, limits and curves.

    Args:
        claimed: the record.
        remade: the other, of the same metrics.
        tolerance: as a share of the value, or of half the width of its interval where that is more.
    """
    again = {score.metric: score for score in remade.scores}
    for score in claimed.scores:
        if fault := _unlike_score(score, again[score.metric], tolerance):
            return fault
    if claimed.curves.keys() != remade.curves.keys():
        here, there = (", ".join(record.curves) or "nothing" for record in (claimed, remade))
        return f"there are curves of {here}, and must be of {there}"
    for metric, curve in claimed.curves.items():
        if fault := _unlike_curve(metric, curve, remade.curves[metric], tolerance):
            return fault
    return None


def _unlike_score(claimed: Score, remade: Score, tolerance: float) -> str | None:
    if remade.value is None or claimed.value is None:
        same = (claimed.value, claimed.status) == (remade.value, remade.status)
        return None if same else f"{claimed.metric} is {claimed.value}, and comes out as {remade.value}"
    interval = remade.interval
    scale = max(abs(remade.value), interval.high / 2 - interval.low / 2 if interval else 0.0)
    allowed = tolerance * scale
    if "knn" in dict(Signature.parse(claimed.signature).fields):
        allowed = max(allowed, 2 / remade.n_generated)  # a clip more or less within a radius, on either side
    if claimed.jackknife and claimed.jackknife_groups != remade.jackknife_groups:
        old = claimed.jackknife_groups or "consecutive clips"
        return (
            f"the jackknife of {claimed.metric} is over groups of {old}, and must be over "
            f"{remade.jackknife_groups}; score the clips again with this version"
        )
    counts = len(claimed.jackknife), len(remade.jackknife)
    if counts[0] not in (0, counts[1]):  # older records have none
        return f"the jackknife of {claimed.metric} has {counts[0]} values, and must have {counts[1]}"
    # The values of the jackknife stand last: those of a record without them are not looked at.
    for (name, here), (_, there) in zip(_numbers(claimed), _numbers(remade), strict=False):
        if (here is None) != (there is None) or not _near(here, there, allowed):
            off = f"allowed: {allowed:.2g} more or less"
            return f"{name} of {claimed.metric} is {here}, and comes out as {there} ({off})"
    return None


def _numbers(score: Score) -> Iterator[tuple[str, float | None]]:
    yield "the value", score.value
    for name, part in (("the interval", score.interval), ("the value at N = infinity", score.infinite)):
        for end in ("low", "high"):
            yield f"the {end} end of {name}", getattr(part, end, None)
    yield "the value at N = infinity", getattr(score.infinite, "value", None)
    yield "the floor", score.floor
    for place, value in enumerate(score.jackknife, 1):
        yield f"value {place} of the jackknife", value


def _near(here: float | None, there: float | None, allowed: float) -> bool:
    return here is None or there is None or abs(here - there) <= allowed


def _unlike_curve(metric: str, claimed: Curve, remade: Curve, tolerance: float) -> str | None:
    if claimed.frames != remade.frames:
        return f"the curve of {metric} is of other frames"
    pairs = zip(claimed.frames, claimed.values, remade.values, strict=True)
    for frame, here, there in pairs:
        if not math.isclose(here, there, rel_tol=tolerance):
            return f"the curve of {metric} is {here} at frame {frame}, and comes out as {there}"
    return None
