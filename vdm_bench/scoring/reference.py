"""The reference features of a protocol in one safetensors file, for scoring without the dataset.

The file contains the features, not their moments: moments of C3D's 4,096 dimensions are not smaller, and kernel
distances and PRDC need features. So on the same kind of machine, a score is bitwise the same with the file as
with the clips.

The file is published and copied, and a flipped bit would affect every score. So it has checksums, which are all
verified before any work, and again when it is scored. Files of version 1 have none: they are accepted with a
note, because their owner may no longer have the data to create a new one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vdm_bench.errors import BrokenClipError, DamagedError, InputError
from vdm_bench.leaderboards.text import encodable
from vdm_bench.metrics.evaluation import FeatureSet
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.protocols import Protocol
from vdm_bench.protocols.clips import missing_departure, open_dataset, prepared_name, source_of
from vdm_bench.runtime.checksums import open_arrays, write_arrays
from vdm_bench.runtime.files import cache_folder, remove_temporary_files_of
from vdm_bench.runtime.input_files import open_safetensors, parse_json
from vdm_bench.scoring.features import ExtractedFeatures, FeatureExtractor
from vdm_bench.video.clip import ClipDataset, DescribedClips

FORMAT = "vdm-bench reference features"
VERSION = 2
_FIRST_VERSION = 1  # without checksums
_ROWS = 4096  # read at a time
_TITLE = "the reference"  # in progress and errors
_WAY_OUT = "fetch it again, or create it again with `vdm-bench data export-reference`"
_OLD_FACTS = "vdm_bench"  # metadata key of files of version 1


class _Facts(BaseModel):
    """The facts about the clips in the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    protocol: str
    reference: str  # name of the clips, with everything that determines their pixels
    count: int = Field(ge=1)
    identity: str
    clip_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    lossy: bool
    repeated: int
    broken: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    # Digest of the clips, as in records; older files have none.
    digest: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    digests: list[str] | None = None  # SHA-256 of each clip
    departures: list[str] = Field(default_factory=list)  # from the protocol, because of missing videos


def reference_name(protocol: Protocol) -> str:
    """Return the name of a protocol's reference, with everything that determines its clips and their number."""
    return f"{prepared_name(protocol, protocol.reference, protocol.resolution)}-{protocol.reference_count}"


def collect_reference(protocol: Protocol, clips: ClipDataset, collector: FeatureExtractor) -> ExtractedFeatures:
    """Extract the features of a protocol's reference from its clips, into the user's cache.

    Raises:
        InputError: clips cannot be read.
    """
    count = min(len(clips), protocol.reference_count)
    return collector.collect(clips, count, _cache(), _TITLE, source_of(protocol, protocol.reference))


def _cache() -> Path:
    return cache_folder() / "features"


