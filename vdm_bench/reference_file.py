"""The features of a protocol's reference in one safetensors file: who has it can score without the dataset.

The file holds the features themselves, not their moments: moments of C3D's 4,096 dimensions would be no smaller,
and kernel distances and neighbour measures need features. So a score is the same to the last bit with the file as
with the clips, on the same kind of machine.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vdm_bench.collect import Collected, Collector
from vdm_bench.datasets.base import ClipDataset
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.files import atomic_path, cache_folder
from vdm_bench.leaderboards.escaping import encodable
from vdm_bench.metrics.evaluation import FeatureSet
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.protocols import Protocol
from vdm_bench.protocols.data import prepared_name

FORMAT = "vdm-bench reference features"
_ROWS = 4096  # read at a time


class _Facts(BaseModel):
    """What the file says of the clips."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    protocol: str
    reference: str  # name of the clips, as of prepared ones: all that decides their pixels
    count: int
    identity: str
    clip_shape: list[int]
    lossy: bool
    repeated: int
    broken: list[list[str]]
    # Of the clips, as in records; files of before have none.
    digest: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    digests: list[str] | None = None  # SHA-256 of each clip
    departures: list[str] = Field(default_factory=list)  # from the protocol, by videos that were not there


def reference_name(protocol: Protocol) -> str:
    """Name the reference of a protocol by all that decides its clips, their number included."""
    return f"{prepared_name(protocol, protocol.reference, protocol.resolution)}-{protocol.reference_count}"


def collect_reference(protocol: Protocol, clips: ClipDataset, collector: Collector) -> Collected:
    """Collect the features of a protocol's reference from its clips; they are kept in the user's cache.

    Raises:
        InputError: clips cannot be read.
    """
    count = min(len(clips), protocol.reference_count)
    folder, name = cache_folder() / "features", protocol.source_of(protocol.reference)
    return collector.collect(clips, count, folder, "the reference", name)


def write_reference(
    path: Path,
    protocol: Protocol,
    networks: Sequence[FeatureNetwork],
    collected: Collected,
    departures: Sequence[str] = (),
) -> None:
    """Write features that were collected.

    Args:
        path: of the file.
        protocol: whose reference they are of.
        networks: that made them, in the order of `collected.features`.
        collected: the features.
        departures: from the protocol, in words, that a run with these features has, too.

    Raises:
        InputError: a network gives no features of a layer.
    """
    if reason := next((reason for one in collected.features for reason in one.refused.values()), ""):
        raise InputError(f"the features of the reference are not complete: {reason}")
    first = collected.features[0]
    facts = _Facts(
        format=FORMAT,
        version=1,
        protocol=protocol.name,
        reference=reference_name(protocol),
        count=first.count,
        identity=first.identity,
        clip_shape=list(first.clip_shape),
        lossy=first.lossy,
        repeated=first.repeated,
        broken=[[encodable(error.source), encodable(error.reason)] for error in collected.broken],
        digest=collected.digest,
        digests=None if collected.digests is None else list(collected.digests),
        departures=list(map(encodable, departures)),
    )
    tensors = {
        _key(network, layer): np.concatenate(list(features.blocks(layer)))
        for network, features in zip(networks, collected.features, strict=True)
        for layer in network.spec.layers
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"vdm_bench": facts.model_dump_json()})


def departures_of(path: Path) -> list[str]:
    """Say how the reference that a file holds departs from its protocol.

    Raises:
        InputError: the file is no such file.
    """
    return _open(path)[0].departures


def read_reference(path: Path, protocol: Protocol, networks: Sequence[FeatureNetwork]) -> Collected:
    """Open features that were written, in the place of collecting them.

    Args:
        path: of the file.
        protocol: whose reference they must be of.
        networks: whose features are needed.

    Raises:
        InputError: the file is no such file, is of another reference, or lacks a network.
    """
    facts, keys = _open_for(path, protocol)
    for network in networks:
        for layer, width in network.spec.layers.items():
            if keys.get(_key(network, layer)) != (facts.count, width):
                raise InputError(
                    f"{path} has no features of {network.spec.identity}, layer {layer}, as this run computes "
                    f"them; make the file anew by `vdm-bench data export-reference {protocol.name}`"
                )
    time, height, width = facts.clip_shape

    def of(network: FeatureNetwork) -> FeatureSet:
        return FeatureSet(
            identity=facts.identity,
            clip_shape=(time, height, width),
            count=facts.count,
            blocks=lambda layer: _blocks(path, _key(network, layer), facts.count),
            lossy=facts.lossy,
            skipped=len(facts.broken),
            repeated=facts.repeated,
        )

    sets = [of(network) for network in networks]
    broken = [BrokenClipError(source, reason) for source, reason in facts.broken]
    return Collected(sets, broken, facts.digest, facts.digests)


def check_reference(path: Path, protocol: Protocol) -> None:
    """Refuse a file that holds no reference of a protocol, before networks are loaded.

    Raises:
        InputError: the file is no such file, or is of another reference.
    """
    _open_for(path, protocol)


def _open_for(path: Path, protocol: Protocol) -> tuple[_Facts, dict[str, tuple[int, ...]]]:
    facts, keys = _open(path)
    if facts.reference != reference_name(protocol):
        raise InputError(
            f"{path} holds the reference of {facts.protocol}, which is not that of {protocol.name}; "
            f"make one by `vdm-bench data export-reference {protocol.name}`"
        )
    return facts, keys


def _key(network: FeatureNetwork, layer: str) -> str:
    return f"{network.spec.cache_key} {layer}"


def _open(path: Path) -> tuple[_Facts, dict[str, tuple[int, ...]]]:
    try:
        with safe_open(path, framework="np") as file:
            content: Any = json.loads((file.metadata() or {})["vdm_bench"])
            names = list(file.keys())
            keys = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        facts = _Facts.model_validate(content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path} is no file of reference features ({first}); fetch or make it again") from error
    if (facts.format, facts.version) != (FORMAT, 1) or len(facts.clip_shape) != 3:
        raise InputError(f"{path} is no file of reference features that this version reads")
    return facts, keys


def _blocks(path: Path, key: str, count: int) -> Iterator[NDArray[np.float32]]:
    with safe_open(path, framework="np") as file:
        rows = file.get_slice(key)
        for start in range(0, count, _ROWS):
            block: NDArray[np.float32] = rows[start : min(start + _ROWS, count)]
            yield block
