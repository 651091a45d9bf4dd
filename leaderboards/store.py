"""Run records on the disk, and as one data frame with a row for every score."""

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record, StoredRecord
from vdm_bench.leaderboards.text import encodable
from vdm_bench.leaderboards.verified import is_verified
from vdm_bench.metrics.score import Score
from vdm_bench.runtime.printable import printable
from vdm_bench.runtime.run_folder import RECORD_FILE


@dataclass(frozen=True)
class _Row:
    path: str
    run: Record
    score: Score
    verified: bool

    def of_protocol(self, field: str) -> Any:
        return getattr(self.run.protocol, field, None)

    def of_interval(self, field: str) -> Any:
        return getattr(self.score.interval, field, None)

    def of_infinite(self, field: str) -> Any:
        return getattr(self.score.infinite, field, None)


@dataclass(frozen=True)
class Column:
    """A column of the frame that `load_runs` gives.

    Attributes:
        name: its name.
        dtype: its pandas dtype, also where there are no rows; nullable where a value can be missing.
        description: what it holds.
        value: how it is taken from a record and one of its scores.
    """

    name: str
    dtype: str
    description: str
    value: Callable[[_Row], Any]


COLUMNS = (
    Column("name", "string", "how the model is called", lambda row: row.run.name),
    Column("protocol", "string", "protocol followed, if any", lambda row: row.of_protocol("name")),
    Column("protocol_digest", "string", "digest of the protocol", lambda row: row.of_protocol("digest")),
    Column(
        "departures",
        "object",
        "tuple of texts: how the run departs from its protocol",
        lambda row: tuple(row.of_protocol("departures") or ()),
    ),
    Column("sampler", "string", "the sampler as the user gave it", lambda row: row.run.sampler.spec),
    Column("seed", "Int64", "seed of the run, if any", lambda row: row.run.sampler.seed),
    Column("metric", "string", "name of the recipe", lambda row: row.score.metric),
    Column("value", "Float64", "the score; missing where status is not ok", lambda row: row.score.value),
    Column("low", "Float64", "lower end of the interval", lambda row: row.of_interval("low")),
    Column("high", "Float64", "upper end of the interval", lambda row: row.of_interval("high")),
    Column("level", "Float64", "coverage the interval aims at", lambda row: row.of_interval("level")),
    Column("floor", "Float64", "what a perfect model is expected to score", lambda row: row.score.floor),
    Column("infinite", "Float64", "value at infinitely many clips", lambda row: row.of_infinite("value")),
    Column("infinite_low", "Float64", "lower end of its interval", lambda row: row.of_infinite("low")),
    Column("infinite_high", "Float64", "upper end of its interval", lambda row: row.of_infinite("high")),
    Column("higher_is_better", "bool", "direction of the metric", lambda row: row.score.higher_is_better),
    Column("n_reference", "int64", "reference clips behind the value", lambda row: row.score.n_reference),
    Column("n_generated", "int64", "generated clips behind the value", lambda row: row.score.n_generated),
    Column("digest", "string", "equal digest = comparable", lambda row: row.score.digest),
    Column("signature", "string", "how the score was made", lambda row: row.score.signature),
    Column("status", "string", "ok, or why there is no value", lambda row: row.score.status),
    Column("marks", "object", "tuple of texts: warnings about the value", lambda row: row.score.marks),
    Column(
        "skipped",
        "int64",
        "clips skipped, reference and generated together",
        lambda row: len(row.run.reference.skipped) + len(row.run.generated.skipped),
    ),
    Column(
        "verified",
        "bool",
        "whether `vdm-bench verify` has computed the scores again; else they are as reported",
        lambda row: row.verified,
    ),
    Column("created", "datetime64[us, UTC]", "when the run ended", lambda row: row.run.created),
    Column("code_version", "string", "version of vdm-bench", lambda row: row.run.environment.code_version),
    Column("path", "string", "the record, as it was found", lambda row: row.path),
)


def find_records(path: str | Path) -> list[Path]:
    """Find the records under a path, sorted.

    A file is taken as a record itself; a folder is searched for `run.json`, with all its subfolders but the
    hidden ones.

    Raises:
        InputError: nothing is found, or a folder cannot be read.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path} does not exist; give a run folder, a folder of such, or a {RECORD_FILE}")
    found = []
    for folder, subfolders, files in os.walk(path, onerror=_refuse_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if RECORD_FILE in files:
            found.append(Path(folder, RECORD_FILE))
    if not found:
        raise InputError(f"no {RECORD_FILE} in {path} or below; give a folder that a run was written to")
    return sorted(found)


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(f"cannot search {error.filename}: {error.strerror}; fix its permissions") from error


def read_records(
    paths: str | Path | Iterable[str | Path], *, note: Callable[[str], None] | None = None
) -> list[StoredRecord]:
    """Read all records under one or several paths, each once.

    A record in a folder that is not sound is left out; one that is named itself, as a file, is refused.

    Args:
        paths: run folders, folders of them, or records.
        note: told which record was left out and why, a sentence each; a Python warning by default.

    Raises:
        InputError: a path without a record, or no sound record in all the folders.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found = {record.resolve(): record for path in given for record in find_records(path)}
    named = {Path(path).resolve() for path in given}
    records, wrong = [], []
    seen: set[str] = set()
    for resolved, path in found.items():
        try:
            if (text := encodable(str(path))) in seen:
                raise InputError(f"{path} reads like the path of another record; rename its folder")
            seen.add(text)
            records.append(StoredRecord.read(path))
        except InputError as error:
            if resolved in named or len(found) == 1:
                raise
            wrong.append(error)
    if wrong and not records:
        raise InputError(f"of {len(wrong)} records none is valid; the first: {wrong[0]}") from wrong[0]
    for bad in wrong:
        (note or _warn)(str(bad))
    return records


def load_runs(
    paths: str | Path | Iterable[str | Path], *, note: Callable[[str], None] | None = None
) -> pd.DataFrame:
    """Read all records under one or several paths into a frame: one row a score, a record once.

    The columns are those of `COLUMNS`; their order and dtypes are the same for any number of rows.

    Args:
        paths: run folders, folders of them, or records; see `read_records` for those that are not sound.
        note: told which record was left out and why, a sentence each; a Python warning by default.

    Raises:
        InputError: a path without a record, or no sound record in all the folders.
    """
    return frame_of_records(read_records(paths, note=note), note=note)


def frame_of_records(
    records: Iterable[StoredRecord], *, note: Callable[[str], None] | None = None
) -> pd.DataFrame:
    """Return the frame of records that were read, as `load_runs` does.

    Args:
        records: as `read_records` gives them.
        note: told which `verified.json` was damaged and left out, a sentence each; a Python warning by default.
    """
    rows: list[_Row] = []
    for found in records:
        try:
            verified = is_verified(found.path, found.data)
        except InputError as error:
            verified = False
            (note or _warn)(str(error))
        rows += _rows(encodable(str(found.path)), found.record, verified=verified)
    return _frame(rows)


def frame_of(record: Record) -> pd.DataFrame:
    """Return the frame of one record that is in memory; its `path` is empty."""
    return _frame(_rows("", record, verified=False))


def _rows(path: str, record: Record, *, verified: bool) -> list[_Row]:
    return [_Row(path, record, score, verified) for score in record.scores]


def _warn(text: str) -> None:
    warnings.warn(printable(f"left out: {text}"), stacklevel=4)


def _frame(rows: list[_Row]) -> pd.DataFrame:
    return pd.DataFrame(
        {column.name: pd.Series([column.value(row) for row in rows], dtype=column.dtype) for column in COLUMNS}
    )
