"""Extract features from datasets: decode, hash, check and compute, block by block, resumable.

The features of a block are stored in a file named by a hash of everything they depend on: the content of the
clips, the networks and their weights, and the version of this code. So a resumed run finds its features, and a
changed input never matches. The content of a block is not read again each time: see `vdm_bench.video.contents`.
Stored features have checksums; damaged ones are computed again, even if the damage is noticed only while a score
reads them.

A clip is decoded and copied to the device once for all networks. With n processes, each computes every n-th
block and sends it to the others.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError, BrokenClipsError, DamagedError, InputError
from vdm_bench.metrics.evaluation import FeatureSet
from vdm_bench.metrics.extraction import Features, block_bounds, compute_features, not_finite
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.metrics.rates import Plays
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.files import remove_temporary_files
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.scoring.blocks import BlockStore, content_key
from vdm_bench.scoring.feature_files import (
    FEATURES_VERSION,
    BlockHeader,
    array_name,
    read_features,
    read_header,
    write_features,
)
from vdm_bench.video.clip import ClipDataset
from vdm_bench.video.contents import (
    SKIP_BROKEN,
    BlockMetadata,
    LoadedClip,
    Memory,
    Shape,
    digest_of_clips,
    load_clip,
    unlike,
)
from vdm_bench.video.view import View


@dataclass(frozen=True)
class ExtractedFeatures:
    """The features of a dataset.

    Attributes:
        features: one set per network, in the order of the networks.
        broken: clips that were skipped.
        digest: SHA-256 of the digests of the clips in order; None if unknown.
        digests: SHA-256 of each clip, in order; None if unknown.
    """

    features: list[FeatureSet]
    broken: list[BrokenClipError]
    digest: str | None = None
    digests: Sequence[str] | None = None

    def shared_with(self, other: "ExtractedFeatures") -> int:
        """Return how many clips have the same pixels as a clip of the other set; 0 if unknown."""
        there = set(other.digests or ())
        return sum(digest in there for digest in self.digests or ())


@dataclass(frozen=True)
class _Block:
    """A block of clips whose features are stored.

    Attributes:
        dataset: dataset of the clips.
        indices: indices of the clips, including those that cannot be read.
        facts: digests, shape and frame rates of the clips.
        store: store of the features.
        path: path of the file of features.
        title: name of the dataset in notes and errors.
    """

    dataset: ClipDataset
    indices: range
    facts: BlockMetadata
    store: BlockStore
    path: Path
    title: str


class FeatureSource(Protocol):
    """Computes, or looks up, the features of the clips of one block."""

    def __call__(
        self, networks: Sequence[FeatureNetwork], clips: Sequence[LoadedClip]
    ) -> tuple[Features, dict[str, str]]:
        """Return what `compute_layers` returns for the same clips."""


def compute_layers(
    networks: Sequence[FeatureNetwork], clips: Sequence[LoadedClip]
) -> tuple[Features, dict[str, str]]:
    """Compute the layers of all networks for the clips of one block.

    Returns:
        The layers, and the reasons for missing layers: a network does not accept the clips, or returns NaN for
        one. The keys of both are `array_name`s.

    Raises:
        InputError: no network accepts the clips.
    """
    pixels = torch.from_numpy(np.stack([item.clip.frames for item in clips])).to(networks[0].device)
    arrays: Features = {}
    refused: dict[str, str] = {}
    errors: list[InputError] = []
    for number, network in enumerate(networks):
        try:
            layers = compute_features(network, pixels)
        except InputError as error:
            errors.append(error)
            refused |= {array_name(number, layer): str(error) for layer in network.spec.layers}
            continue
        for layer, values in layers.items():
            rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
            if len(rows):
                first = not_finite(network, layer, f"the clip {clips[rows[0]].clip.key}")
                refused[array_name(number, layer)] = first
            else:
                arrays[array_name(number, layer)] = values
    if len(errors) == len(networks):
        raise errors[0]
    return arrays, refused


@dataclass(frozen=True)
class FeatureExtractor:
    """Extracts the features of datasets.

    Attributes:
        networks: feature networks; each clip is decoded once for all of them. Without any, clips are only hashed.
        workers: decoding threads.
        skip_broken: skip clips that cannot be read, instead of refusing them.
        reporter: receives progress.
        processes: processes that share the work.
        recheck: read and hash every clip, even if its hash is cached.
        way_out: what to do if clips cannot be read, for error messages.
        source: returns the features of a block; the networks compute them by default.
    """

    networks: Sequence[FeatureNetwork]
    workers: int
    skip_broken: bool
    reporter: Reporter
    processes: ProcessGroup = field(default_factory=ProcessGroup)
    recheck: bool = False
    way_out: str = SKIP_BROKEN
    source: FeatureSource = compute_layers

    def collect(
        self, dataset: ClipDataset, count: int, folder: Path, title: str, name: str | None = None
    ) -> ExtractedFeatures:
        """Compute or find the features of clips 0 to count - 1.

        Args:
            dataset: the clips.
            count: number of clips; at most the length of the dataset.
            folder: folder of the stored features, and of the cached content of the clips.
            title: name of the clips in progress and errors.
            name: prefix of the digest of the content in the identity of a dataset without a name.

        Raises:
            BrokenClipsError: clips cannot be read and are not skipped; all of them are named.
            InputError: clips differ in shape, or no network accepts them. If only some networks accept them, the
                layers of the others are `refused` in their features, with a note.
        """
        remove_temporary_files(folder, shared=True)  # in a run or in the user's cache
        store = BlockStore(folder, "features", self.reporter, self.processes)
        facts: list[BlockMetadata] = []
        shape: Shape | None = None
        bounds = block_bounds(count)
        with self.reporter.stage(f"{'features' if self.networks else 'content'} of {title}", count) as advance:
            for block in self._blocks(
                Memory(dataset, bounds, folder, self.workers), dataset, bounds, store, title
            ):
                facts.append(block)
                shape = shape or block.shape
                if shape and block.shape and shape != block.shape:
                    raise unlike((f"the first clips of {title}", shape), ("a later one", block.shape))
                start, stop = bounds[len(facts) - 1]
                advance(stop - start)
        broken = [BrokenClipError(source, reason) for block in facts for source, reason in block.broken]
        if broken and not self.skip_broken:
            raise BrokenClipsError(title, count, broken, self.way_out)
        digests = [digest for block in facts for digest in block.digests]
        if self.networks and not digests:
            raise InputError("not a single clip could be read; there is nothing to score")
        stored = [
            _Block(dataset, range(*bound), block, store, self._path(folder, block), title)
            for bound, block in zip(bounds, facts, strict=True)
            if block.digests and self.networks
        ]
        headers = [self._header(block) for block in stored]
        sets = [self._feature_set(number, stored, headers, facts, name) for number in range(len(self.networks))]
        for reason in dict.fromkeys(reason for one in sets for reason in one.refused.values()):
            self.reporter.note(f"{title}: {reason}; metrics that need this have no value")
        return ExtractedFeatures(sets, broken, digest_of_clips(digests), digests)

    def count_stored(self, dataset: ClipDataset, count: int, folder: Path) -> int:
        """Return how many of clips 0 to count - 1 have their features stored in `folder`; no clip is read."""
        bounds, store = block_bounds(count), BlockStore(folder, "features", self.reporter, self.processes)
        known = zip(Memory(dataset, bounds, folder, self.workers).recall(), bounds, strict=True)
        return sum(
            stop - start for facts, (start, stop) in known if facts is not None and self._stored(store, facts)
        )

    def _blocks(
        self, memory: Memory, dataset: ClipDataset, bounds: list[tuple[int, int]], store: BlockStore, title: str
    ) -> Iterator[BlockMetadata]:
        """Yield the facts of each block, computing missing features while the next clips are decoded."""
        known = self._believed(memory, len(bounds), store, title)
        missing = [number for number, facts in enumerate(known) if facts is None]
        owners = {number: self.processes.owner(place) for place, number in enumerate(missing)}
        mine = [number for number in missing if owners[number] == self.processes.rank]
        indices = [index for number in mine for index in range(*bounds[number])]
        decoded = ordered_map(lambda index: load_clip(dataset, index), indices, self.workers)
        computed: dict[int, BlockMetadata] = {}
        if self.processes.size > 1:
            for number in mine:
                computed[number] = self._compute([next(decoded) for _ in range(*bounds[number])], store)
        for number, facts in enumerate(known):
            if facts is not None:
                yield facts
                continue
            if self.processes.size == 1:
                found = self._compute([next(decoded) for _ in range(*bounds[number])], store)
            else:
                found = self._exchange(computed.get(number), store, owners[number])
            memory.keep(number, found)
            yield found

    def _believed(self, memory: Memory, count: int, store: BlockStore, title: str) -> list[BlockMetadata | None]:
        """Return the facts of blocks that need not be read: stored, with a random sample of clips unchanged."""
        known = [None] * count if self.recheck else memory.recall()
        for path in memory.damaged:
            self.reporter.note(f"what {path} remembered of {title} was damaged; its clips are read again")
        # Processes may see different folders: a block counts as stored only if all have it.
        there = self.processes.all_true([facts is not None and self._stored(store, facts) for facts in known])
        found = [facts if flag else None for facts, flag in zip(known, there, strict=True)]
        taken = [(number, facts) for number, facts in enumerate(found) if facts is not None]
        mine = [block for place, block in enumerate(taken) if self.processes.owner(place) == self.processes.rank]
        changed = memory.first_changed(mine)
        if self.processes.all_true([changed is None])[0]:
            return found
        memory.forget()
        self.reporter.note(
            f"{title}: {changed or 'a clip'} is not what it was when it was last read, though its file looks the "
            f"same; all {title} are read again"
        )
        return [None] * count

    def _exchange(self, computed: BlockMetadata | None, store: BlockStore, owner: int) -> BlockMetadata:
        """Send a block from the process that has computed it to all others."""
        sent = self.processes.broadcast(computed.to_json().encode() if computed else None, owner)
        facts = BlockMetadata.from_json(json.loads(sent))
        if facts.digests and self.networks:
            store.share(self._path(store.folder, facts), owner)
        if not self._stored(store, facts):
            raise store.lost()
        return facts

    def _compute(self, loaded: Sequence[LoadedClip | BrokenClipError], store: BlockStore) -> BlockMetadata:
        """Compute the features of a block that has been read, unless those of the same content are stored."""
        facts = BlockMetadata.of(loaded)
        if not self._stored(store, facts):
            self._extract_to(self._path(store.folder, facts), loaded)
        return facts

    def _extract_to(self, path: Path, loaded: Sequence[LoadedClip | BrokenClipError]) -> None:
        clips = [item for item in loaded if isinstance(item, LoadedClip)]
        digests = [clip.digest for clip in clips]
        write_features(path, network_names(self.networks), digests, *self.source(self.networks, clips))

    def _stored(self, store: BlockStore, facts: BlockMetadata) -> bool:
        """Return whether all required features of a block are stored, according to its header."""
        nothing = not (facts.digests and self.networks)
        if nothing:
            return True

        def read(path: Path) -> BlockHeader:
            header = read_header(path)
            is_of_these = header.digests == facts.digests and header.networks == network_names(self.networks)
            if not (is_of_these and header.holds(layers_of(self.networks))):
                raise DamagedError(path, "it is of other clips or networks", "delete it and compute it again")
            return header

        return store.find(self._path(store.folder, facts), read, len(facts.digests)) is not None

    def _header(self, block: _Block) -> BlockHeader:
        return block.store.read(block.path, read_header, lambda: self._restore(block))

    def _read(self, block: _Block, name: str) -> NDArray[np.float32]:
        """Read a layer of a block, float32 [n, d]; if it is damaged, this process computes it again."""
        return block.store.read(block.path, lambda path: read_features(path, name), lambda: self._restore(block))

    def _restore(self, block: _Block) -> None:
        """Compute the features of a block again from its clips.

        Raises:
            DamagedError: the clips have changed since their features were computed.
        """
        block.store.give_up(block.path, len(block.facts.digests))
        loaded = list(ordered_map(lambda index: load_clip(block.dataset, index), block.indices, self.workers))
        if [item.digest for item in loaded if isinstance(item, LoadedClip)] != block.facts.digests:
            changed = f"the clips of {block.title} that its features are of have changed since they were read"
            raise DamagedError(block.path, changed, "start again")
        self._extract_to(block.path, loaded)

    def _path(self, folder: Path, facts: BlockMetadata) -> Path:
        named = zip(network_names(self.networks), self.networks, strict=True)
        parts = [*(f"{name} {network.device.type}" for name, network in named), *facts.digests]
        return folder / f"{content_key(f'features {FEATURES_VERSION}', parts)}.safetensors"

    def _feature_set(
        self,
        number: int,
        stored: Sequence[_Block],
        headers: Sequence[BlockHeader],
        facts: Sequence[BlockMetadata],
        name: str | None,
    ) -> FeatureSet:
        digests = [digest for block in facts for digest in block.digests]
        content = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:12]
        refused: dict[str, str] = {}
        for header in headers:
            for array, reason in header.refused.items():
                owner, _, layer = array.partition(".")
                if owner == str(number):
                    refused.setdefault(layer, reason)

        def blocks(layer: str) -> Iterator[NDArray[np.float32]]:
            return (self._read(block, array_name(number, layer)) for block in stored)

        dataset = stored[0].dataset
        return FeatureSet(
            identity=dataset.identity or (f"{name}@{content}" if name else f"sha256-{content}"),
            clip_shape=next(block.shape for block in facts if block.shape is not None),
            count=len(digests),
            blocks=blocks,
            lossy=any(block.lossy for block in facts),
            skipped=sum(len(block.broken) for block in facts),
            repeated=len(digests) - len(set(digests)),
            refused=refused,
            plays=_plays(dataset, facts),
        )


def layers_of(networks: Sequence[FeatureNetwork]) -> dict[str, int]:
    """Return the dimensions of each layer of the networks, by its `array_name`."""
    return {
        array_name(number, layer): width
        for number, network in enumerate(networks)
        for layer, width in network.spec.layers.items()
    }


def network_names(networks: Sequence[FeatureNetwork]) -> list[str]:
    """Return the names of networks, with everything but the device that determines the features of a clip."""
    return [f"{network.spec.cache_key} {','.join(network.spec.layers)}" for network in networks]


def _plays(dataset: ClipDataset, facts: Sequence[BlockMetadata]) -> Plays:
    rates = [rate for block in facts for rate in block.fps]
    known = [rate for rate in rates if rate is not None]
    view = getattr(dataset, "view", None)
    return Plays(
        slowest=min(known, default=None),
        fastest=max(known, default=None),
        asked=view.rate if isinstance(view, View) else None,
        without=len(rates) - len(known),
        uneven=sum(block.uneven for block in facts),
    )
