"""PSNR and SSIM of predictions: computed block by block, resumable, and averaged into scores and curves.

Context frames are excluded. Predictions are compared with the frames that follow the context in the same clip. If
each context is sampled K times, the best of its K predictions is also scored.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import DamagedError
from vdm_bench.leaderboards.record import Curve
from vdm_bench.metrics.choices import SSIM_WINDOW
from vdm_bench.metrics.extraction import block_bounds
from vdm_bench.metrics.frame_metrics import FRAME_METRICS, HIGHEST_PSNR
from vdm_bench.metrics.jackknife import interval_of_mean, resampled_mean
from vdm_bench.metrics.score import Score, Signature
from vdm_bench.protocols.clips import source_of, task_signature
from vdm_bench.protocols.conditions import Conditions
from vdm_bench.runtime.checksums import open_arrays, read_json, write_json
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.scoring.blocks import BlockStore, content_key, write_block
from vdm_bench.version import __version__
from vdm_bench.video.clip import Clip, ClipDataset, digest_of, is_digest
from vdm_bench.video.contents import LoadedClip, load_clip, readers, sample_of

# Part of the file name of a block: raise it when values or layout change.
_VERSION = 3

# Constants that affect the value of a metric, for its signature.
_OWN_FIELDS = {
    "psnr": {"cap": f"{HIGHEST_PSNR:g}dB"},
    "ssim": {"kernel": f"gauss{SSIM_WINDOW}-1.5-reflect"},
}

Table = NDArray[np.float64]  # [N, T]: per clip and predicted frame; NaN if the clip cannot be read
_BLOCK_NAME = re.compile(r"frames-[0-9a-f]{40}\.safetensors")


@dataclass(frozen=True)
class FrameMeasures:
    """Frame metrics of all predictions.

    Attributes:
        tables: values by metric.
        truths: digest of each ground-truth clip.
        lossy: whether generated clips come from a lossy encoding.
    """

    tables: Mapping[str, Table]
    truths: Sequence[str]
    lossy: bool


@dataclass(frozen=True)
class _Block:
    """Frame metrics of one block of clips, as stored.

    Attributes:
        tables: values by metric.
        truths: digest of each ground-truth clip.
        clips: digest of each generated clip; None if it cannot be read.
        lossy: whether any comes from a lossy encoding.
    """

    tables: Mapping[str, Table]
    truths: Sequence[str]
    clips: Sequence[str | None]
    lossy: bool


@dataclass(frozen=True)
class FrameEvaluator:
    """Computes the frame metrics of predictions.

    Attributes:
        metrics: names in `FRAME_METRICS`.
        conditions: the conditioning of each clip, with its ground truth.
        folder: folder of the blocks.
        workers: number of threads.
        reporter: receives progress.
        processes: processes that share the work.
        recheck: compute the metrics of every clip, even if they are stored.
    """

    metrics: Sequence[str]
    conditions: Conditions
    folder: Path
    workers: int
    reporter: Reporter
    processes: ProcessGroup
    recheck: bool = False

    def measure(self, clips: ClipDataset, count: int) -> FrameMeasures:
        """Compute or find the frame metrics of clips 0 to count - 1.

        A random sample of the clips of each stored block is read again, as in `vdm_bench.video.contents`.
        """
        store = BlockStore(self.folder, "frame measures", self.reporter, self.processes)
        bounds = block_bounds(count)
        keys = [self._key(clips, *block) for block in bounds] if self.processes.is_main else []
        # All use the keys of one process, because a file system may report different stamps to each machine.
        shared = self.processes.broadcast(" ".join(keys).encode() if self.processes.is_main else None, 0)
        paths = [self.folder / f"frames-{key}.json" for key in shared.decode().split()]
        mine = [number for number in range(len(bounds)) if self.processes.owner(number) == self.processes.rank]
        found = {} if self.recheck else {n: self._find(store, paths[n], bounds[n]) for n in mine}
        stored = {number: block for number, block in found.items() if block is not None}
        if not self.processes.all_true([self._as_stored(clips, stored, bounds)])[0]:
            self.reporter.note(
                "clips are not what they were when their frames were measured; all are measured again"
            )
            stored = {}
        with self.reporter.stage("frames of the generated clips", count) as advance:
            for number, (path, (start, stop)) in enumerate(zip(paths, bounds, strict=True)):
                if number in mine and number not in stored:
                    self._write(path, self._block(clips, range(start, stop)))
                advance(stop - start)
        blocks = [
            self._shared(store, clips, path, bound, self.processes.owner(number))
            for number, (path, bound) in enumerate(zip(paths, bounds, strict=True))
        ]
        tables = {name: np.concatenate([block.tables[name] for block in blocks]) for name in self.metrics}
        truths = [digest for block in blocks for digest in block.truths]
        return FrameMeasures(tables, truths, any(block.lossy for block in blocks))

    def _shared(
        self, store: BlockStore, clips: ClipDataset, path: Path, bound: tuple[int, int], owner: int
    ) -> _Block:
        """Return a block from its owner, which computes it again if it has been damaged since."""
        block = None
        if self.processes.rank == owner:
            block = self._find(store, path, bound)
            if block is None:
                self._write(path, self._block(clips, range(*bound)))
        store.share(path, owner)
        if self.processes.size > 1:
            store.share(_named_at(path), owner)
        block = block or self._find(store, path, bound)
        if block is None:
            raise store.lost()
        return block

    def _find(self, store: BlockStore, path: Path, bound: tuple[int, int]) -> _Block | None:
        """Read the block that is named at `path`; return None if it is missing, or damaged, which is reported."""
        count = bound[1] - bound[0]
        given, whole = self.conditions.protocol.context_frames, self.conditions.protocol.frames
        return store.find(path, lambda path: _read(path, self.metrics, (count, whole - given)), count)

    def _write(self, path: Path, block: _Block) -> None:
        """Store a block under a hash of its content, and its name at `path`, a hash of the files' stamps."""
        facts = {"truths": list(block.truths), "clips": list(block.clips), "lossy": block.lossy}
        title = f"frames {_VERSION} {self.metrics} {readers()} {block.lossy}"
        name = f"frames-{content_key(title, map(str, (*block.truths, *block.clips)))}.safetensors"
        write_block(path.with_name(name), block.tables, facts)
        write_json(path, {"block": name})

    def _block(self, clips: ClipDataset, indices: range) -> _Block:
        given = self.conditions.protocol.context_frames
        rows: list[dict[str, Table]] = []
        truths, digests, lossy = list[str](), list[str | None](), False

        def measured(index: int) -> tuple[dict[str, Table], str, LoadedClip | None]:
            truth, clip = self._pair(clips, index)
            return self._values(truth.frames, clip, given), digest_of(truth), clip

        for values, truth, clip in ordered_map(measured, indices, self.workers):
            rows.append(values)
            truths.append(truth)
            digests.append(_digest(clip))
            lossy |= clip is not None and clip.clip.lossy
        tables = {name: np.stack([row[name] for row in rows]) for name in self.metrics}
        return _Block(tables, truths, digests, lossy)

    def _pair(self, clips: ClipDataset, index: int) -> tuple[Clip, LoadedClip | None]:
        """Read the ground truth and the prediction; None for a prediction that cannot be read."""
        clip = load_clip(clips, index)
        # Broken clips are reported when features are extracted.
        return self.conditions.truth(index), clip if isinstance(clip, LoadedClip) else None

    def _values(self, truth: NDArray[np.uint8], clip: LoadedClip | None, given: int) -> dict[str, Table]:
        if clip is None:
            return dict.fromkeys(self.metrics, np.full(len(truth) - given, np.nan))
        pair = clip.clip.frames[None, given:], truth[None, given:]
        return {name: FRAME_METRICS[name](*pair)[0] for name in self.metrics}

    def _as_stored(
        self, clips: ClipDataset, stored: Mapping[int, _Block], bounds: Sequence[tuple[int, int]]
    ) -> bool:
        """Return whether a random sample of the clips of stored blocks, and their ground truth, is unchanged."""

        def same(place: tuple[int, int]) -> bool:
            number, row = place
            truth, clip = self._pair(clips, bounds[number][0] + row)
            block = stored[number]
            return (digest_of(truth), _digest(clip)) == (block.truths[row], block.clips[row])

        places = []
        for number, block in stored.items():
            lost = [row for row, digest in enumerate(block.clips) if digest is None]
            places += [(number, row) for row in {*lost, *sample_of(range(len(block.clips)))}]
        return all(ordered_map(same, places, self.workers))

    def _key(self, clips: ClipDataset, start: int, stop: int) -> str:
        fingerprints = (
            side.fingerprint(index) for index in range(start, stop) for side in (clips, self.conditions)
        )
        # Without a fingerprint a change would go unnoticed, so the key is random and finds nothing.
        known = (secrets.token_hex() if one is None else one for one in fingerprints)
        return content_key(f"frames {_VERSION} {self.metrics} {readers()}", known)


