"""A run: a sampler under a protocol, in stages that can be interrupted at any moment.

Stages: reference features (cached for all runs of this user), samples (64 clips at a time, into the clip
archive `samples/`), features of the samples, scores, record. Every file appears whole or not at all, and a
clip depends on its own seed alone, so a run that is started again goes on and ends with the same bits.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vdm_bench.collect import Collected, Collector
from vdm_bench.datasets.base import Clip, ClipDataset
from vdm_bench.datasets.folder import SAMPLES_FOLDER, open_clips
from vdm_bench.distributed import World
from vdm_bench.errors import BrokenClipError, InputError, VdmBenchError
from vdm_bench.files import cache_folder, sweep, write_text
from vdm_bench.leaderboards.record import (
    RECORD_FILE,
    ProtocolInfo,
    Record,
    SamplerInfo,
    read_record,
    write_record,
)
from vdm_bench.metrics.networks import Computing, pick_device
from vdm_bench.parallel import ordered_map
from vdm_bench.progress import Reporter, Silent
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.samplers import make_sampler
from vdm_bench.samplers.base import (
    RecordingSampler,
    Sampler,
    SampleRequest,
    SamplerSetup,
    checked_samples,
    sample_seed,
)
from vdm_bench.samplers.callable import code_digest
from vdm_bench.scoring import Panel, Side, Stopwatch, lead, make_record
from vdm_bench.video.archive import SHARD_CLIPS, Archive, ArchiveWriter
from vdm_bench.video.view import View

PLAN_FILE = "plan.json"

# Mean absolute difference, in 255ths, by which given frames may change in a lossy video file. A test holds
# that H.264, VP9 and GIF stay below it on `shapes`, and that clips in another order do not.
LOSSY_CONTEXT_TOLERANCE = 12.0


@dataclass(frozen=True)
class _Options:
    """How a protocol is run: the keywords of `run`."""

    sampler: str | Sampler | None
    options: dict[str, str]
    clips: Path | None
    seed: int
    limit: int | None
    skip_broken: bool
    computing: Computing
    workers: int
    name: str | None


def run(
    protocol: str | Protocol,
    *,
    out: str | Path,
    sampler: str | Sampler | None = None,
    options: Mapping[str, str] | None = None,
    clips: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    skip_broken: bool = False,
    computing: Computing | None = None,
    workers: int = 2,
    name: str | None = None,
    reporter: Reporter | None = None,
    world: World | None = None,
) -> Record:
    """Run a protocol, or go on with a run that was interrupted.

    Args:
        protocol: its name, the path of its TOML file, or the protocol itself.
        out: run folder: `run.json`, `samples/`, `features/`.
        sampler: name of a baseline, `module:object`, or an object with `sample(request)`.
        options: `key=value` options of the sampler.
        clips: clips that are there already, instead of a sampler.
        seed: of the run, in [0, 2**32).
        limit: generate only so many clips; the run is then marked as departing from its protocol.
        skip_broken: leave out given clips that cannot be read.
        computing: how networks compute; on the CPU, if None.
        workers: threads that decode.
        name: how the run is called in tables; the sampler's name, if None.
        reporter: where progress goes; nowhere by default.
        world: the processes that share the work, as `vdm_bench.distributed.join_world()` gives it; this one
            alone by default.

    Raises:
        InputError: bad input; or `out` holds a run with other settings.
    """
    if isinstance(protocol, str):
        protocol = get_protocol(protocol)
    given = None if clips is None else Path(clips)
    chosen = _Options(
        sampler, dict(options or {}), given, seed, limit, skip_broken, computing or Computing(), workers, name
    )
    world = world or World()
    return _Run(protocol, Path(out), chosen, reporter if reporter and world.leads else Silent(), world).record()


def _call(sampler: Sampler, request: SampleRequest, name: str) -> object:
    try:
        return sampler.sample(request)
    except VdmBenchError:
        raise
    except Exception as error:
        raise InputError(
            f"sampler {name} failed on clips {request.indices[0]} to {request.indices[-1]} "
            f"({type(error).__name__}: {error}); --debug shows where"
        ) from error


class _Run:
    def __init__(
        self, protocol: Protocol, out: Path, options: _Options, reporter: Reporter, world: World
    ) -> None:
        self.protocol, self.out, self.options, self.reporter = protocol, out, options, reporter
        self.world = world
        self.departures: list[str] = []
        self.count = self._planned_count()
        self.stopwatch = Stopwatch()
        self.sampler_code: str | None = None

    def record(self) -> Record:
        panel = Panel.of(self.protocol.metrics, self.options.computing, self.reporter)
        generate, sampler = self._source()
        self._keep_plan(sampler, panel)
        self.world.wait()
        if (self.out / RECORD_FILE).exists():
            self.reporter.note(f"{self.out} holds this run already, complete; nothing to do")
            return read_record(self.out / RECORD_FILE)
        with self.stopwatch.stage("samples"):
            clips = generate()
        reference, generated = self._collect(panel, clips)
        record = lead(self.world, lambda: self._score(panel, sampler, reference, generated))
        if self.world.leads:
            write_record(record, self.out / RECORD_FILE)
            sweep(self.out)
        return record

    def _score(self, panel: Panel, sampler: SamplerInfo, reference: Collected, generated: Collected) -> Record:
        with self.stopwatch.stage("scores"):
            scores = panel.scores(
                reference,
                generated,
                task=self.protocol.task_signature,
                expected_generated=self.protocol.generated_count,
            )
        return make_record(
            name=self.options.name or sampler.spec,
            protocol=ProtocolInfo(
                name=self.protocol.name, digest=self.protocol.digest, departures=self.departures
            ),
            sampler=sampler,
            reference=Side(reference.features[0].identity, self.protocol.reference_count, reference),
            generated=Side(sampler.spec, self.protocol.generated_count, generated),
            scores=scores,
            stopwatch=self.stopwatch,
            device=str(panel.networks[0].device),
        )

    def _planned_count(self) -> int:
        wanted, limit = self.protocol.generated_count, self.options.limit
        if limit is None or limit >= wanted:
            return wanted
        if limit < 2:
            raise InputError(f"--limit {limit} is too few; a score needs at least 2 clips")
        self.departures.append(f"generated {limit} of {wanted} clips")
        return limit

    def _source(self) -> tuple[Callable[[], ClipDataset], SamplerInfo]:
        """Give what makes the generated clips, and its description."""
        chosen, folder, options = self.options.sampler, self.options.clips, self.options.options
        if (chosen is None) == (folder is None):
            raise InputError("give a sampler (--sampler NAME) or clips (--clips PATH), one of the two")
        if folder is not None:
            info = SamplerInfo(kind="folder", spec=str(folder), settings={}, seed=None)
            return (lambda: self._given_clips(folder)), info
        device = pick_device(self.options.computing.device)
        setup = SamplerSetup(self.protocol.open_dataset(self.protocol.conditions), options, device)
        if isinstance(chosen, Sampler):
            kind, name, sampler = "callable", type(chosen).__name__, chosen
        else:
            name = str(chosen)
            kind, sampler = make_sampler(name, setup)
        self.sampler_code = code_digest(sampler)
        info = SamplerInfo(
            kind=kind,
            spec=name,
            settings=sampler.recorded_settings if isinstance(sampler, RecordingSampler) else {**options},
            seed=self.options.seed,
        )
        return (lambda: self._sample(sampler, name)), info

    def _keep_plan(self, sampler: SamplerInfo, panel: Panel) -> None:
        """Write what this run is, or refuse a folder that holds another one."""
        plan = json.dumps(
            {
                "protocol": self.protocol.name,
                "protocol_digest": self.protocol.digest,
                "clips": self.count,
                "name": self.options.name or sampler.spec,
                "sampler": sampler.model_dump(mode="json"),
                "sampler code": self.sampler_code,
                "networks": sorted({network.spec.cache_key for network in panel.networks}),
                "skip_broken": self.options.skip_broken,
            },
            indent=2,
            sort_keys=True,
        )
        path = self.out / PLAN_FILE
        if not path.exists():
            if self.world.leads:
                write_text(path, plan + "\n")
            return
        try:
            old, new = json.loads(path.read_bytes()), json.loads(plan)
            unlike = [key for key in new if old.get(key) != new[key]]
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{path} cannot be read ({error}); choose another --out, or delete it") from error
        if unlike:
            raise InputError(
                f"{self.out} holds a run with another {', '.join(unlike)}; choose another --out, or delete it"
            )

    def _given_clips(self, folder: Path) -> ClipDataset:
        clips = open_clips(folder, View(frames=self.protocol.frames))
        if len(clips) < self.count:
            self.departures.append(f"{len(clips)} of {self.count} clips given")
            self.count = len(clips)
        if self.protocol.context_frames:
            self._check_context(clips, folder)
        return clips

    def _check_context(self, clips: ClipDataset, folder: Path) -> None:
        """Refuse given clips that do not begin with the frames their prediction had to start from."""
        conditions = self.protocol.open_dataset(self.protocol.conditions)
        given = self.protocol.context_frames

        def differs(index: int) -> bool:
            try:
                clip = clips[index]
            except BrokenClipError:
                return False  # named, or counted, when the features are computed
            wanted, found = conditions[index].frames[:given], clip.frames[:given]
            if not clip.lossy or wanted.shape != found.shape:
                return not np.array_equal(wanted, found)
            return float(np.abs(wanted.astype(np.int16) - found).mean()) > LOSSY_CONTEXT_TOLERANCE

        wrong = sum(ordered_map(differs, range(self.count), self.options.workers))
        if wrong:
            raise InputError(
                f"{wrong} of {self.count} clips in {folder} do not begin with the {given} frames given to clip i "
                "in the order of their names; write the given frames in front of the predicted ones"
            )

    def _sample(self, sampler: Sampler, name: str) -> ClipDataset:
        protocol = self.protocol
        shape = (protocol.frames, protocol.resolution, protocol.resolution)
        writer = ArchiveWriter(self.out / SAMPLES_FOLDER, shape)
        with self.reporter.stage(f"samples of {name}", self.count) as advance:
            for start in range(0, self.count, SHARD_CLIPS):
                indices, shard = range(start, min(start + SHARD_CLIPS, self.count)), start // SHARD_CLIPS
                mine = self.world.owner(shard) == self.world.rank
                if mine and not writer.has_shard(shard, len(indices)):
                    writer.write_shard(shard, self._sample_shard(sampler, name, indices))
                advance(len(indices))
        self.world.wait()
        return Archive(self.out / SAMPLES_FOLDER, self.count)

    def _sample_shard(self, sampler: Sampler, name: str, indices: Sequence[int]) -> list[Clip]:
        protocol = self.protocol
        conditions = protocol.open_dataset(protocol.conditions)
        given = [conditions[index] for index in indices] if protocol.context_frames else []
        request = SampleRequest(
            indices=tuple(indices),
            seeds=tuple(sample_seed(self.options.seed, index) for index in indices),
            frames=protocol.frames,
            height=protocol.resolution,
            width=protocol.resolution,
            context=np.stack([clip.frames[: protocol.context_frames] for clip in given]) if given else None,
        )
        clips = checked_samples(_call(sampler, request, name), request, name)
        return [Clip(frames, str(index)) for index, frames in zip(indices, clips, strict=True)]

    def _collect(self, panel: Panel, clips: ClipDataset) -> tuple[Collected, Collected]:
        options, protocol = self.options, self.protocol
        collector = Collector(panel.networks, options.workers, options.skip_broken, self.reporter, self.world)
        real = protocol.open_dataset(protocol.reference)
        with self.stopwatch.stage("reference features"):
            folder = cache_folder() / "features"
            reference = collector.collect(real, protocol.reference_count, folder, "the reference")
        with self.stopwatch.stage("generated features"):
            folder = self.out / "features"
            generated = collector.collect(clips, self.count, folder, "the generated clips")
        found = generated.features[0].clip_shape
        if found != (wanted := (protocol.frames, protocol.resolution, protocol.resolution)):
            raise InputError(f"the clips have (frames, height, width) {found}, {protocol.name} asks for {wanted}")
        return reference, generated
