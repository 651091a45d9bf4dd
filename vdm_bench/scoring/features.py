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
import math
import time
from collections.abc import Callable, Iterator, Sequence
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
from vdm_bench.metrics.rates import FrameRates
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.files import remove_temporary_files
from vdm_bench.runtime.progress import Advance, Reporter
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.scoring.blocks import BlockStore, content_key
from vdm_bench.scoring.feature_files import (
    FEATURES_VERSION,
    BlockHeader,
    array_name,
    layers_of,
    network_names,
    read_features,
    read_header,
    write_features,
)
from vdm_bench.scoring.partial import PartialBlock, remove_finished
from vdm_bench.video.clip import ClipDataset
from vdm_bench.video.contents import (
    SKIP_BROKEN,
    BlockMetadata,
    ContentCache,
    LoadedClip,
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
        self, networks: Sequence[FeatureNetwork], clips: Sequence[LoadedClip], partial: PartialBlock
    ) -> tuple[Features, dict[str, str]]:
        """Return what `compute_layers` returns for the same clips."""


def compute_layers(
    networks: Sequence[FeatureNetwork], clips: Sequence[LoadedClip], partial: PartialBlock
) -> tuple[Features, dict[str, str]]:
    """Compute the layers of all networks for the clips of one block.

    Args:
        networks: the networks.
        clips: the clips.
        partial: passes of an interrupted run are taken from it, and new ones are kept in it.

    Returns:
        The layers, and the reasons for missing layers: a network does not accept the clips, or returns NaN for
        one. The keys of both are `array_name`s.

    Raises:
        InputError: no network accepts the clips.
    """
    partial.open(networks, [item.digest for item in clips])
    pixels = torch.from_numpy(np.stack([item.clip.frames for item in clips])).to(networks[0].device)
    arrays: Features = {}
    refused: dict[str, str] = {}
    errors: list[InputError] = []
    for number, network in enumerate(networks):
        try:
            layers = compute_features(network, pixels, partial.hook(number))
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
        clock: returns seconds; decides when the passes of an unfinished block are kept.
    """

    networks: Sequence[FeatureNetwork]
    workers: int
    skip_broken: bool
    reporter: Reporter
    processes: ProcessGroup = field(default_factory=ProcessGroup)
    recheck: bool = False
    way_out: str = SKIP_BROKEN
    source: FeatureSource = compute_layers
    clock: Callable[[], float] = time.monotonic

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
        remove_finished(folder)
        store = BlockStore(folder, "features", self.reporter, self.processes)
        bounds = block_bounds(count)
        cache = ContentCache(dataset, bounds, folder, self.workers)
        known = self._recall(cache, len(bounds), store, title)
        facts = self._describe(cache, known, dataset, bounds, store, title)
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

    def count_featured(self, dataset: ClipDataset, count: int, folder: Path, title: str) -> int:
        """Count the clips whose features are stored, without reading one; arguments as in `collect`."""
        store = BlockStore(folder, "features", self.reporter, self.processes)
        bounds = block_bounds(count)
        known = self._recall(ContentCache(dataset, bounds, folder, self.workers), len(bounds), store, title)
        return sum(stop - start for (start, stop), facts in zip(bounds, known, strict=True) if facts is not None)

    def _describe(
        self,
        cache: ContentCache,
        known: Sequence[BlockMetadata | None],
        dataset: ClipDataset,
        bounds: Sequence[tuple[int, int]],
        store: BlockStore,
        title: str,
    ) -> list[BlockMetadata]:
        """Return the facts of all blocks, after their features are stored.

        Progress counts the network passes of this process, so that it moves with the first clips.
        """
        steps = [self._steps(stop - start) for start, stop in bounds]
        owners = self._owners(known)
        found = sum(steps) - sum(steps[number] for number in owners)
        mine = sum(steps[number] for number, owner in owners.items() if owner == self.processes.rank)
        what, unit = ("features", "passes") if self.networks else ("content", "clips")
        with self.reporter.stage(f"{what} of {title}", found + mine, unit, found=found) as advance:
            if self._is_unchanged(cache, known, title):
                facts: list[BlockMetadata] = []
                shape: Shape | None = None
                for block in self._blocks(cache, known, dataset, bounds, store, advance):
                    facts.append(block)
                    shape = shape or block.shape
                    if shape and block.shape and shape != block.shape:
                        raise unlike((f"the first clips of {title}", shape), ("a later one", block.shape))
                return facts
        return self._describe(cache, [None] * len(bounds), dataset, bounds, store, title)

    def _owners(self, known: Sequence[BlockMetadata | None]) -> dict[int, int]:
        """Return which process computes each missing block."""
        missing = (number for number, facts in enumerate(known) if facts is None)
        return {number: self.processes.owner(place) for place, number in enumerate(missing)}

    def _steps(self, clips: int) -> int:
        """Return the steps of progress for a block of so many clips: network passes, or clips if only hashed."""
        if not self.networks:
            return clips
        return sum(math.ceil(clips / network.spec.batch_size) for network in self.networks)

    def _blocks(
        self,
        cache: ContentCache,
        known: Sequence[BlockMetadata | None],
        dataset: ClipDataset,
        bounds: Sequence[tuple[int, int]],
        store: BlockStore,
        advance: Advance,
    ) -> Iterator[BlockMetadata]:
        """Yield the facts of each block, computing missing features while the next clips are decoded."""
        owners = self._owners(known)
        mine = [number for number, owner in owners.items() if owner == self.processes.rank]
        indices = [index for number in mine for index in range(*bounds[number])]
        decoded = ordered_map(lambda index: load_clip(dataset, index), indices, self.workers)
        computed: dict[int, BlockMetadata] = {}
        if self.processes.size > 1:
            for number in mine:
                loaded = [next(decoded) for _ in range(*bounds[number])]
                computed[number] = self._compute(loaded, store, advance)
        for number, facts in enumerate(known):
            if facts is not None:
                yield facts
                continue
            if self.processes.size == 1:
                found = self._compute([next(decoded) for _ in range(*bounds[number])], store, advance)
            else:
                found = self._exchange(computed.get(number), store, owners[number])
            cache.keep(number, found)
            yield found

    def _recall(
        self, cache: ContentCache, count: int, store: BlockStore, title: str
    ) -> list[BlockMetadata | None]:
        """Return the cached facts of each block whose features are stored too; None for the others."""
        known = [None] * count if self.recheck else cache.recall()
        for path in cache.damaged:
            self.reporter.note(f"what {path} remembered of {title} was damaged; its clips are read again")
        # Processes may see different folders: a block counts as stored only if all have it.
        there = self.processes.all_true([facts is not None and self._stored(store, facts) for facts in known])
        return [facts if flag else None for facts, flag in zip(known, there, strict=True)]

    def _is_unchanged(self, cache: ContentCache, known: Sequence[BlockMetadata | None], title: str) -> bool:
        """Read a sample of the clips of known blocks; if one has changed, delete all cached facts."""
        taken = [(number, facts) for number, facts in enumerate(known) if facts is not None]
        if not taken:  # in any process
            return True
        mine = [block for place, block in enumerate(taken) if self.processes.owner(place) == self.processes.rank]
        changed = cache.first_changed(mine)
        if self.processes.all_true([changed is None])[0]:
            return True
        cache.forget()
        self.reporter.note(
            f"{title}: {changed or 'a clip'} is not what it was when it was last read, though its file looks the "
            f"same; all {title} are read again"
        )
        return False

    def _exchange(self, computed: BlockMetadata | None, store: BlockStore, owner: int) -> BlockMetadata:
        """Send a block from the process that has computed it to all others."""
        sent = self.processes.broadcast(computed.to_json().encode() if computed else None, owner)
        facts = BlockMetadata.from_json(json.loads(sent))
        if facts.digests and self.networks:
            store.share(self._path(store.folder, facts), owner)
        if not self._stored(store, facts):
            raise store.lost()
        return facts

    def _compute(
        self, loaded: Sequence[LoadedClip | BrokenClipError], store: BlockStore, advance: Advance
    ) -> BlockMetadata:
        """Compute the features of a block that has been read, unless those of the same content are stored."""
        facts, left = BlockMetadata.of(loaded), self._steps(len(loaded))

        def count(steps: int) -> None:
            nonlocal left
            left -= steps
            advance(steps)

        if not self._stored(store, facts):
            self._extract_to(self._path(store.folder, facts), loaded, store, count)
        advance(left)  # passes that were not needed
        return facts

    def _extract_to(
        self, path: Path, loaded: Sequence[LoadedClip | BrokenClipError], store: BlockStore, advance: Advance
    ) -> None:
        clips = [item for item in loaded if isinstance(item, LoadedClip)]
        digests = [clip.digest for clip in clips]
        partial = PartialBlock(path, store, advance, self.clock)
        layers, refused = self.source(self.networks, clips, partial)
        write_features(path, network_names(self.networks), digests, layers, refused)
        partial.remove()

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
        self._extract_to(block.path, loaded, block.store, lambda steps: None)

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
        view = getattr(dataset, "view", None)
        return FeatureSet(
            identity=dataset.identity or (f"{name}@{content}" if name else f"sha256-{content}"),
            clip_shape=next(block.shape for block in facts if block.shape is not None),
            count=len(digests),
            blocks=blocks,
            lossy=any(block.lossy for block in facts),
            skipped=sum(len(block.broken) for block in facts),
            repeated=len(digests) - len(set(digests)),
            refused=refused,
            frame_rates=_frame_rates(view, facts),
            view=view.text if isinstance(view, View) else "",
        )


def _frame_rates(view: object, facts: Sequence[BlockMetadata]) -> FrameRates:
    rates = [rate for block in facts for rate in block.fps]
    known = [rate for rate in rates if rate is not None]
    return FrameRates(
        slowest=min(known, default=None),
        fastest=max(known, default=None),
        asked=view.rate if isinstance(view, View) else None,
        without=len(rates) - len(known),
        uneven=sum(block.uneven for block in facts),
    )
