"""Log records to experiment trackers: MLflow, Weights & Biases, TensorBoard, and those that packages add.

A tracker is given as text, such as `mlflow:http://localhost:5000`: its name, then its target after a colon. A
package adds one with an entry point in the group `vdm_bench.trackers`: a callable that takes the target, which is
empty if there is no colon, and returns a `Tracker`.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record, StoredRecord
from vdm_bench.leaderboards.text import encodable
from vdm_bench.runtime.printable import printable

GROUP = "vdm_bench.trackers"

Fact = str | int | float | bool


class Tracker(Protocol):
    """Logs records. Logging the same record again must not create a second run."""

    def log(self, run: "LoggedRun") -> None:
        """Log a run unless it is already logged; an exception says why that failed."""


@dataclass(frozen=True)
class LoggedRun:
    """A run to be logged.

    Attributes:
        path: path of its record, which is logged as a file.
        record: the record.
        key: SHA-256 of the record file; identifies the run in every tracker.
    """

    path: Path
    record: Record
    key: str

    @classmethod
    def of(cls, stored: StoredRecord) -> "LoggedRun":
        """Return the run of a stored record."""
        return cls(stored.path, stored.record, hashlib.sha256(stored.data).hexdigest())

    @property
    def board(self) -> str:
        """Name of the experiment or project that the run belongs to; there is one per protocol."""
        return f"vdm-bench {self.record.protocol.name}" if self.record.protocol else "vdm-bench"

    @property
    def metrics(self) -> dict[str, float]:
        """Scores by metric and digest, such as `fvd/bc6df3be4b03`, so incomparable scores never share a name.

        The suffixes `.low`, `.high`, `.floor` and `.infinite` name the other numbers of a score, if it has them.
        """
        found: dict[str, float] = {}
        for score in self.record.scores:
            interval, infinite = score.interval, score.infinite
            numbers = {
                "": score.value,
                ".low": interval.low if interval else None,
                ".high": interval.high if interval else None,
                ".floor": score.floor,
                ".infinite": infinite.value if infinite else None,
            }
            name = f"{score.metric}/{score.digest}"
            found |= {f"{name}{end}": number for end, number in numbers.items() if number is not None}
        return found

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Per-frame values as pairs (index of the frame, value), by name."""
        return {
            f"curve/{metric}": list(zip(curve.frames, curve.values, strict=True))
            for metric, curve in self.record.curves.items()
        }

    @property
    def facts(self) -> dict[str, Fact]:
        """Everything that the scores depend on, by name: protocol, settings, signatures, environment, ..."""
        record = self.record
        protocol = record.protocol
        found: dict[str, Fact | None] = {
            "protocol": protocol.name if protocol else None,
            "protocol_digest": protocol.digest if protocol else None,
            "departures": "; ".join(protocol.departures) if protocol and protocol.departures else None,
            "created": record.created.isoformat(),
            "sampler": record.sampler.spec,
            "sampler_kind": record.sampler.kind,
            "seed": record.sampler.seed,
            "clips_reference": record.reference.scored,
            "clips_generated": record.generated.scored,
            "clips_skipped": len(record.reference.skipped) + len(record.generated.skipped),
            **{f"settings/{name}": value for name, value in record.sampler.settings.items()},
        }
        for score in record.scores:
            found[f"signature/{score.metric}"] = score.signature
            found[f"status/{score.metric}"] = None if score.status == "ok" else score.status
            found[f"marks/{score.metric}"] = "; ".join(score.marks) or None
        environment = record.environment.model_dump()
        packages = environment.pop("packages")
        found |= {f"environment/{name}": value for name, value in environment.items()}
        found |= {f"environment/packages/{name}": version for name, version in packages.items()}
        return {name: value for name, value in found.items() if value is not None}


def tracker_names() -> list[str]:
    """Return the names of the available trackers, sorted."""
    return sorted({*_OWN, *(entry.name for entry in entry_points(group=GROUP))})


def open_tracker(spec: str) -> Tracker:
    """Return the tracker for a text such as `tensorboard:logs`.

    Raises:
        InputError: there is no such tracker, the text cannot be encoded as UTF-8, or the tracker's library is not
            installed.
    """
    name, _, target = spec.partition(":")
    found = _OWN.get(name) or next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise InputError(f"there is no tracker {name!r} to log to; choose one of {', '.join(tracker_names())}")
    if target != encodable(target):
        raise InputError(f"{spec} is not UTF-8 text, which trackers need; choose another place to log to")
    make: Callable[[str], Tracker] = found.load()
    return make(target)


_OWN = {
    name: EntryPoint(name, f"{__name__}.{name}:{name.title()}Tracker", GROUP)
    for name in ("mlflow", "tensorboard", "wandb")
}


def log_record(stored: StoredRecord, trackers: Mapping[str, Tracker]) -> list[str]:
    """Log a record to trackers. A tracker that fails does not affect the others.

    Args:
        stored: the record and its file.
        trackers: trackers by the text that opened them.

    Returns:
        One sentence per tracker that failed.
    """
    run, failed = LoggedRun.of(stored), []
    for spec, tracker in trackers.items():
        try:
            tracker.log(run)
        except Exception as error:  # third-party libraries and servers raise anything
            reason = printable(" ".join(str(error).split())) or type(error).__name__
            failed.append(
                f"cannot log {run.path} to {spec} ({reason}); the record itself is complete, and "
                f"`vdm-bench log {run.path} --to {spec}` tries again"
            )
    return failed


def library(module: str, extra: str) -> Any:
    """Import the library of a tracker.

    Raises:
        InputError: the library is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"logging to {extra} needs its library; pip install 'vdm-bench[{extra}]'") from error


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Return, for each name, a name that every tracker accepts.

    Letters, digits, `_`, `-`, `.`, spaces and slashes are kept; other characters become `_`.

    Raises:
        InputError: two names become the same, so one value would hide the other.
    """
    safe: dict[str, str] = {}
    for name in names:
        cleaned = _clean(name)
        if cleaned in safe.values():
            raise InputError(f"{name} becomes the same name as another one once special characters are replaced")
        safe[name] = cleaned
    return safe


def _clean(name: str) -> str:
    parts = re.sub(r"[^\w./ -]", "_", name).split("/")
    return "/".join(part for part in parts if part.strip(". ")) or "_"


def in_batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Split a sequence into parts of at most `size` items."""
    return (items[start : start + size] for start in range(0, len(items), size))
