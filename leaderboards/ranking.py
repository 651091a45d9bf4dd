"""Group comparable scores and rank them.

Two scores are comparable if and only if their signatures have equal digests, so every digest is a group.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.published import PublishedRow
from vdm_bench.leaderboards.store import COLUMNS
from vdm_bench.metrics.score import Signature

BEST = "best"
TIE = "tie"
RANK_COLUMNS = ("rank", "mark")
PUBLISHED = "published"
RUN = "run"

# The columns of a board in addition to those of `load_runs`; the `marks` of a published row are its caveats.
_OWN_COLUMNS = {
    "origin": "`published` or `run`",
    "group": "how a published row deviates from its protocol; empty if it does not",
    "half": "which number of a published pair a/b this is",
    "text": "the number exactly as published",
    "spread": "the number after the plus-minus sign, exactly as published",
    "table": "table of Ho et al. 2022, or `later`",
    "source": "paper that states the number",
    "apart": "why a run is not ranked with published rows; empty if it is",
}
BOARD_COLUMNS = (*RANK_COLUMNS, *_OWN_COLUMNS, *(column.name for column in COLUMNS))

Row = Mapping[str, Any]
"""A row of a frame; missing values are None."""


@dataclass(frozen=True, eq=False)
class ScoreGroup:
    """Scores with the same digest, best first.

    Attributes:
        metric: name of the metric.
        digest: digest of the signature, the same for all rows.
        signature: the signature; without the version if the rows' versions differ.
        higher_is_better: direction of the metric.
        n_reference: number of reference clips, or None if the rows differ.
        n_generated: number of generated clips, or None if the rows differ.
        floor: expected score of a perfect model, or None if it is unknown or the rows differ.
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
        """Return the signature keys in which two groups differ, as (key, value here, value there)."""
        return Signature.parse(self.signature).differences(Signature.parse(other.signature))


def group_scores(frame: pd.DataFrame) -> list[ScoreGroup]:
    """Group the rows of `load_runs` by digest and rank each group.

    The rows of a group are sorted best first. Equal values share a `rank` and are sorted by name, time and path.
    Rows without a value come last and have no rank. The column `mark` is `best` for the first row, if it has a
    value, and `tie` for every other row

    - whose interval overlaps that of the best row (ends included, at the same level); or
    - whose value equals that of the best row.

    A tie means that these numbers do not separate the two rows, not that the two are equally good. Two rows that
    tie with the best need not tie with each other.

    Groups are sorted by metric name, then by number of rows and of generated clips, largest first.

    Raises:
        InputError: rows with the same digest disagree about the direction of the metric.
    """
    groups = [_group(str(digest), rows) for digest, rows in frame.groupby("digest")]
    return sorted(
        groups, key=lambda group: (group.metric, -len(group.rows), -(group.n_generated or 0), group.digest)
    )


