"""The plan of a run: it is stored in the run folder, so that only the same run can be resumed there.

A plan has two parts: the requested settings, known at once, and what they resolve to, known once networks and
sampler are loaded. The first part is enough to refuse another run, or find a finished one, before anything is
loaded.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record, SamplerInfo, check_name
from vdm_bench.metrics.networks import ComputeConfig, entry_of
from vdm_bench.metrics.recipes import get_recipes
from vdm_bench.protocols import Protocol
from vdm_bench.reference_model.model import checkpoint_path
from vdm_bench.runtime.fields import Kind
from vdm_bench.runtime.plan import FolderPlan, as_json
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.runtime.stamps import stamp
from vdm_bench.samplers import REFERENCE, sampler_kind
from vdm_bench.samplers import check_name as check_sampler_name
from vdm_bench.samplers.base import Sampler
from vdm_bench.samplers.callable import module_digest
from vdm_bench.scoring.suite import MetricSuite
from vdm_bench.version import __version__

# Fields in which the plans of one run may differ: they find a finished run before anything is loaded.
_ASKED = "asked"
_MODULE = "sampler module"

_FIELDS: dict[str, Kind] = {
    "protocol": str,
    "protocol_digest": str,
    "clips": int,
    "data": str | None,
    "name": str,
    "sampler": dict,
    "skip_broken": bool,
    "missing videos": str | None,
    "networks": list[str],
    "sampler code": str | None,
    _MODULE: str | None,
    _ASKED: dict | None,
}
_OF_LATE = frozenset({"missing videos", _MODULE, _ASKED})  # not in plans of earlier versions
_TITLES = {"clips": "number of clips", "missing videos": "set of missing videos"}

ANOTHER_FOLDER = "choose another `out`, or delete it"


@dataclass(frozen=True)
class SampledClips:
    """Clips that a sampler generates in the run.

    Attributes:
        sampler: name of a baseline, `module:object`, or an object with `sample(request)`.
        options: `key=value` options of a sampler given by name.
        seed: seed of the run, in [0, 2**32).

    Raises:
        InputError: no sampler has this name, the object is not a sampler, an option is not text, or the seed is
            not a non-negative integer.
    """

    sampler: str | Sampler
    options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.sampler, str):
            check_sampler_name(self.sampler)
        elif not isinstance(self.sampler, Sampler):
            raise InputError(
                f"an object of type {type(self.sampler).__name__} is not a sampler: give the name of one, or an "
                "object with sample(request)"
            )
        for key, value in self.options.items():
            if not isinstance(value, str):
                raise InputError(f"the sampler's option {key} is {value!r}; give it as text: {str(value)!r}")
        _check_whole("seed", self.seed, 0)

    @property
    def described(self) -> dict[str, Any]:
        """The fields `kind`, `spec` and `seed` of the sampler in the record; known before it is built."""
        sampler = self.sampler
        if isinstance(sampler, str):
            kind, spec = sampler_kind(sampler), sampler
        else:
            kind, spec = sampler.kind, sampler.spec
        return {"kind": kind, "spec": spec, "seed": self.seed}


@dataclass(frozen=True)
class ExistingClips:
    """Clips that exist before the run.

    Attributes:
        path: a folder, a file, a clip archive or a run folder.
        fit: resize clips of any size by the protocol's rule.
    """

    path: Path
    fit: bool = False

    @property
    def settings(self) -> dict[str, bool]:
        """Settings of a record's sampler: how the clips are changed."""
        return {"fit": True} if self.fit else {}

    @property
    def described(self) -> dict[str, Any]:
        """The fields `kind`, `spec` and `seed` of the sampler in the record."""
        return {"kind": "folder", "spec": str(self.path), "seed": None}


ClipSource: TypeAlias = SampledClips | ExistingClips


