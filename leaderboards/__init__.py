"""Leaderboards: run records, and tables in which unlike scores are never ranked together.

The names below are loaded when they are used, so that importing this package stays cheap: pandas comes
with `load_runs`, `group_scores` and `format_tables` alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdm_bench.leaderboards.ranking import ScoreGroup, group_scores
    from vdm_bench.leaderboards.record import (
        ClipCounts,
        Environment,
        ProtocolInfo,
        Record,
        SamplerInfo,
        SkippedClip,
        read_record,
        record_schema,
        write_record,
    )
    from vdm_bench.leaderboards.store import COLUMNS, find_records, load_runs
    from vdm_bench.leaderboards.tables.formats import format_tables

__all__ = [
    "COLUMNS",
    "ClipCounts",
    "Environment",
    "ProtocolInfo",
    "Record",
    "SamplerInfo",
    "ScoreGroup",
    "SkippedClip",
    "find_records",
    "format_tables",
    "group_scores",
    "load_runs",
    "read_record",
    "record_schema",
    "write_record",
]

_HOMES = {
    "groups": ("ScoreGroup", "group_scores"),
    "store": ("COLUMNS", "find_records", "load_runs"),
    "tables": ("format_tables",),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "record")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
