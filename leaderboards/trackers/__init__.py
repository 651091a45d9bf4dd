"""Records handed to experiment trackers: MLflow, Weights & Biases, TensorBoard, and whatever a package adds.

A tracker is named by text such as `mlflow:http://localhost:5000`: its name, and what follows the colon. A package
adds one by an entry point in the group `vdm_bench.trackers`, whose object makes a `Tracker` of the text after the
colon (nothing, where there is no colon).
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
    """Takes records. The same record may come twice, and must not be there twice."""

    def log(self, run: "LoggedRun") -> None:
        """Keep a run, or leave it where it is there already; any exception says why that failed."""


@dataclass(frozen=True)
class LoggedRun:
    """What a tracker is given.

    Attributes:
        path: of the record, to be kept as a file beside the numbers.
        record: itself.
        key: SHA-256 of the file: names this run wherever it is logged.
    """

    path: Path
    record: Record
    key: str

    @classmethod
    def of(cls, stored: StoredRecord) -> "LoggedRun":
        """Take a record that was read."""
        return cls(stored.path, stored.record, hashlib.sha256(stored.data).hexdigest())

    @property
    def board(self) -> str:
        """Name of what the run belongs to: runs of unlike protocols do not belong together."""
        return f"vdm-bench {self.record.protocol.name}" if self.record.protocol else "vdm-bench"

    @property
    def metrics(self) -> dict[str, float]:
        """Scores by metric and digest, `fvd/bc6df3be4b03`: scores that are not comparable share no name.

        With `.low`, `.high`, `.floor` and `.infinite` behind it where there are such numbers.
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
        """Values frame by frame, as (number of the frame, value)."""
        return {
            f"curve/{metric}": list(zip(curve.frames, curve.values, strict=True))
            for metric, curve in self.record.curves.items()
        }

    @property
    def facts(self) -> dict[str, Fact]:
        """All that must be known to judge the scores: protocol, settings, signatures, environment, ..."""
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
    """Name the trackers that are there, sorted."""
    return sorted({*_OWN, *(entry.name for entry in entry_points(group=GROUP))})


def open_tracker(spec: str) -> Tracker:
    """Make the tracker of a text such as `tensorboard:logs`.

    Raises:
        InputError: there is none of this name, its place cannot be written as UTF-8, or the library behind it is
            not installed.
    """
    name, _, target = spec.partition(":")
    found = _OWN.get(name) or next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise InputError(f"there is no tracker {name!r} to log to; known are {', '.join(tracker_names())}")
    if target != encodable(target):
        raise InputError(f"{spec} is not UTF-8 text, which trackers need; choose another place to log to")
    make: Callable[[str], Tracker] = found.load()
    return make(target)


_OWN = {
    name: EntryPoint(name, f"{__name__}.{name}:{name.title()}Tracker", GROUP)
    for name in ("mlflow", "tensorboard", "wandb")
}


def log_record(stored: StoredRecord, trackers: Mapping[str, Tracker]) -> list[str]:
    """Log a record to trackers; what fails costs nothing but this.

    Args:
        stored: the record.
        trackers: by the text that each was opened by.

    Returns:
        A sentence for each that failed.
    """
    run, failed = LoggedRun.of(stored), []
    for spec, tracker in trackers.items():
        try:
            tracker.log(run)
        except Exception as error:  # of a library, or a server, of someone else
            reason = printable(" ".join(str(error).split())) or type(error).__name__
            failed.append(
                f"{spec} did not take {run.path} ({reason}); the record itself is whole, and "
                f"`vdm-bench log {run.path} --to {spec}` tries again"
            )
    return failed


def library(module: str, extra: str) -> Any:
    """Import the library behind a tracker.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"logging to {extra} needs its library; pip install 'vdm-bench[{extra}]'") from error


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Give, for each name, one that is safe as a path of a tracker.

    Letters, digits, `_`, `-`, `.` and blanks stay, between slashes.

    Raises:
        InputError: two names come out the same, and one value would hide the other.
    """
    safe: dict[str, str] = {}
    for name in names:
        cleaned = _clean(name)
        if cleaned in safe.values():
            raise InputError(f"{name} cannot be distinguished from another name once it is made safe")
        safe[name] = cleaned
    return safe


def _clean(name: str) -> str:
    parts = re.sub(r"[^\w./ -]", "_", name).split("/")
    return "/".join(part for part in parts if part.strip(". ")) or "_"


def in_batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Cut a sequence into parts of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
