"""PSNR and SSIM of predictions: measured block by block, resumable, and made into scores and curves.

Given frames are left out. A prediction of condition c is held against the frames that follow in clip c. Where
conditions come round again, a condition has K predictions, and the best of them is scored, too.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vdm_bench import __version__
from vdm_bench.conditions import Conditions
from vdm_bench.contents import LoadedClip, load_clip, readers, sample_of
from vdm_bench.datasets.base import ClipDataset, clip_digest
from vdm_bench.distributed import World
from vdm_bench.errors import InputError
from vdm_bench.files import write_bytes, write_text
from vdm_bench.leaderboards.record import Curve
from vdm_bench.metrics.features import block_bounds
from vdm_bench.metrics.frames import FRAME_METRICS, HIGHEST_PSNR
from vdm_bench.metrics.geometry import SSIM_WINDOW
from vdm_bench.metrics.jackknife import interval_of_mean, resampled_mean
from vdm_bench.metrics.score import Score, Signature
from vdm_bench.parallel import ordered_map
from vdm_bench.progress import Reporter

# Part of the name of a block's file: raise it when values or layout change.
_VERSION = 2

# What else changes the value of a metric, for its signature.
_OWN_FIELDS = {
    "psnr": {"cap": f"{HIGHEST_PSNR:g}dB"},
    "ssim": {"kernel": f"gauss{SSIM_WINDOW}-1.5-reflect"},
}

Table = NDArray[np.float64]  # [N, T]: of each clip, of each predicted frame; NaN where a clip cannot be read
_Block = tuple[dict[str, Table], dict[str, Any]]  # measures of some clips, and the facts stored beside them


@dataclass(frozen=True)
class FrameMeasures:
    """What was measured.

    Attributes:
        tables: by metric.
        truths: digest of each condition clip.
        lossy: whether generated clips come from a lossy encoding.
    """

    tables: Mapping[str, Table]
    truths: Sequence[str]
    lossy: bool


@dataclass(frozen=True)
class FrameMeter:
    """How predictions are measured.

    Attributes:
        metrics: names in `FRAME_METRICS`.
        conditions: whose clips go on as it really was.
        folder: where blocks are stored; all processes see it.
        workers: threads.
        reporter: where progress goes.
        world: the processes that share the work.
        recheck: measure every clip, whatever was measured before.
    """

    metrics: Sequence[str]
    conditions: Conditions
    folder: Path
    workers: int
    reporter: Reporter
    world: World
    recheck: bool = False

    def measure(self, clips: ClipDataset, count: int) -> FrameMeasures:
        """Measure clips 0 to count - 1, or find what was measured before.

        Of each block that is found a sample of the clips is read again, as `vdm_bench.contents` does.
        """
        bounds = block_bounds(count)
        keys = [self._key(clips, *block) for block in bounds] if self.world.leads else []
        # Those of one process: a file system may tell each machine something else.
        shared = self.world.send(" ".join(keys).encode() if self.world.leads else None, 0)
        paths = [self.folder / f"frames-{key}.json" for key in shared.decode().split()]
        mine = [number for number in range(len(bounds)) if self.world.owner(number) == self.world.rank]
        stored = {} if self.recheck else {n: block for n in mine if (block := _read(paths[n])) is not None}
        if not self.world.everyone([self._as_stored(clips, stored, bounds)])[0]:
            self.reporter.note(
                "clips are not what they were when their frames were measured; all are measured anew"
            )
            stored = {}
        with self.reporter.stage("frames of the generated clips", count) as advance:
            for number, (path, (start, stop)) in enumerate(zip(paths, bounds, strict=True)):
                if number in mine and number not in stored:
                    _write(path, self._block(clips, range(start, stop)))
                advance(stop - start)
        self.world.wait()
        blocks = list(_all(paths))
        tables = {name: np.concatenate([arrays[name] for arrays, _ in blocks]) for name in self.metrics}
        truths = [digest for _, facts in blocks for digest in facts["truths"]]
        return FrameMeasures(tables, truths, any(facts["lossy"] for _, facts in blocks))

    def _block(self, clips: ClipDataset, indices: range) -> bytes:
        given = self.conditions.protocol.context_frames
        rows: list[dict[str, Table]] = []
        truths, digests, lossy = list[str](), list[str | None](), False

        def measured(index: int) -> tuple[dict[str, Table], NDArray[np.uint8], LoadedClip | None]:
            truth, clip = self._pair(clips, index)
            return self._values(truth, clip, given), truth, clip

        for values, truth, clip in ordered_map(measured, indices, self.workers):
            rows.append(values)
            truths.append(clip_digest(truth))
            digests.append(_digest(clip))
            lossy |= clip is not None and clip.clip.lossy
        arrays = {name: np.stack([row[name] for row in rows]) for name in self.metrics}
        facts = {"truths": truths, "clips": digests, "lossy": lossy}
        return save(arrays, metadata={"facts": json.dumps(facts)})

    def _pair(self, clips: ClipDataset, index: int) -> tuple[NDArray[np.uint8], LoadedClip | None]:
        """Read what really followed, and what was predicted; None where that cannot be read."""
        clip = load_clip(clips, index)
        # A broken one is named, or counted, where the features are computed.
        return self.conditions.truth(index), clip if isinstance(clip, LoadedClip) else None

    def _values(self, truth: NDArray[np.uint8], clip: LoadedClip | None, given: int) -> dict[str, Table]:
        if clip is None:
            return dict.fromkeys(self.metrics, np.full(len(truth) - given, np.nan))
        pair = clip.clip.frames[None, given:], truth[None, given:]
        return {name: FRAME_METRICS[name](*pair)[0] for name in self.metrics}

    def _as_stored(
        self, clips: ClipDataset, stored: Mapping[int, _Block], bounds: Sequence[tuple[int, int]]
    ) -> bool:
        """Say whether a sample of the clips of stored blocks, and of what they are held against, is unchanged."""

        def same(place: tuple[int, int]) -> bool:
            number, row = place
            truth, clip = self._pair(clips, bounds[number][0] + row)
            _, facts = stored[number]
            return (clip_digest(truth), _digest(clip)) == (facts["truths"][row], facts["clips"][row])

        places = []
        for number, (_, facts) in stored.items():
            lost = [row for row, digest in enumerate(facts["clips"]) if digest is None]
            places += [(number, row) for row in {*lost, *sample_of(range(len(facts["clips"])))}]
        return all(ordered_map(same, places, self.workers))

    def _key(self, clips: ClipDataset, start: int, stop: int) -> str:
        digest = hashlib.sha256(f"frames {_VERSION} {self.metrics} {readers()}".encode())
        for index in range(start, stop):
            for fingerprint in (clips.fingerprint(index), self.conditions.fingerprint(index)):
                # Where it cannot be told whether a clip has changed, nothing is found.
                known = secrets.token_hex() if fingerprint is None else fingerprint
                digest.update(f"\n{known}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:40]


def _digest(clip: LoadedClip | None) -> str | None:
    return None if clip is None else clip.digest


def score_frames(measures: FrameMeasures, conditions: Conditions) -> tuple[list[Score], dict[str, Curve]]:
    """Give scores and curves: the mean over all predictions, and over the best of each condition.

    The interval is over conditions: by how much would the score move with other videos?
    """
    protocol = conditions.protocol
    scores: list[Score] = []
    curves: dict[str, Curve] = {}
    content = hashlib.sha256("\n".join(sorted(set(measures.truths))).encode()).hexdigest()[:12]
    for name, table in measures.tables.items():
        each = min(conditions.round_length, len(table))
        rounds = -(-len(table) // each)
        # Of a last round that is not whole, which a limit leaves.
        lacking = np.full((rounds * each - len(table), table.shape[1]), np.nan)
        by_round = np.concatenate([table, lacking]).reshape(rounds, each, -1)
        by_round = by_round[:, np.isfinite(by_round).any(axis=(0, 2))]  # conditions with a clip that can be read
        fields = {
            "in": f"{protocol.frames}x{protocol.resolution}x{protocol.resolution}",
            "task": protocol.task_signature,
            "ref": f"{protocol.source_of(protocol.conditions)}@{content}/{each}",
            "n": str(len(table)) if rounds == 1 or len(lacking) else f"{each}x{rounds}",
            "src": "lossy" if measures.lossy else "lossless",
            "v": __version__,
        } | _OWN_FIELDS[name]
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
    """The mean over all predictions of each frame, with its standard error over conditions."""
    of_conditions = np.nanmean(by_round, axis=0)  # [conditions, T]
    errors = None
    if len(of_conditions) > 1:
        errors = (np.nanstd(of_conditions, axis=0, ddof=1) / np.sqrt(len(of_conditions))).tolist()
    return Curve(
        frames=list(range(given, given + by_round.shape[2])),
        values=np.nanmean(of_conditions, axis=0).tolist(),
        standard_errors=errors,
    )


def _write(path: Path, block: bytes) -> None:
    """Store a block under its content, and its name at `path`, which is named after the clips' files."""
    name = f"frames-{hashlib.sha256(block).hexdigest()[:40]}.safetensors"
    write_bytes(path.with_name(name), block)
    write_text(path, json.dumps({"block": name}) + "\n")


def _read(path: Path) -> _Block | None:
    """Read the block that is named at `path`; one that is missing or damaged is measured again."""
    try:
        block = path.with_name(json.loads(path.read_bytes())["block"])
        with safe_open(block, framework="np") as file:
            facts = json.loads(file.metadata()["facts"])
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, facts
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _all(paths: Sequence[Path]) -> Iterator[_Block]:
    for path in paths:
        block = _read(path)
        if block is None:
            raise InputError(f"{path}, just measured, cannot be read; give an --out that all processes see")
        yield block