def _group(digest: str, rows: pd.DataFrame) -> ScoreGroup:
    higher_is_better = _shared(rows, "higher_is_better")
    if higher_is_better is None:
        raise InputError(
            f"the records {', '.join(sorted(rows['path']))} disagree about the direction of "
            f"{rows['metric'].iloc[0]}; leave out the wrong one"
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
    """Return the value of a column as a plain Python value if all rows share it, else None."""
    values = rows[column].drop_duplicates().tolist()
    return None if len(values) > 1 or values[0] is pd.NA else values[0]


def _without_version(signature: str) -> str:
    parsed = Signature.parse(signature)
    return str(Signature(parsed.metric, tuple(pair for pair in parsed.fields if pair[0] != "v")))


def ranked(rows: pd.DataFrame, *, higher_is_better: bool) -> pd.DataFrame:
    """Sort rows best first and add the columns `rank` and `mark`, as `group_scores` describes."""
    if len(rows) > 1:
        rows = rows.sort_values(
            ["value", "name", "created", "path"], ascending=[not higher_is_better, True, True, True]
        )
    rows = rows.reset_index(drop=True)
    rank = rows["value"].rank(method="min", ascending=not higher_is_better).astype("Int64")
    mark = pd.Series(pd.NA, index=rows.index, dtype="string")
    if rows["value"].notna().iloc[0]:
        if len(rows) > 1:
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


@dataclass(frozen=True, eq=False)
class Board:
    """Rows that are ranked together, best first.

    Attributes:
        protocol: its name; empty for runs without one.
        metric: name of the metric.
        group: how the published rows deviate from the protocol; empty if they do not, and if there are only runs.
        half: which number of a published pair a/b this is; `group` ends in it.
        pair: the group without `half`.
        higher_is_better: direction of the metric.
        rows: the columns `BOARD_COLUMNS`.
        apart: for runs that are not ranked with published rows, their group from `group_scores`; else None.
    """

    protocol: str
    metric: str
    group: str
    half: str
    pair: str
    higher_is_better: bool
    rows: pd.DataFrame
    apart: ScoreGroup | None = None

    @cached_property
    def plain(self) -> list[Row]:
        """The rows, what is missing as None."""
        return plain_rows(self.rows)


def make_boards(published: Sequence[PublishedRow], runs: pd.DataFrame) -> list[Board]:
    """Rank published rows together with your runs.

    Protocols, metrics and groups keep the order of the published rows, with the empty group first. Runs that may
    not be ranked with published rows follow the boards of their metric, one board per digest.

    Args:
        published: rows from `published_rows`.
        runs: the frame from `load_runs`, with an added column `apart`: why a row may not be ranked with published
            rows; empty if it may. `vdm_bench.protocols.eligibility.with_apart` adds it.

    Raises:
        InputError: the column `apart` is missing, or `group_scores` raises it.
    """
    if "apart" not in runs.columns:
        raise InputError(
            "the frame of runs has no column `apart`, which says why a run is not ranked with published rows; "
            "add it with vdm_bench.protocols.eligibility.with_apart"
        )
    boards = []
    for protocol in dict.fromkeys([*(row.protocol for row in published), *_protocols(runs)]):
        there = [row for row in published if row.protocol == protocol]
        here = runs[runs["protocol"].fillna("") == protocol]
        for metric in dict.fromkeys([*(row.metric for row in there), *sorted(here["metric"].unique())]):
            rows = [row for row in there if row.metric == metric]
            boards += _of_metric(protocol, metric, rows, here[here["metric"] == metric])
    return boards


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dictionaries."""
    # `to_dict` takes ten times as long for the many frames of a row each.
    columns = [frame[column].tolist() for column in frame.columns]
    names = list(map(str, frame.columns))
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def plain_rows(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame as dictionaries, with None for missing values."""
    return [{key: None if value is pd.NA else value for key, value in row.items()} for row in records(frame)]


def _protocols(runs: pd.DataFrame) -> list[str]:
    names = sorted(runs["protocol"].fillna("").unique())
    return [*filter(None, names), *(name for name in names if not name)]


def _of_metric(protocol: str, metric: str, published: Sequence[PublishedRow], runs: pd.DataFrame) -> list[Board]:
    groups = sorted(dict.fromkeys(row.group for row in published), key=bool)
    own = _apart_of_one_another(runs) if "" in groups else runs.assign(apart="")
    among = own[own["apart"] == ""] if "" in groups else own[:0]
    boards = []
    for group in groups:
        rows = [row for row in published if row.group == group]
        first = rows[0]
        frame = _ranked_models(rows, among if not group else among[:0], higher_is_better=first.higher_is_better)
        boards.append(Board(protocol, metric, group, first.half, first.pair, first.higher_is_better, frame))
    apart = _frame([], own.drop(index=among.index))
    return boards + [
        Board(protocol, metric, "", "", "", scores.higher_is_better, scores.rows, scores)
        for scores in (group_scores(apart) if len(apart) else [])
    ]


def _apart_of_one_another(runs: pd.DataFrame) -> pd.DataFrame:
    """Let only the runs of one digest be ranked with published rows: different digests are not comparable.

    The digest of the most runs is chosen; in a tie, that of the latest run.
    """
    among = runs[runs["apart"] == ""]
    digests = among.groupby("digest")["created"].agg(["size", "max"]).sort_values(["size", "max"])
    if len(digests) < 2:
        return runs
    chosen = digests.index[-1]
    reason = f"its signature is not that of the own runs among them, which have the digest {chosen}"
    others = (runs["apart"] == "") & (runs["digest"] != chosen)
    return runs.assign(apart=runs["apart"].mask(others, reason))


def _ranked_models(
    published: Sequence[PublishedRow], runs: pd.DataFrame, *, higher_is_better: bool
) -> pd.DataFrame:
    """Rank the rows of models; rows of real clips come last, without a rank."""
    models = _frame([row for row in published if not row.is_real], runs)
    real = _frame([row for row in published if row.is_real], runs[:0])
    frame = ranked(models, higher_is_better=higher_is_better)
    return pd.concat([frame, real], ignore_index=True) if len(real) else frame


def _frame(published: Sequence[PublishedRow], runs: pd.DataFrame) -> pd.DataFrame:
    """Put published rows and runs under the columns of a board; a field that a row lacks is missing."""
    rows: list[dict[str, Any]] = [*map(_published, published), *({"origin": RUN, **row} for row in records(runs))]
    columns = dict.fromkeys(_OWN_COLUMNS, "string") | {column.name: column.dtype for column in COLUMNS}
    nullable = {"int64": "Int64", "bool": "boolean"}
    return pd.DataFrame(
        {
            name: pd.Series([row.get(name) for row in rows], dtype=nullable.get(dtype, dtype))
            for name, dtype in columns.items()
        }
    )


def _published(row: PublishedRow) -> dict[str, Any]:
    taken = {
        key: value
        for key, value in asdict(row).items()
        if key not in ("method", "caveats", "spread", "spread_text")
    }
    return {
        **taken,
        "origin": PUBLISHED,
        "name": row.method,
        "spread": row.spread_text or None,
        "marks": row.caveats,
        "departures": (),
        "status": "ok",
    }
