"""Find run records on disk, and load them into a data frame with one row per score."""

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
    """A column of the frame from `load_runs`.

    Attributes:
        name: its name.
        dtype: its pandas dtype, even without rows; nullable if values can be missing.
        description: what it holds, in a few words.
        value: returns the value for a score and its record.
    """

    name: str
    dtype: str
    description: str
    value: Callable[[_Row], Any]


COLUMNS = (
    Column("name", "string", "name of the model", lambda row: row.run.name),
    Column("protocol", "string", "name of the protocol, if any", lambda row: row.of_protocol("name")),
    Column("protocol_digest", "string", "digest of the protocol", lambda row: row.of_protocol("digest")),
    Column(
        "departures",
        "object",
        "tuple of texts: how the run deviates from its protocol",
        lambda row: tuple(row.of_protocol("departures") or ()),
    ),
    Column("sampler", "string", "the sampler, as the user specified it", lambda row: row.run.sampler.spec),
    Column("seed", "Int64", "seed of the run, if any", lambda row: row.run.sampler.seed),
    Column("metric", "string", "name of the metric", lambda row: row.score.metric),
    Column("value", "Float64", "the score; missing if `status` is not `ok`", lambda row: row.score.value),
    Column("low", "Float64", "lower end of the confidence interval", lambda row: row.of_interval("low")),
    Column("high", "Float64", "upper end of the confidence interval", lambda row: row.of_interval("high")),
    Column("level", "Float64", "nominal coverage of the interval", lambda row: row.of_interval("level")),
    Column("floor", "Float64", "expected score of a perfect model at this N", lambda row: row.score.floor),
    Column("infinite", "Float64", "score extrapolated to infinite N", lambda row: row.of_infinite("value")),
    Column("infinite_low", "Float64", "lower end of its interval", lambda row: row.of_infinite("low")),
    Column("infinite_high", "Float64", "upper end of its interval", lambda row: row.of_infinite("high")),
    Column("higher_is_better", "bool", "whether higher is better", lambda row: row.score.higher_is_better),
    Column("n_reference", "int64", "number of reference clips", lambda row: row.score.n_reference),
    Column("n_generated", "int64", "number of generated clips", lambda row: row.score.n_generated),
    Column("digest", "string", "equal digests mean comparable scores", lambda row: row.score.digest),
    Column("signature", "string", "every setting that affects the score", lambda row: row.score.signature),
    Column("status", "string", "`ok`, or why there is no value", lambda row: row.score.status),
    Column("marks", "object", "tuple of texts: warnings about the score", lambda row: row.score.marks),
    Column(
        "skipped",
        "int64",
        "number of skipped clips, reference and generated together",
        lambda row: len(row.run.reference.skipped) + len(row.run.generated.skipped),
    ),
    Column(
        "verified",
        "bool",
        "whether `vdm-bench verify` has recomputed the scores; otherwise they are as reported",
        lambda row: row.verified,
    ),
    Column("created", "datetime64[us, UTC]", "when the run finished", lambda row: row.run.created),
    Column(
        "code_version",
        "string",
        "version of vdm-bench",
        lambda row: row.run.environment.code_version,
    ),
    Column("path", "string", "path of the record", lambda row: row.path),
)


def find_records(path: str | Path) -> list[Path]:
    """Return the paths of the records at or below a path, sorted.

    A file counts as a record. A folder and its subfolders, except hidden ones, are searched for `run.json`.

    Raises:
        InputError: there is no record, or a folder cannot be read.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path} does not exist; give a run folder, a folder of run folders, or a {RECORD_FILE}")
    found = []
    for folder, subfolders, files in os.walk(path, onerror=_refuse_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if RECORD_FILE in files:
            found.append(Path(folder, RECORD_FILE))
    if not found:
        raise InputError(f"no {RECORD_FILE} in {path} or below; give the --out folder of a run")
    return sorted(found)


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(f"cannot search {error.filename}: {error.strerror}; fix its permissions") from error


def read_records(
    paths: str | Path | Iterable[str | Path], *, note: Callable[[str], None] | None = None
) -> list[StoredRecord]:
    """Read all records at or below one or several paths, each once.

    An invalid record in a folder is left out; an invalid record file given as a path is an error.

    Args:
        paths: run folders, folders of them, or records.
        note: called with one sentence per record that is left out; by default, a Python warning is issued.

    Raises:
        InputError: a path has no record, or all records in the folders are invalid.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found = {record.resolve(): record for path in given for record in find_records(path)}
    named = {Path(path).resolve() for path in given}
    records, wrong = [], []
    seen: set[str] = set()
    for resolved, path in found.items():
        try:
            if (text := encodable(str(path))) in seen:
                raise InputError(f"{path} prints like the path of another record; rename its folder")
            seen.add(text)
            records.append(StoredRecord.read(path))
        except InputError as error:
            if resolved in named or len(found) == 1:
                raise
            wrong.append(error)
    if wrong and not records:
        raise InputError(f"none of the {len(wrong)} records is valid; the first: {wrong[0]}") from wrong[0]
    for bad in wrong:
        (note or _warn)(str(bad))
    return records


def load_runs(
    paths: str | Path | Iterable[str | Path], *, note: Callable[[str], None] | None = None
) -> pd.DataFrame:
    """Read all records at or below one or several paths into a frame with one row per score.

    The columns are those of `COLUMNS`; their order and dtypes do not depend on the rows. A record that several
    paths lead to is read once.

    Args:
        paths: run folders, folders of them, or records. An invalid record in a folder is left out; an invalid
            record file given as a path is an error.
        note: called with one sentence per record that is left out; by default, a Python warning is issued.

    Raises:
        InputError: a path has no record, or all records in the folders are invalid.
    """
    return frame_of_records(read_records(paths, note=note), note=note)


def frame_of_records(
    records: Iterable[StoredRecord], *, note: Callable[[str], None] | None = None
) -> pd.DataFrame:
    """Return the frame of records that are already read; see `load_runs`.

    Args:
        records: from `read_records`.
        note: called with one sentence per damaged `verified.json`; by default, a Python warning is issued.
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
    """Return the frame of one record in memory, with an empty `path`."""
    return _frame(_rows("", record, verified=False))


def _rows(path: str, record: Record, *, verified: bool) -> list[_Row]:
    return [_Row(path, record, score, verified) for score in record.scores]


def _warn(text: str) -> None:
    warnings.warn(printable(f"left out: {text}"), stacklevel=4)


def _frame(rows: list[_Row]) -> pd.DataFrame:
    return pd.DataFrame(
        {column.name: pd.Series([column.value(row) for row in rows], dtype=column.dtype) for column in COLUMNS}
    )
