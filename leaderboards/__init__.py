"""Run records, and tables of them: only scores with equal signatures are ranked together.

The names below are loaded on first use, so that importing this package stays cheap: only `load_runs`,
`group_scores` and `format_tables` import pandas.
"""

from typing import TYPE_CHECKING

from vdm_bench.runtime.lazy import lazy

if TYPE_CHECKING:
    from vdm_bench.leaderboards.ranking import ScoreGroup as ScoreGroup
    from vdm_bench.leaderboards.ranking import group_scores as group_scores
    from vdm_bench.leaderboards.record import ClipCounts as ClipCounts
    from vdm_bench.leaderboards.record import Environment as Environment
    from vdm_bench.leaderboards.record import ProtocolInfo as ProtocolInfo
    from vdm_bench.leaderboards.record import Record as Record
    from vdm_bench.leaderboards.record import SamplerInfo as SamplerInfo
    from vdm_bench.leaderboards.record import SkippedClip as SkippedClip
    from vdm_bench.leaderboards.record import read_record as read_record
    from vdm_bench.leaderboards.record import write_record as write_record
    from vdm_bench.leaderboards.schema import record_schema as record_schema
    from vdm_bench.leaderboards.store import COLUMNS as COLUMNS
    from vdm_bench.leaderboards.store import find_records as find_records
    from vdm_bench.leaderboards.store import load_runs as load_runs
    from vdm_bench.leaderboards.tables.formats import format_tables as format_tables

_HOMES = {
    "COLUMNS": "store",
    "ClipCounts": "record",
    "Environment": "record",
    "ProtocolInfo": "record",
    "Record": "record",
    "SamplerInfo": "record",
    "ScoreGroup": "ranking",
    "SkippedClip": "record",
    "find_records": "store",
    "format_tables": "tables.formats",
    "group_scores": "ranking",
    "load_runs": "store",
    "read_record": "record",
    "record_schema": "schema",
    "write_record": "record",
}
__all__ = list(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
