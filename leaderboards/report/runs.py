"""The runs of a page: their records, their scores as a frame, and the records that could not be read."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from vdm_bench.leaderboards.record import Record, StoredRecord
from vdm_bench.leaderboards.store import frame_of_records, read_records
from vdm_bench.leaderboards.text import encodable

WITHOUT_PROTOCOL = "comparisons"
_ID_LENGTH = 12


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """One run of a page.

    Attributes:
        path: of its record.
        record: its contents.
        anchor: identifies the run within a page; derived from the contents of the record.
    """

    path: Path
    record: Record
    anchor: str

    @property
    def folder(self) -> Path:
        """Folder of the run, which may hold its clips."""
        return self.path.parent

    @property
    def protocol(self) -> str:
        """Name of its protocol, or `comparisons` where it has none."""
        return self.record.protocol.name if self.record.protocol else WITHOUT_PROTOCOL


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs, and the records that could not be read.

    Attributes:
        runs: sorted by name, then time.
        frame: their scores, as `load_runs` gives them.
        left_out: a sentence about each record that was refused.
    """

    runs: tuple[ReportedRun, ...]
    frame: pd.DataFrame
    left_out: tuple[str, ...] = ()

    @cached_property
    def by_path(self) -> dict[str, ReportedRun]:
        """The runs, by the column `path` of the frame."""
        return {encodable(str(run.path)): run for run in self.runs}

    @property
    def links(self) -> dict[str, str]:
        """The address within a page of each run's details, by the column `path` of the frame."""
        return {path: f"#{run.anchor}" for path, run in self.by_path.items()}

    def of(self, protocol: str) -> "Runs":
        """Return the runs of one protocol."""
        kept = tuple(run for run in self.runs if run.protocol == protocol)
        paths = [encodable(str(run.path)) for run in kept]
        return Runs(kept, self.frame[self.frame["path"].isin(paths)].reset_index(drop=True))


def read_runs(paths: str | Path | Iterable[str | Path]) -> Runs:
    """Read all records below the paths, each once. Invalid records found in a folder are skipped.

    Raises:
        InputError: a path without a record, an invalid record that was given as a file, or no valid record.
    """
    left_out: list[str] = []
    read = read_records(paths, note=left_out.append)
    read.sort(key=lambda run: (run.record.name, run.record.created, str(run.path)))
    return Runs(_with_anchors(read), frame_of_records(read, note=left_out.append), tuple(left_out))


def _with_anchors(read: Iterable[StoredRecord]) -> tuple[ReportedRun, ...]:
    """Give each run an anchor made from its contents; copies of a run are numbered."""
    seen: Counter[str] = Counter()
    runs = []
    for stored in read:
        digest = hashlib.sha256(stored.record.model_dump_json().encode()).hexdigest()[:_ID_LENGTH]
        seen[digest] += 1
        anchor = f"run-{digest}" + (f"-{seen[digest]}" if seen[digest] > 1 else "")
        runs.append(ReportedRun(stored.path, stored.record, anchor))
    return tuple(runs)