@dataclass(frozen=True)
class RunOptions:
    """How a protocol is run: the source of the generated clips, and keyword arguments of `vdm_bench.run`.

    Raises:
        InputError: a number is out of range, or the name is invalid.
    """

    source: ClipSource
    data_root: Path | None = None
    reference_stats: Path | None = None
    limit: int | None = None
    skip_broken: bool = False
    computing: ComputeConfig = field(default_factory=ComputeConfig)
    workers: int = 2
    name: str | None = None
    recheck: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_whole("workers", self.workers, 1)
        if self.limit is not None:
            _check_whole("limit", self.limit, 2, "is too few; a score needs at least 2 clips")

    @property
    def run_name(self) -> str:
        """Name of the run in tables: its own, or that of the source of its clips."""
        return self.name or str(self.source.described["spec"])


def _check_whole(name: str, value: object, least: int, why: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"`{name}` is {value!r}, not a whole number")
    if value < least:
        raise InputError(f"`{name}` {value} {why or f'is less than {least}'}")


def ask(protocol: Protocol, options: RunOptions, count: int) -> dict[str, Any]:
    """Return all that a run's result depends on, as far as it is known before networks and sampler are loaded.

    Args:
        protocol: protocol of the run.
        options: options of the run.
        count: number of clips to generate.

    Raises:
        InputError: an unknown metric.
    """
    return {
        "protocol": protocol.name,
        "protocol_digest": protocol.digest,
        "clips": count,
        "data": None if options.data_root is None else str(options.data_root.resolve()),
        "name": options.run_name,
        "sampler": options.source.described,
        "skip_broken": options.skip_broken,
        _ASKED: _settings(protocol, options),
    }


def make_plan(
    asked: Mapping[str, Any], info: SamplerInfo, sampler: Sampler | None, suite: MetricSuite
) -> dict[str, Any]:
    """Return all that a run's result depends on.

    Args:
        asked: first part of the plan, from `ask`.
        info: description of the source of the clips.
        sampler: the sampler, for a digest of the file that defines it; None for existing clips.
        suite: the metrics with their networks.
    """
    return {
        **asked,
        "sampler": info.model_dump(mode="json"),
        "sampler code": None if sampler is None else sampler.code_digest,
        _MODULE: None if sampler is None else sampler.code_module,
        "networks": sorted({network.spec.cache_key for network in suite.networks}),
    }


def maker_of_clips(plan: Mapping[str, Any]) -> str:
    """Return a digest of everything in a plan that determines clip i; the number of clips does not."""
    deciding = {key: plan[key] for key in ("protocol_digest", "sampler", "sampler code")}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]


def is_finished(out: Path, asked: Mapping[str, Any], source: ClipSource) -> bool:
    """Return whether a folder holds a complete run that was requested with the same settings.

    If not, it may still be the same run: `keep_plan` decides once everything is loaded.

    Args:
        out: the run folder.
        asked: first part of the plan, from `ask`.
        source: source of the clips.

    Raises:
        InputError: the folder holds another run, or its plan is damaged or cannot be read.
    """
    plan, new = _plan_of(out), as_json(asked)
    old = plan.read()
    if old is None:
        return False
    if _refuse_another(plan, old, new, partial=True) or new[_ASKED] is None or old.get(_ASKED) != new[_ASKED]:
        return False
    return _same_code(old, source) and RunFolder(out).record.exists()


def contradictions(out: Path, record: Record) -> list[str]:
    """Return the names of the fields in which a record contradicts the plan in its folder.

    Raises:
        InputError: the plan is damaged or cannot be read.
    """
    plan = _plan_of(out).read() or {}
    digest = None if record.protocol is None else record.protocol.digest
    made: dict[str, tuple[object, object]] = {
        "protocol": (digest, plan.get("protocol_digest")),
        "sampler": (record.sampler.model_dump(mode="json"), plan.get("sampler")),
    }
    if record.sampler.seed is not None:  # fewer existing clips than requested are allowed
        made["number of clips"] = (record.generated.scored + len(record.generated.skipped), plan.get("clips"))
    return [name for name, (found, expected) in made.items() if found != expected]


