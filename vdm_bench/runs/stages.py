"""The stages of a run: each is a function of the run and of what earlier stages returned.

`vdm_bench.runs.run.measure` calls them in order. Files are written atomically, and a clip depends only on its own
seed, so a resumed run ends with the same bits.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vdm_bench.datasets.folder import ViewedArchive
from vdm_bench.leaderboards.record import ProtocolInfo, Record, name_of
from vdm_bench.protocols import Protocol
from vdm_bench.protocols.clips import task_signature
from vdm_bench.protocols.conditions import GENERATED
from vdm_bench.runs.context import Maker, PreparedRun, RunContext, Samples
from vdm_bench.runs.plan import maker_of_clips
from vdm_bench.runtime.progress import Advance
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.samplers.base import call_sampler
from vdm_bench.scoring.features import ExtractedFeatures, FeatureSource
from vdm_bench.scoring.frames import FrameEvaluator, FrameMeasures, score_frames
from vdm_bench.scoring.suite import MetricSuite, Side, make_record
from vdm_bench.video.archive import Archive, ArchiveWriter, is_archive
from vdm_bench.video.clip import Clip

_SAMPLE_AGAIN = "delete their shards, and the same command samples them again"


@dataclass(frozen=True)
class MissingSamples:
    """Clips that are still to be sampled.

    Attributes:
        maker: the sampler that generates them.
        name: name of the sampler.
        archive: archive that they are written to.
        shards: missing shards of the archive, each with the indices of its clips.
    """

    maker: Maker
    name: str
    archive: ArchiveWriter
    shards: Mapping[int, range]


def find_samples(run: RunContext, prepared: PreparedRun) -> Samples | MissingSamples:
    """Return the existing clips, or find which ones are still to be sampled.

    Raises:
        InputError: `samples/` holds clips of another sampler or size, or is damaged.
    """
    match prepared.source:
        case Samples() as existing:
            return existing
        case Maker() as maker:
            shape = (run.protocol.frames, run.protocol.sample_size, run.protocol.sample_size)
            archive = ArchiveWriter(RunFolder(run.out).samples, shape, maker=maker_of_clips(prepared.plan))
            return MissingSamples(maker, prepared.info.spec, archive, archive.missing(run.count))


def try_sampler(run: RunContext, prepared: PreparedRun) -> None:
    """Have the sampler generate one clip before any expensive work, unless all clips exist.

    A wrong dtype, layout, length or option is reported within seconds. The clip is discarded and the sampler
    closed, so that its blocks are the same as without this request: for them, a program is started again.

    Raises:
        InputError: the sampler fails, or returns something else than requested.
    """
    maker = prepared.source
    if not isinstance(maker, Maker) or (is_archive(RunFolder(run.out).samples) and _is_sampled(run, prepared)):
        return
    sampler, name, request = maker.sampler, prepared.info.spec, run.conditions.request([0], maker.seed)
    steps, unit = maker.steps
    sampler.set_scratch_folder(run.out)
    with run.reporter.stage(f"one clip of {name} first", steps, unit) as advance, contextlib.closing(sampler):
        clip = call_sampler(sampler, request, name, advance)[0]
    if sampler.clip_format.seems_too_bright(clip[run.protocol.context_frames :]):
        run.reporter.note(
            f"no value in the first clip of {name} is below the middle of its value_range, "
            f"{sampler.clip_format.value_range}; if its floats lie in [0, 1], declare (0, 1)"
        )


def _is_sampled(run: RunContext, prepared: PreparedRun) -> bool:
    found = find_samples(run, prepared)
    return isinstance(found, Samples) or not found.shards


def extract_reference(run: RunContext, suite: MetricSuite) -> ExtractedFeatures:
    """Extract the features of the reference."""
    with run.stopwatch.stage("reference features"):
        return run.reference.features(replace(run.extractor, networks=suite.networks))


def make_samples(run: RunContext, missing: MissingSamples) -> Samples:
    """Sample the missing clips, 64 at a time, divided among the processes."""
    sampler, processes = missing.maker.sampler, run.processes
    steps, unit = missing.maker.steps
    found = run.count - sum(map(len, missing.shards.values()))
    stage = run.reporter.stage(f"samples of {missing.name}", run.count * steps, unit, found=found * steps)
    sampler.set_scratch_folder(run.out)  # a resumed run removes leftovers there
    with run.stopwatch.stage("samples"), stage as advance, contextlib.closing(sampler):
        for shard, indices in missing.shards.items():
            if processes.owner(shard) == processes.rank:
                missing.archive.write_shard(shard, _sample_shard(run, missing, indices, advance))
            else:
                advance(len(indices) * steps)
        processes.wait()
    archive = Archive(RunFolder(run.out).samples, run.count)
    return Samples(ViewedArchive(archive, run.protocol.scored_view), run.count, way_out=_SAMPLE_AGAIN)


def _sample_shard(
    run: RunContext, missing: MissingSamples, indices: Sequence[int], advance: Advance
) -> list[Clip]:
    request = run.conditions.request(indices, missing.maker.seed)
    clips = call_sampler(missing.maker.sampler, request, missing.name, advance)
    labels = [None] * len(indices) if request.labels is None else [int(label) for label in request.labels]
    captions = request.captions or [None] * len(indices)
    return [
        Clip(frames, str(index), label, caption)
        for index, frames, label, caption in zip(indices, clips, labels, captions, strict=True)
    ]


def extract_generated(
    run: RunContext, suite: MetricSuite, samples: Samples, source: FeatureSource
) -> ExtractedFeatures:
    """Extract the features of the generated clips with `source`."""
    extractor = replace(run.extractor, networks=suite.networks, way_out=samples.way_out, source=source)
    with run.stopwatch.stage("generated features"):
        return extractor.collect(samples.clips, samples.count, run.features_folder, GENERATED)


def measure_frames(run: RunContext, samples: Samples) -> FrameMeasures | None:
    """Compare predicted frames with the ground truth; return None if the protocol has no frame metrics."""
    options, metrics = run.options, run.protocol.frame_metrics
    if not metrics:
        return None
    evaluator = FrameEvaluator(
        metrics,
        run.conditions,
        run.features_folder,
        options.workers,
        run.reporter,
        run.processes,
        options.recheck,
    )
    with run.stopwatch.stage("frames"):
        return evaluator.measure(samples.clips, samples.count)


def score_samples(
    run: RunContext,
    prepared: PreparedRun,
    reference: ExtractedFeatures,
    samples: Samples,
    generated: ExtractedFeatures,
    frames: FrameMeasures | None,
) -> Record:
    """Compute all scores and make the record."""
    protocol, suite, info = run.protocol, prepared.suite, prepared.info
    conditions = run.conditions.round_length
    with run.stopwatch.stage("scores"):
        scores = suite.scores(
            reference,
            generated,
            task=task_signature(protocol),
            expected_generated=protocol.generated_count,
            round_length=conditions if protocol.rounds == "averaged" else None,
            conditions=conditions,
        )
        of_frames, curves = score_frames(frames, run.conditions) if frames else ([], {})
    departures = [*run.departures, *samples.departures, *_departures_of_reference(protocol, reference)]
    return make_record(
        name=run.options.name or name_of(info.spec),
        protocol=ProtocolInfo(name=protocol.name, digest=protocol.digest, departures=departures),
        sampler=info,
        reference=Side(reference.features[0].identity, protocol.reference_count, reference),
        generated=Side(info.spec, protocol.generated_count, generated),
        scores=[*scores, *of_frames],
        curves=curves,
        stopwatch=run.stopwatch,
        device=str(suite.networks[0].device),
    )


def _departures_of_reference(protocol: Protocol, reference: ExtractedFeatures) -> list[str]:
    there, wanted = reference.features[0].count + len(reference.broken), protocol.reference_count
    return [f"{there:,} of {wanted:,} reference clips"] if there < wanted else []
