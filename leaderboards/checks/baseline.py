"""The baseline of a check: one JSON file of runs, kept in the repository next to the code that it guards."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import (
    Record,
    first_wrong_field,
    json_text,
    parse_json,
    parse_record,
    require_unchanged,
    sealed_record,
    unambiguous_json,
)
from vdm_bench.runtime.files import decode_text, write_text
from vdm_bench.runtime.input_files import read_file
from vdm_bench.runtime.run_folder import RECORD_FILE

BASELINE_VERSION: Final = 1

Key = tuple[str, str]  # protocol, name


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    baseline_version: Literal[1] = Field(description="Version of this format.")
    runs: list[Record]


def key_of(record: Record) -> Key:
    """Return the key of a run in a baseline: the name of its protocol (empty if it has none) and its own."""
    return (record.protocol.name if record.protocol else "", record.name)


def title_of(record: Record) -> str:
    """Return the title of a run for messages, such as `blurred on shapes-unconditional`."""
    return f"{record.name} on {record.protocol.name}" if record.protocol else record.name


@dataclass(frozen=True)
class Baseline:
    """The runs of a baseline, by protocol and name.

    Attributes:
        path: path of the baseline file, or of the run record that takes its place.
        runs: the runs by key; empty if the file does not exist.
        exists: whether the file exists.
        single: whether a run record takes the place of the file; then every run is compared with it, whatever
            their names.
    """

    path: Path
    runs: dict[Key, Record]
    exists: bool = True
    single: bool = False

    @classmethod
    def read(cls, path: Path) -> "Baseline":
        """Read a baseline file, a run record, or a run folder.

        Raises:
            InputError: it cannot be read, or is not valid.
        """
        if path.is_dir():
            path = path / RECORD_FILE
        if not path.exists():
            return cls(path, {}, exists=False)
        return cls.parse(read_file(path, _unreadable), path)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "Baseline":
        """Parse a baseline from `data`, the bytes of the file `path`; see `read`."""
        content = parse_json(data, path)
        if not isinstance(content, dict) or "baseline_version" not in content:
            return cls(path, _by_key([parse_record(data, path)], path), single=True)
        return cls(path, _by_key(_parse(data, content, path), path))

    def run_for(self, record: Record) -> Record | None:
        """Return the run to compare a run with: that of its protocol and name, or the single one; or None."""
        if self.single:
            return next(iter(self.runs.values()))
        return self.runs.get(key_of(record))

    def changes(self, records: Iterable[Record], *, only_new: bool = False) -> "list[BaselineChange]":
        """Return what storing runs would change: each replaces the run with its protocol and name.

        A run with the same scores as the one in the baseline does not replace it, to keep the file unchanged.

        Args:
            records: the runs.
            only_new: whether to leave all runs in the baseline as they are.

        Raises:
            InputError: two of the runs have the same name and protocol.
        """
        found = [
            BaselineChange(run, self.runs.get(key)) for key, run in _by_key(records, "what is checked").items()
        ]
        return [
            change
            for change in found
            if change.replaced is None or not (only_new or change.replaced.scores == change.run.scores)
        ]

    def updated(self, records: Iterable[Record], *, only_new: bool = False) -> "Baseline":
        """Return the baseline after the changes of `changes`."""
        changes = self.changes(records, only_new=only_new)
        return Baseline(self.path, {**self.runs, **{key_of(change.run): change.run for change in changes}})

    def write(self) -> None:
        """Write the file atomically, sorted by protocol and name; equal baselines give equal bytes.

        Raises:
            InputError: the path is that of a run's own record, or cannot be written.
        """
        if self.path.name == RECORD_FILE:
            raise InputError(f"{self.path} is the record of a run; give another --baseline FILE to write to")
        runs = [sealed_record(self.runs[key]) for key in sorted(self.runs)]
        write_text(self.path, json_text({"baseline_version": BASELINE_VERSION, "runs": runs}))


@dataclass(frozen=True)
class BaselineChange:
    """A run that is stored in a baseline.

    Attributes:
        run: the run.
        replaced: the run that it replaces, or None if it is added.
    """

    run: Record
    replaced: Record | None


def _by_key(records: Iterable[Record], source: object) -> dict[Key, Record]:
    runs: dict[Key, Record] = {}
    for record in records:
        if key_of(record) in runs:
            raise InputError(
                f"{source} has two runs with the same protocol and the name {record.name!r}; give one of them "
                "another --name"
            )
        runs[key_of(record)] = record
    return runs


def _unreadable(source: str, reason: str) -> InputError:
    return InputError(f"{source} cannot be read: {reason}; fix it, or give another --baseline")


def _parse(data: bytes, content: dict[str, Any], path: Path) -> list[Record]:
    version = content["baseline_version"]
    if isinstance(version, int) and version > BASELINE_VERSION:
        raise InputError(f"{path} was written by a newer version of vdm-bench; update vdm-bench to read it")
    text = decode_text(data, path)
    try:
        runs = _File.model_validate_json(text, strict=True).runs
    except ValidationError as error:
        raise InputError(
            f"{path} is not a baseline: {first_wrong_field(error)}; fix the field, or delete the file and "
            "create it again with --update-baseline"
        ) from error
    # One checksum per run, because a checksum of the file would conflict in every merge.
    for run, said in zip(runs, unambiguous_json(text, path)["runs"], strict=True):
        require_unchanged(said, f"{path}, its run {title_of(run)!r},", "restore it, or create it again")
    return runs