def keep_plan(out: Path, plan: Mapping[str, Any], *, writes: bool) -> None:
    """Write the plan of a run into its folder, or refuse a folder that holds another run.

    A run of fewer clips is continued, because clip i is the same in both. Its record, if any, is kept next to the
    new one as `run-N.json`, with N its number of clips.

    Args:
        out: the run folder.
        plan: plan of the run.
        writes: whether this process writes files.

    Raises:
        InputError: the folder holds another run, or its plan is damaged or cannot be read.
    """
    folder, new = _plan_of(out), as_json(plan)
    old = folder.read()
    grows = old is not None and _refuse_another(folder, old, new)
    if writes and old != new:
        # In this order: a record next to a plan of more clips would be taken for theirs.
        if old is not None and grows:
            with contextlib.suppress(FileNotFoundError):
                RunFolder(out).record.replace(RunFolder(out).earlier_record(old["clips"]))
        folder.write(new)


def _plan_of(out: Path) -> FolderPlan:
    return FolderPlan(RunFolder(out).plan, "a run", _FIELDS, _OF_LATE, ANOTHER_FOLDER, _TITLES)


def _refuse_another(
    plan: FolderPlan, old: Mapping[str, Any], new: Mapping[str, Any], *, partial: bool = False
) -> bool:
    """Refuse a folder with another run; return whether it is a run of fewer clips, to be continued.

    A plan is `partial` while the sampler has not been built.
    """
    grows = bool(old["clips"] < new["clips"])
    plan.require_same(old, new, {_ASKED, _MODULE, *(["clips"] if grows else [])}, partial=partial)
    return grows


def _settings(protocol: Protocol, options: RunOptions) -> dict[str, Any] | None:
    """Return all other settings of a run with digests of the files they name; None if a file is still changing.

    What these settings resolve to, such as weights, code and defaults, is in the other fields of a plan.
    """
    recipes = [recipe for name in protocol.metrics for recipe in get_recipes(name)]
    computing, source = options.computing, options.source
    if computing.backend != "torch":
        return None
    sampler, chosen = (source.sampler, dict(source.options)) if isinstance(source, SampledClips) else (None, {})
    named, recorded = dict(chosen), sampler.recorded_settings if isinstance(sampler, Sampler) else None
    if sampler == REFERENCE:
        from vdm_bench.samplers.reference_model import DEFAULT_CHECKPOINT

        named.setdefault("checkpoint", DEFAULT_CHECKPOINT)
        named["checkpoint"] = str(checkpoint_path(named["checkpoint"]))
    files = {key: _content(Path(value)) for key, value in named.items()}
    weights = {name: _content(path) for name, path in computing.weights.items()}
    if "unsettled" in (*files.values(), *weights.values()):
        return None
    return {
        "version": __version__,
        "recipes": hashlib.sha256(repr(recipes).encode()).hexdigest(),
        "networks": {recipe.network: _package(recipe.network) for recipe in recipes},
        "options": source.settings if isinstance(source, ExistingClips) else chosen,
        "recorded": None if recorded is None else dict(recorded),
        "files": files,
        "precision": computing.precision,
        "compiled": computing.compiled,
        "weights": weights,
    }


def _package(network: str) -> str | None:
    package = entry_of(network).dist
    return None if package is None else f"{package.name} {package.version}"


def _content(path: Path) -> str | None:
    """Return a digest of a file, or of the stamps of a folder's files; None if `path` is neither."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if not path.is_dir():
            return None
        found = stamp(sorted(path.rglob("*")))
    except OSError:
        return None
    return "unsettled" if found is None else hashlib.sha256(os.fsencode(found)).hexdigest()


def _same_code(old: Mapping[str, Any], source: ClipSource) -> bool:
    """Return whether the file that defines the sampler is unchanged, without importing it."""
    code = old.get("sampler code")
    match source:
        case ExistingClips():
            return code is None
        case SampledClips(sampler=sampler):
            if not isinstance(sampler, str):
                return bool(sampler.code_digest == code)
            module = old.get(_MODULE)
            return isinstance(module, str) and module_digest(module, sampler) == code
