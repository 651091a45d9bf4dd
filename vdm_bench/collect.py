"""From datasets to features: decode, hash, check and extract, block by block, resumable.

The features of a block are stored in a file that is named by a hash over everything they depend on: the
fingerprints of the clips, the networks and their weights, and the version of this code. So a run that is started
again finds what it has, and nothing that has changed is ever taken for the same.

A clip is decoded once, and crosses to the device once, for all networks. Where several processes work together,
each computes every n-th block, and then all get all blocks.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vdm_bench.datasets.base import Clip, ClipDataset, clip_digest
from vdm_bench.distributed import World
from vdm_bench.errors import BrokenClipError, BrokenClipsError, InputError
from vdm_bench.files import write_bytes
from vdm_bench.metrics.evaluation import FeatureSet
from vdm_bench.metrics.features import Features, block_bounds, extract_features
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.parallel import ordered_map
from vdm_bench.progress import Reporter

# Part of every key: raise it when features or the layout of their files change.
FEATURES_VERSION = 2

Shape = tuple[int, int, int]  # T, H, W


@dataclass(frozen=True)
class BlockFacts:
    """What is known of the clips of a block; stored beside their features.

    Attributes:
        digests: SHA-256 of each clip that was read.
        shape: (T, H, W) of the clips, or None where none could be read.
        lossy: whether any came from a lossy encoding.
        broken: (source, reason) of each clip that could not be read.
    """

    digests: list[str]
    shape: Shape | None
    lossy: bool
    broken: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> str:
        """Give the facts as JSON."""
        return json.dumps(
            {"digests": self.digests, "shape": self.shape, "lossy": self.lossy, "broken": self.broken}
        )

    @classmethod
    def from_json(cls, text: str) -> "BlockFacts":
        """Read what `to_json` gave."""
        content = json.loads(text)
        shape = content["shape"] and tuple(content["shape"])
        broken = [(source, reason) for source, reason in content["broken"]]
        return cls(content["digests"], shape, content["lossy"], broken)


@dataclass(frozen=True)
class Collected:
    """The features of a dataset and what happened on the way.

    Attributes:
        features: for the scores, one set for each network, in the order of the networks.
        broken: clips that were left out.
        digest: SHA-256 over those of the clips in their order, or None where the clips are not at hand.
    """

    features: list[FeatureSet]
    broken: list[BrokenClipError]
    digest: str | None = None


@dataclass(frozen=True)
class Collector:
    """How features are collected.

    Attributes:
        networks: feature networks; each clip is decoded once for all of them.
        workers: threads that decode.
        skip_broken: leave out clips that cannot be read instead of refusing.
        reporter: where progress goes.
        world: the processes that share the work.
    """

    networks: Sequence[FeatureNetwork]
    workers: int
    skip_broken: bool
    reporter: Reporter
    world: World = field(default_factory=World)

    def collect(
        self, dataset: ClipDataset, count: int, folder: Path, title: str, name: str | None = None
    ) -> Collected:
        """Compute or find the features of clips 0..count-1.

        Args:
            dataset: the clips.
            count: how many; at most the length of the dataset.
            folder: where the features of the blocks are stored.
            title: names the clips in progress and errors.
            name: stands before the digest of the content, where the dataset is named by that.

        Raises:
            BrokenClipsError: clips cannot be read and shall not be skipped; all of them are named.
            InputError: clips of unlike shape, or a network refuses them.
        """
        files: list[Path] = []
        facts: list[BlockFacts] = []
        shape: Shape | None = None
        bounds = block_bounds(count)
        with self.reporter.stage(f"features of {title}", count) as advance:
            for file, block in self._blocks(dataset, bounds, folder):
                files.append(file)
                facts.append(block)
                shape = shape or block.shape
                if shape and block.shape and shape != block.shape:
                    raise _unlike((f"the first clips of {title}", shape), ("a later one", block.shape))
                start, stop = bounds[len(facts) - 1]
                advance(stop - start)
        broken = [BrokenClipError(source, reason) for block in facts for source, reason in block.broken]
        if broken and not self.skip_broken:
            way_out = "remove them, or pass --skip-broken to leave them out"
            raise BrokenClipsError(title, count, broken, way_out)
        sets = [_feature_set(dataset, n, files, facts, name) for n in range(len(self.networks))]
        return Collected(sets, broken, digest_of_clips(digest for block in facts for digest in block.digests))

    def _blocks(
        self, dataset: ClipDataset, bounds: list[tuple[int, int]], folder: Path
    ) -> Iterator[tuple[Path, BlockFacts]]:
        """Give each block's file and facts, computing what is missing while the next clips are decoded."""
        paths = [folder / f"{self._key(dataset, start, stop)}.safetensors" for start, stop in bounds]
        stored = [read_facts(path) for path in paths]
        # Processes may see different folders: a block is there only if everyone has it.
        there = self.world.everyone([known is not None for known in stored])
        missing = [number for number, found in enumerate(there) if not found]
        owners = {number: self.world.owner(place) for place, number in enumerate(missing)}
        mine = [number for number in missing if owners[number] == self.world.rank]
        indices = [index for number in mine for index in range(*bounds[number])]
        decoded = ordered_map(lambda index: load_clip(dataset, index), indices, self.workers)
        if self.world.size > 1:
            for number in mine:
                self._compute([next(decoded) for _ in range(*bounds[number])], paths[number])
        for number, (path, known) in enumerate(zip(paths, stored, strict=True)):
            if there[number] and known is not None:
                yield path, known
            elif self.world.size == 1:
                yield path, self._compute([next(decoded) for _ in range(*bounds[number])], path)
            else:
                yield path, self._exchange(path, owners[number])

    def _exchange(self, path: Path, owner: int) -> BlockFacts:
        """Bring a block from the process that has computed it to all others."""
        mine = self.world.rank == owner
        data = self.world.send(path.read_bytes() if mine else None, owner)
        if not mine:
            write_bytes(path, data)
        facts = read_facts(path)
        if facts is None:
            raise InputError(f"{path} was damaged as soon as it was written; check the disk")
        return facts

    def extract(self, clips: Sequence["LoadedClip"]) -> Features:
        """Compute the layers of all networks for clips of one block, each by its `array_name`."""
        pixels = torch.from_numpy(np.stack([item.clip.frames for item in clips])).to(self.networks[0].device)
        arrays: Features = {}
        for number, network in enumerate(self.networks):
            layers = extract_features(network, pixels)
            arrays |= {array_name(number, layer): values for layer, values in layers.items()}
        return arrays

    def _compute(self, loaded: list["LoadedClip | BrokenClipError"], path: Path) -> BlockFacts:
        clips = [item for item in loaded if isinstance(item, LoadedClip)]
        broken = [(item.source, item.reason) for item in loaded if isinstance(item, BrokenClipError)]
        facts = BlockFacts(
            digests=[item.digest for item in clips],
            shape=_common_shape(clips),
            lossy=any(item.clip.lossy for item in clips),
            broken=broken,
        )
        arrays = self.extract(clips) if clips else {}
        # `save_file` would make a file that only its owner may read, and the cache may be shared.
        write_bytes(path, save(arrays, metadata={"facts": facts.to_json()}))
        return facts

    def _key(self, dataset: ClipDataset, start: int, stop: int) -> str:
        digest = hashlib.sha256(f"features {FEATURES_VERSION}".encode())
        for network in self.networks:
            layers = ",".join(network.spec.layers)
            digest.update(f"\n{network.spec.cache_key} {layers} {network.device.type}".encode())
        for index in range(start, stop):
            digest.update(f"\n{dataset.fingerprint(index)}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:40]


@dataclass(frozen=True)
class LoadedClip:
    """A clip that was read.

    Attributes:
        index: in its dataset.
        clip: itself.
        digest: SHA-256 of its pixels.
    """

    index: int
    clip: Clip
    digest: str


def load_clip(dataset: ClipDataset, index: int) -> LoadedClip | BrokenClipError:
    """Read and hash a clip, or say why it cannot be read."""
    try:
        clip = dataset[index]
    except BrokenClipError as error:
        return error
    return LoadedClip(index, clip, clip_digest(clip.frames))


def digest_of_clips(digests: Iterable[str]) -> str:
    """Give the SHA-256 over those of clips, in order: what a record says of the content of its clips."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def read_facts(path: Path) -> BlockFacts | None:
    """Read the facts of a stored block; a file that is missing or damaged is computed again."""
    try:
        with safe_open(path, framework="np") as file:
            return BlockFacts.from_json(file.metadata()["facts"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _common_shape(loaded: list[LoadedClip]) -> Shape | None:
    """Give the shape (T, H, W) all clips share."""
    keys: dict[Shape, str] = {}
    for item in loaded:
        frames, height, width, _ = item.clip.frames.shape
        keys.setdefault((frames, height, width), item.clip.key)
    if len(keys) > 1:
        raise _unlike(*[(key, shape) for shape, key in keys.items()][:2])
    return next(iter(keys), None)


def _unlike(*found: tuple[str, Shape]) -> InputError:
    described = " and ".join(f"{t} frames of {w}x{h} ({name})" for name, (t, h, w) in found)
    return InputError(
        f"the clips differ in shape: {described}; choose --frames N, and --size WxH with a --resize rule"
    )


def _feature_set(
    dataset: ClipDataset, number: int, files: list[Path], facts: list[BlockFacts], name: str | None
) -> FeatureSet:
    digests = [digest for block in facts for digest in block.digests]
    if not digests:
        raise InputError("not a single clip could be read; there is nothing to score")
    content = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:12]

    def blocks(layer: str) -> Iterator[NDArray[np.float32]]:
        for file, block in zip(files, facts, strict=True):
            if block.digests:
                yield _read_layer(file, array_name(number, layer))

    return FeatureSet(
        identity=dataset.identity or (f"{name}@{content}" if name else f"sha256-{content}"),
        clip_shape=next(block.shape for block in facts if block.shape is not None),
        count=len(digests),
        blocks=blocks,
        lossy=any(block.lossy for block in facts),
        skipped=sum(len(block.broken) for block in facts),
        repeated=len(digests) - len(set(digests)),
    )


def _read_layer(file: Path, name: str) -> NDArray[np.float32]:
    with safe_open(file, framework="np") as stored:
        values: NDArray[np.float32] = stored.get_tensor(name)
    return values


def array_name(number: int, layer: str) -> str:
    """Name a layer of a collector's network in the files of features."""
    return f"{number}.{layer}"