def write_reference(
    path: Path,
    protocol: Protocol,
    networks: Sequence[FeatureNetwork],
    collected: ExtractedFeatures,
    departures: Sequence[str] = (),
) -> None:
    """Write extracted features to a file.

    Args:
        path: path of the file.
        protocol: protocol of the reference.
        networks: networks of the features, in the order of `collected.features`.
        collected: the features.
        departures: deviations from the protocol that runs with these features inherit, a sentence each.

    Raises:
        InputError: a network has no features of a layer.
    """
    if reason := next((reason for one in collected.features for reason in one.refused.values()), ""):
        raise InputError(f"the features of the reference are not complete: {reason}")
    first = collected.features[0]
    facts = _Facts(
        format=FORMAT,
        version=VERSION,
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
    remove_temporary_files_of(path, shared=True)
    write_arrays(path, tensors, facts.model_dump())


def departures_of(path: Path) -> list[str]:
    """Return how the reference in a file deviates from its protocol.

    Raises:
        InputError: it is not a file of reference features.
    """
    return _open(path).facts.departures


def note_on(path: Path) -> str | None:
    """Return a note on a file of reference features, or None.

    Raises:
        InputError: it is not a file of reference features.
    """
    if _open(path).has_checksums:
        return None
    return (
        f"{path} is of an earlier version without checksums, so damage to it cannot be detected; create it again "
        "with `vdm-bench data export-reference` if you have the data"
    )


def read_reference(path: Path, protocol: Protocol, networks: Sequence[FeatureNetwork]) -> ExtractedFeatures:
    """Open the features in a file, after verifying all of its checksums.

    Args:
        path: path of the file.
        protocol: protocol of the reference.
        networks: networks whose features are required.

    Raises:
        InputError: it is not a file of reference features, is damaged, has another reference, or lacks a network.
    """
    opened = _open_for(path, protocol)
    facts = opened.facts
    for network in networks:
        for layer, width in network.spec.layers.items():
            if opened.shapes.get(_key(network, layer)) != (facts.count, width):
                raise InputError(
                    f"{path} has no features of {network.spec.identity}, layer {layer}, as this run computes "
                    f"them; create the file again with `vdm-bench data export-reference {protocol.name}`"
                )
    if opened.has_checksums:
        _check_arrays(path, opened)
    time, height, width = facts.clip_shape

    def of(network: FeatureNetwork) -> FeatureSet:
        return FeatureSet(
            identity=facts.identity,
            clip_shape=(time, height, width),
            count=facts.count,
            blocks=lambda layer: _blocks(path, _key(network, layer), has_checksums=opened.has_checksums),
            lossy=facts.lossy,
            skipped=len(facts.broken),
            repeated=facts.repeated,
        )

    sets = [of(network) for network in networks]
    broken = [BrokenClipError(source, reason) for source, reason in facts.broken]
    return ExtractedFeatures(sets, broken, facts.digest, facts.digests)


def check_reference(path: Path, protocol: Protocol) -> None:
    """Refuse a file without the reference of a protocol, before networks are loaded.

    Raises:
        InputError: it is not a file of reference features, or has another reference.
    """
    _open_for(path, protocol)


@dataclass(frozen=True)
class ReferenceClips:
    """The reference of a protocol, as clips of its dataset."""

    protocol: Protocol
    clips: DescribedClips

    @property
    def departures(self) -> Sequence[str]:
        """Deviations of the clips from the protocol."""
        return missing_departure(self.protocol, self.protocol.reference, self.clips)

    @property
    def notes(self) -> Sequence[str]:
        """Notes on the clips, a sentence each."""
        return self.clips.notes

    def features(self, extractor: FeatureExtractor) -> ExtractedFeatures:
        """Compute the features, or find them in the user's cache."""
        return collect_reference(self.protocol, self.clips, extractor)

    def count_featured(self, extractor: FeatureExtractor) -> int:
        """Count the clips whose features are in the user's cache, without reading them."""
        count = min(len(self.clips), self.protocol.reference_count)
        return extractor.count_featured(self.clips, count, _cache(), _TITLE)


@dataclass(frozen=True)
class ReferenceFile:
    """The reference of a protocol, as a file of its features."""

    protocol: Protocol
    path: Path

    @property
    def departures(self) -> Sequence[str]:
        """Deviations of the reference clips from the protocol."""
        return departures_of(self.path)

    @property
    def notes(self) -> Sequence[str]:
        """Notes on the file, a sentence each."""
        note = note_on(self.path)
        return [note] if note else []

    def features(self, extractor: FeatureExtractor) -> ExtractedFeatures:
        """Read the features of the extractor's networks."""
        return read_reference(self.path, self.protocol, extractor.networks)

    def count_featured(self, extractor: FeatureExtractor) -> int:
        """Return the number of all clips: the file has their features."""
        return self.protocol.reference_count


Reference: TypeAlias = ReferenceClips | ReferenceFile


def open_reference(protocol: Protocol, data_root: Path | None, file: Path | None) -> Reference:
    """Open the reference of a protocol: its clips, or a file of their features if one is given.

    Args:
        protocol: protocol of the reference.
        data_root: folder of the protocol's dataset; `shapes` needs none.
        file: file of reference features, or None.

    Raises:
        InputError: the dataset is missing, or the file is of another kind or has another reference.
    """
    if file is None:
        return ReferenceClips(protocol, open_dataset(protocol, protocol.reference, data_root))
    check_reference(file, protocol)
    return ReferenceFile(protocol, file)


@dataclass(frozen=True)
class _Opened:
    """The header of a file of reference features.

    Attributes:
        facts: the facts about the clips.
        shapes: shapes of its arrays.
        has_checksums: whether it has checksums; files of version 1 do not.
    """

    facts: _Facts
    shapes: Mapping[str, tuple[int, ...]]
    has_checksums: bool


def _open_for(path: Path, protocol: Protocol) -> _Opened:
    opened = _open(path)
    if opened.facts.reference != reference_name(protocol):
        raise InputError(
            f"{path} holds the reference of {opened.facts.protocol}, which is not that of {protocol.name}; "
            f"create one with `vdm-bench data export-reference {protocol.name}`"
        )
    return opened


def _key(network: FeatureNetwork, layer: str) -> str:
    return f"{network.spec.cache_key} {layer}"


def _open(path: Path) -> _Opened:
    """Read the header of a file, without its arrays.

    Raises:
        InputError: it is not a file of reference features, or its header is damaged.
    """
    old = _open_old(path)
    if old is not None:
        return old
    try:
        with open_arrays(path, _WAY_OUT) as stored:
            facts, shapes, types = stored.facts, stored.shapes, stored.types
    except DamagedError as error:
        raise _refuse(str(path), error.reason) from error
    _check_types(path, types)
    return _Opened(_checked(path, facts, VERSION), shapes, has_checksums=True)


def _open_old(path: Path) -> _Opened | None:
    """Read the header of a file of version 1; return None for other files."""
    with open_safetensors(path, "np", _refuse) as file:
        said = (file.metadata() or {}).get(_OLD_FACTS)
        if said is None:
            return None
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        types = {name: str(part.get_dtype()) for name, part in slices.items()}
    _check_types(path, types)
    return _Opened(_checked(path, parse_json(said, path, _WAY_OUT), _FIRST_VERSION), shapes, has_checksums=False)


def _checked(path: Path, content: object, version: int) -> _Facts:
    try:
        facts = _Facts.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _refuse(str(path), f"its {place or 'facts'}: {first['msg']}") from error
    if (facts.format, facts.version) != (FORMAT, version):
        raise InputError(f"{path} is not a file of reference features that this version reads")
    if facts.digests is not None and len(facts.digests) != facts.count:
        raise _refuse(str(path), f"it has {len(facts.digests)} digests for {facts.count} clips")
    return facts


def _check_types(path: Path, types: Mapping[str, str]) -> None:
    for name, kind in types.items():
        if kind != "F32":
            raise _refuse(str(path), f"{name} is {kind}, not F32")


def _check_arrays(path: Path, opened: _Opened) -> None:
    """Verify the checksums of all arrays, including those that are not needed now.

    Raises:
        DamagedError: an array is damaged.
    """
    for key in opened.shapes:
        for _ in _blocks(path, key, has_checksums=True):
            pass


def _blocks(path: Path, key: str, *, has_checksums: bool) -> Iterator[NDArray[np.float32]]:
    """Read an array, some rows at a time; checksums, if any, are verified at each reading."""
    if has_checksums:
        with open_arrays(path, _WAY_OUT) as stored:
            yield from stored.rows(key, _ROWS)
        return
    with open_safetensors(path, "np", _refuse) as file:
        rows = file.get_slice(key)
        count = rows.get_shape()[0]
        for start in range(0, count, _ROWS):
            yield rows[start : min(start + _ROWS, count)]


def _refuse(source: str, reason: str) -> InputError:
    return InputError(f"{source} is not a file of reference features ({reason}); {_WAY_OUT}")