def _digest(clip: LoadedClip | None) -> str | None:
    return None if clip is None else clip.digest


def score_frames(measures: FrameMeasures, conditions: Conditions) -> tuple[list[Score], dict[str, Curve]]:
    """Return scores and curves: the mean over all predictions, and over the best prediction of each context.

    The interval is over contexts: how much would the score vary with other videos?
    """
    protocol = conditions.protocol
    scores: list[Score] = []
    curves: dict[str, Curve] = {}
    content = hashlib.sha256("\n".join(sorted(set(measures.truths))).encode()).hexdigest()[:12]
    for name, table in measures.tables.items():
        each = min(conditions.round_length, len(table))
        rounds = -(-len(table) // each)
        # Padding for an incomplete last round, which a limit leaves.
        lacking = np.full((rounds * each - len(table), table.shape[1]), np.nan)
        by_round = np.concatenate([table, lacking]).reshape(rounds, each, -1)
        by_round = by_round[:, np.isfinite(by_round).any(axis=(0, 2))]  # contexts with a readable clip
        fields = {
            "in": f"{protocol.frames}x{protocol.resolution}x{protocol.resolution}",
            "task": task_signature(protocol),
            "ref": f"{source_of(protocol, protocol.conditions)}@{content}/{each}",
            "n": str(len(table)) if rounds == 1 or len(lacking) else f"{each}x{rounds}",
            "src": "lossy" if measures.lossy else "lossless",
            "v": __version__,
        } | _OWN_FIELDS[name]
        if view := protocol.scored_view.text:
            fields["view"] = view
        of_clips = by_round.mean(axis=2)
        ways = {name: np.nanmean(of_clips, axis=0)}
        if rounds > 1 and not len(lacking):
            ways[f"{name}/best-of-{rounds}"] = np.nanmax(of_clips, axis=0)
        scores += [_score(metric, values, table, fields) for metric, values in ways.items()]
        curves[name] = _curve(by_round, protocol.context_frames)
    return scores, curves


def _score(metric: str, values: Table, table: Table, fields: Mapping[str, str]) -> Score:
    signature = Signature.of(metric, fields)
    lost = int(np.isnan(table).any(axis=1).sum())
    interval = interval_of_mean(values.tolist(), "conditions")
    return Score(
        metric=metric,
        value=float(values.mean()),
        higher_is_better=True,
        n_reference=0,
        n_generated=len(table) - lost,
        signature=str(signature),
        digest=signature.digest,
        interval=interval,
        marks=(f"{lost} generated {'clip' if lost == 1 else 'clips'} broken and skipped",) if lost else (),
        jackknife=tuple(resampled_mean(values.tolist()).without.tolist()),
        jackknife_groups="permuted-conditions" if interval else None,
    )


def _curve(by_round: Table, given: int) -> Curve:
    """Return the mean over all predictions of each frame, with its standard error over contexts."""
    of_conditions = np.nanmean(by_round, axis=0)  # [conditions, T]
    errors = None
    if len(of_conditions) > 1:
        errors = (np.nanstd(of_conditions, axis=0, ddof=1) / np.sqrt(len(of_conditions))).tolist()
    return Curve(
        frames=list(range(given, given + by_round.shape[2])),
        values=np.nanmean(of_conditions, axis=0).tolist(),
        standard_errors=errors,
    )


def _read(path: Path, metrics: Sequence[str], shape: tuple[int, int]) -> _Block:
    """Read the block that is named at `path`, with tables of this shape.

    Raises:
        FileNotFoundError: `path` does not exist.
        InputError: the block or its name is missing or damaged.
    """
    with open_arrays(_named_at(path)) as stored:
        tables = {metric: stored.read(metric) for metric in metrics}
        found: list[Any] = [stored.facts.get(key) for key in ("truths", "clips", "lossy")]
        are_of_shape = all(table.shape == shape and table.dtype == np.float64 for table in tables.values())
        if not (are_of_shape and _are_facts(shape[0], *found)):
            raise DamagedError(stored.path, "it holds no measures of these clips", stored.way_out)
    return _Block(tables, *found)


def _named_at(path: Path) -> Path:
    name = read_json(path).get("block")
    if not (isinstance(name, str) and _BLOCK_NAME.fullmatch(name)):
        raise DamagedError(path, "it names no block", "delete it and compute it again")
    return path.with_name(name)


def _are_facts(count: int, truths: Any, clips: Any, lossy: Any) -> bool:
    return (
        isinstance(truths, list)
        and isinstance(clips, list)
        and (len(truths), len(clips)) == (count, count)
        and all(map(is_digest, truths))
        and all(clip is None or is_digest(clip) for clip in clips)
        and isinstance(lossy, bool)
    )
