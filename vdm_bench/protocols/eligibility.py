"""Whether the score of a run is ranked with published results of the same protocol."""

import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vdm_bench.leaderboards.ranking import records
from vdm_bench.metrics.recipes import Recipe, recipes
from vdm_bench.metrics.score import Signature
from vdm_bench.metrics.weights import catalogue
from vdm_bench.protocols import Protocol, builtin_names, get_protocol


def with_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame of `load_runs` with a column `apart`: what `why_unranked` says of each row."""
    reasons = [why_unranked(row) for row in records(frame)]
    return frame.assign(apart=reasons).astype({"apart": "string"})


def why_unranked(row: Mapping[str, Any]) -> str:
    """Return why the score of a row of `load_runs` is not ranked with published results; empty if it is.

    It is ranked if the run followed a built-in protocol exactly and the score was computed by the recipe: with
    the published weights, in full precision, from losslessly stored clips.
    """
    name = row["protocol"]
    if pd.isna(name) or name not in builtin_names():
        return "it follows no protocol of this package"
    protocol = get_protocol(name)
    if row["protocol_digest"] != protocol.digest:
        return f"its protocol of this name has the digest {row['protocol_digest']}, not {protocol.digest}"
    if row["departures"]:
        return "it departs from its protocol"
    return _other_counts(row, protocol) or _other_signature(row)


def _other_counts(row: Mapping[str, Any], protocol: Protocol) -> str:
    recipe = _recipes().get(row["metric"])
    expected = {
        "generated": protocol.generated_count,
        "reference": protocol.reference_count if recipe is None or recipe.needs_reference else 0,
    }
    for kind, count in expected.items():
        if (found := row[f"n_{kind}"]) != count:
            return f"its value is of {found:,} {kind} clips, the protocol asks for {count:,}"
    return ""


def _other_signature(row: Mapping[str, Any]) -> str:
    fields = dict(Signature.parse(row["signature"]).fields)
    for key, expected in (("prec", "fp32"), ("src", "lossless")):
        if (found := fields.get(key, "(none)")) != expected:
            return f"its signature has {key}:{found}, not {expected}"
    recipe = _recipes().get(row["metric"])
    entry = catalogue().get(recipe.network) if recipe else None
    weights = fields.get("net", "").partition("@")[2].partition(":")[0] or "(none)"
    if entry and entry.content and not entry.content.startswith(weights):
        return f"its network has the weights {weights}, not those that are published, {entry.content[:8]}"
    return ""


@functools.cache
def _recipes() -> Mapping[str, Recipe]:
    # Cached: called for thousands of rows, and `recipes` reads the entry points of all installed packages.
    return recipes()
