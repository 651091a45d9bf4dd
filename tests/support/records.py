"""Builders of scores, counts, records and notes on them, each complete, with fields that may be given."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from vdm_bench.leaderboards.record import (
    SCHEMA_VERSION,
    ClipCounts,
    Environment,
    ProtocolInfo,
    Record,
    SamplerInfo,
)
from vdm_bench.leaderboards.verified import Verification, record_digest
from vdm_bench.metrics.score import Interval, Score, Signature


def build_score(
    value: float | None = 10.0,
    *,
    metric: str = "fvd",
    n: int = 256,
    ends: tuple[float, float] | None = None,
    level: float = 0.95,
    version: str = "0.1.0",
    **fields: Any,
) -> Score:
    signature = Signature.of(metric, {"n": str(n)} | fields.pop("signed", {}) | {"v": version})
    interval = Interval(*ends, level, "jackknife-20") if ends else None
    given = {"higher_is_better": False, "n_reference": 256, "n_generated": n, **fields}
    return Score(metric, value, signature=str(signature), digest=signature.digest, interval=interval, **given)


def build_counts(**fields: Any) -> ClipCounts:
    given = {"source": "clips", "expected": 256, "scored": 256, "skipped": [], "repeated": 0, "lossy": False}
    return ClipCounts(**{**given, **fields})


def build_record(name: str = "model", *scores: Score, departures: tuple[str, ...] = (), **fields: Any) -> Record:
    given = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "created": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        "protocol": ProtocolInfo(name="bair-prediction", digest="ab12", departures=list(departures)),
        "sampler": SamplerInfo(kind="baseline", spec="baseline:copy", settings={"steps": 4}, seed=7),
        "reference": build_counts(source="bair/test"),
        "generated": build_counts(source="baseline:copy", expected=2048, scored=2048),
        "scores": list(scores),
        "timing_seconds": {"features": 1.5},
        "environment": Environment(
            python="3.11.7",
            platform="Linux x86_64",
            packages={"torch": "2.13.0"},
            device="cpu",
            code_version="0.1.0",
            code_revision=None,
            code_dirty=None,
        ),
    }
    return Record(**{**given, **fields})


def build_note(record: bytes) -> Verification:
    """Build the note that a record, of these bytes, was verified."""
    return Verification(
        record_sha256=record_digest(record),
        verified=datetime(2026, 3, 5, tzinfo=UTC),
        code_version="0.1.0",
        device="cpu",
        protocol="bair-prediction",
        clips=256,
        computed_again=26,
        seed=5,
        checks={"scores": "as recorded"},
    )


def with_reasons(frame: pd.DataFrame, why: Callable[[Mapping[str, Any]], str] = lambda row: "") -> pd.DataFrame:
    """Say of each row of `load_runs` why it must not stand among published rows; by default it may."""
    return frame.assign(apart=[why(row) for row in frame.to_dict("records")]).astype({"apart": "string"})
