"""Scores that may be ranked together, ranked.

Scores are comparable if the digests of their signatures are equal, and only then: every digest makes a
group of its own.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vdm_bench.errors import InputError
from vdm_bench.metrics.score import Signature

BEST = "best"
TIE = "tie"
RANK_COLUMNS = ("rank", "mark")


@dataclass(frozen=True, eq=False)
class ScoreGroup:
    """Scores of one digest, best first.

    Attributes:
        metric: name of the recipe.
        digest: digest of the signature, the same for all rows.
        signature: the signature; without the version where the rows' versions differ.
        higher_is_better: direction of the metric.
        n_reference: reference clips behind the values, or None where the rows differ.
        n_generated: generated clips behind the values, or None where the rows differ.
        floor: what a perfect model is expected to score, or None where it is not known or the rows differ.
        rows: `rank`, `mark` and the columns of `load_runs`.
    """

    metric: str
    digest: str
    signature: str
    higher_is_better: bool
    n_reference: int | None
    n_generated: int | None
    floor: float | None
    rows: pd.DataFrame

    def differences(self, other: "ScoreGroup") -> list[tuple[str, str | None, str | None]]:
        """Name the signature keys in which two groups differ: (key, value here, value there)."""
        return Signature.parse(self.signature).differences(Signature.parse(other.signature))


def group_scores(frame: pd.DataFrame) -> list[ScoreGroup]:
    """Group the rows of `load_runs` by digest and rank each group.

    In a group the rows stand best first by the metric's direction; equal values stand in the order of their
    names, then times, then paths, and share a `rank`. Rows without a value come last, without a rank. The
    column `mark` holds `best` for the first row, if it has a value, and `tie` for every other row

    - whose interval has a point in common with the interval of the best row, ends included, both being of
      the same level; or
    - whose value equals the best row's.

    A tie says that these numbers do not separate the two, not that the two are equally good; and two rows
    that tie with the best need not tie with one another.

    Groups are ordered by the metric's name, then the larger first (rows, then generated clips).

    Raises:
        InputError: rows of one digest that contradict each other about the direction of the metric.
    """
    groups = [_group(str(digest), rows) for digest, rows in frame.groupby("digest")]
    return sorted(
        groups, key=lambda group: (group.metric, -len(group.rows), -(group.n_generated or 0), group.digest)
    )


def _group(digest: str, rows: pd.DataFrame) -> ScoreGroup:
    higher_is_better = _shared(rows, "higher_is_better")
    if higher_is_better is None:
        raise InputError(
            f"the records {', '.join(sorted(rows['path']))} contradict each other about the direction of "
            f"{rows['metric'].iloc[0]}; leave out the one that is wrong"
        )
    return ScoreGroup(
        metric=rows["metric"].iloc[0],
        digest=digest,
        signature=_shared(rows, "signature") or _without_version(rows["signature"].iloc[0]),
        higher_is_better=higher_is_better,
        n_reference=_shared(rows, "n_reference"),
        n_generated=_shared(rows, "n_generated"),
        floor=_shared(rows, "floor"),
        rows=ranked(rows, higher_is_better=higher_is_better),
    )


def _shared(rows: pd.DataFrame, column: Hashable) -> Any:
    """Give the value that all rows have in a column, as a plain Python value, or None."""
    values = rows[column].drop_duplicates().tolist()
    return None if len(values) > 1 or values[0] is pd.NA else values[0]


def _without_version(signature: str) -> str:
    parsed = Signature.parse(signature)
    return str(Signature(parsed.metric, tuple(pair for pair in parsed.fields if pair[0] != "v")))


def ranked(rows: pd.DataFrame, *, higher_is_better: bool) -> pd.DataFrame:
    """Sort rows best first and give them the columns `rank` and `mark`, as `group_scores` says."""
    rows = rows.sort_values(
        ["value", "name", "created", "path"], ascending=[not higher_is_better, True, True, True]
    ).reset_index(drop=True)
    rank = rows["value"].rank(method="min", ascending=not higher_is_better).astype("Int64")
    mark = pd.Series(pd.NA, index=rows.index, dtype="string")
    if rows["value"].notna().iloc[0]:
        mark[_ties_with_first(rows)] = TIE
        mark.iloc[0] = BEST
    rows.insert(0, "rank", rank)
    rows.insert(1, "mark", mark)
    return rows


def _ties_with_first(rows: pd.DataFrame) -> "pd.Series[bool]":
    best = rows.iloc[0]
    overlap = (rows["level"] == best["level"]) & (rows["low"] <= best["high"]) & (rows["high"] >= best["low"])
    equal = rows["value"] == best["value"]
    ties: pd.Series[bool] = (overlap | equal).fillna(False).astype(bool) & rows["value"].notna()
    return ties
