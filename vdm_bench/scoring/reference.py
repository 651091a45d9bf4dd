"""The features of a protocol's reference in one safetensors file: who has it can score without the dataset.

The file holds the features themselves, not their moments: moments of C3D's 4,096 dimensions would be no smaller,
and kernel distances and neighbour measures need features. So a score is the same to the last bit with the file as
with the clips, on the same kind of machine.

It is published and copied about, and a bit that flips on the way would move every score against it. So it
carries checksums, and all of it is held against them before anything is made, and again as it is scored. Files of
version 1 have none: they are taken with a note, as who has one may no longer have the data to make another.
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
_OLD_FACTS = "vdm_bench"  # where files of version 1 say what they hold


class _Facts(BaseModel):
    """What the file says of the clips."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    protocol: str
    reference: str  # name of the clips, as of prepared ones: all that decides their pixels
    count: int = Field(ge=1)
    identity: str
    clip_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    lossy: bool
    repeated: int
    broken: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    # Of the clips, as in records; files of before have none.
    digest: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    digests: list[str] | None = None  # SHA-256 of each clip
    departures: list[str] = Field(default_factory=list)  # from the protocol, by videos that were not there


def reference_name(protocol: Protocol) -> str:
    """Name the reference of a protocol by all that decides its clips, their number included."""
    return f"{prepared_name(protocol, protocol.reference, protocol.resolution)}-{protocol.reference_count}"


def collect_reference(protocol: Protocol, clips: ClipDataset, collector: FeatureExtractor) -> ExtractedFeatures:
    """Collect the features of a protocol's reference from its clips; they are kept in the user's cache.

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
    """Say how the reference that a file holds departs from its protocol.

    Raises:
        InputError: the file is no such file.
    """
    return _open(path).facts.departures


def note_on(path: Path) -> str | None:
    """Say what to know of a file that holds a reference; nothing, mostly.

    Raises:
        InputError: the file is no such file.
    """
    if _open(path).has_checksums:
        return None
    return (
        f"{path} is of an earlier version and carries no checksums, so damage to it cannot be seen; make it anew "
        "by `vdm-bench data export-reference`, where the data are"
    )


def read_reference(path: Path, protocol: Protocol, networks: Sequence[FeatureNetwork]) -> ExtractedFeatures:
    """Open features that were written, in the place of collecting them; all are held against their checksums.

    Args:
        path: of the file.
        protocol: whose reference they must be of.
        networks: whose features are needed.

    Raises:
        InputError: the file is no such file, is damaged, is of another reference, or lacks a network.
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
    """Refuse a file that holds no reference of a protocol, before networks are loaded.

    Raises:
        InputError: the file is no such file, or is of another reference.
    """
    _open_for(path, protocol)


@dataclass(frozen=True)
class ReferenceClips:
    """The reference of a protocol as the clips of its dataset."""

    protocol: Protocol
    clips: DescribedClips

    @property
    def departures(self) -> Sequence[str]:
        """How the clips depart from the protocol."""
        return missing_departure(self.protocol, self.protocol.reference, self.clips)

    @property
    def notes(self) -> Sequence[str]:
        """What to know of the clips, a sentence each."""
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
    """The reference of a protocol as a file of its features."""

    protocol: Protocol
    path: Path

    @property
    def departures(self) -> Sequence[str]:
        """How the clips that the features are of depart from the protocol."""
        return departures_of(self.path)

    @property
    def notes(self) -> Sequence[str]:
        """What to know of the file, a sentence each."""
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
    """Open the reference of a protocol: its clips, or a file of their features where one is given.

    Args:
        protocol: whose reference it is.
        data_root: where the protocol's dataset lies; `shapes` needs none.
        file: of features.

    Raises:
        InputError: the dataset is not there, or the file is no such file or of another reference.
    """
    if file is None:
        return ReferenceClips(protocol, open_dataset(protocol, protocol.reference, data_root))
    check_reference(file, protocol)
    return ReferenceFile(protocol, file)


@dataclass(frozen=True)
class _Opened:
    """A file that was looked into.

    Attributes:
        facts: what it says of the clips.
        shapes: of its arrays.
        has_checksums: whether it carries some; files of version 1 do not.
    """

    facts: _Facts
    shapes: Mapping[str, tuple[int, ...]]
    has_checksums: bool


def _open_for(path: Path, protocol: Protocol) -> _Opened:
    opened = _open(path)
    if opened.facts.reference != reference_name(protocol):
        raise InputError(
            f"{path} holds the reference of {opened.facts.protocol}, which is not that of {protocol.name}; "
            f"make one by `vdm-bench data export-reference {protocol.name}`"
        )
    return opened


def _key(network: FeatureNetwork, layer: str) -> str:
    return f"{network.spec.cache_key} {layer}"


def _open(path: Path) -> _Opened:
    """Look into a file; its arrays are not read.

    Raises:
        InputError: it is no such file, or its header is damaged.
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
    """Look into a file of version 1; None where it is of another, or none."""
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
    """Hold all arrays against their checksums, those too that are not needed now.

    Raises:
        DamagedError: one is not what was written.
    """
    for key in opened.shapes:
        for _ in _blocks(path, key, has_checksums=True):
            pass


def _blocks(path: Path, key: str, *, has_checksums: bool) -> Iterator[NDArray[np.float32]]:
    """Read an array, some rows at a time; a file with checksums is held against them as often as it is read."""
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
