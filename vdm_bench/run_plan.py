"""What a run is: kept in its folder, so that nothing but the same run goes on there."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError
from vdm_bench.files import write_text
from vdm_bench.leaderboards.record import RECORD_FILE, SamplerInfo
from vdm_bench.metrics.networks import Computing
from vdm_bench.protocols import Protocol
from vdm_bench.samplers.base import Sampler
from vdm_bench.samplers.callable import code_digest
from vdm_bench.scoring import Panel

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class RunOptions:
    """How a protocol is run: the keywords of `vdm_bench.run`, which describes them."""

    sampler: str | Sampler | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    clips: Path | None = None
    data_root: Path | None = None
    reference_stats: Path | None = None
    seed: int = 0
    limit: int | None = None
    skip_broken: bool = False
    computing: Computing = field(default_factory=Computing)
    workers: int = 2
    name: str | None = None


def make_plan(
    protocol: Protocol, options: RunOptions, count: int, info: SamplerInfo, sampler: Sampler | None, panel: Panel
) -> dict[str, Any]:
    """Put down all that a run's result hangs on.

    Args:
        protocol: that is followed.
        options: of the run.
        count: clips to generate.
        info: description of the sampler.
        sampler: itself, for a digest of the file that defines it.
        panel: the metrics with their networks.
    """
    return {
        "protocol": protocol.name,
        "protocol_digest": protocol.digest,
        "clips": count,
        "data": None if options.data_root is None else str(options.data_root.resolve()),
        "name": options.name or info.spec,
        "sampler": info.model_dump(mode="json"),
        "sampler code": None if sampler is None else code_digest(sampler),
        "networks": sorted({network.spec.cache_key for network in panel.networks}),
        "skip_broken": options.skip_broken,
    }


def keep_plan(out: Path, plan: Mapping[str, Any], *, writes: bool) -> None:
    """Write the plan of a run into its folder, or refuse a folder that holds another one.

    A run of fewer clips goes on: clip i is the same in both. Its record, if it has one, is kept beside the new
    one as `run-N.json`, N its number of clips.

    Args:
        out: the run folder.
        plan: of the run.
        writes: whether this process writes.

    Raises:
        InputError: the folder holds another run, or its plan cannot be read.
    """
    text = json.dumps(plan, indent=2, sort_keys=True)
    path = out / PLAN_FILE
    if not path.exists():
        if writes:
            write_text(path, text + "\n")
        return
    try:
        old, new = json.loads(path.read_bytes()), json.loads(text)
        unlike = [key for key in dict.fromkeys((*new, *old)) if old.get(key) != new.get(key)]
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}); choose another --out, or delete it") from error
    if unlike == ["clips"] and isinstance(old["clips"], int) and old["clips"] < new["clips"]:
        if writes:
            # In this order: a record that lies beside a plan of more clips would be taken for theirs.
            with contextlib.suppress(FileNotFoundError):
                (out / RECORD_FILE).replace(out / f"run-{old['clips']}.json")
            write_text(path, text + "\n")
        return
    if unlike:
        words = ", ".join(
            {"clips": "number of clips", "missing videos": "set of missing videos"}.get(key, key)
            for key in unlike
        )
        raise InputError(f"{out} holds a run with another {words}; choose another --out, or delete it")
