"""Open and check everything that a run needs, before hours of work; no features are computed here.

First the data are opened and a finished run is found, without a network or a sampler. Then existing clips are
checked. Last, the networks are loaded and the sampler is built.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import (
    ClipCounts,
    Record,
    SamplerInfo,
    first_wrong_field,
    read_record,
)
from vdm_bench.metrics.networks import pick_device
from vdm_bench.protocols import Protocol
from vdm_bench.protocols.conditions import GENERATED, Conditions, open_existing, open_scored
from vdm_bench.runs.plan import (
    ANOTHER_FOLDER,
    ExistingClips,
    RunOptions,
    SampledClips,
    ask,
    contradictions,
    make_plan,
)
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Reporter, Silent
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.samplers import make_sampler
from vdm_bench.samplers.base import Sampler, SamplerSetup
from vdm_bench.scoring.features import ExtractedFeatures, FeatureExtractor
from vdm_bench.scoring.reference import Reference, open_reference
from vdm_bench.scoring.suite import MetricSuite, Stopwatch
from vdm_bench.video.clip import DescribedClips
from vdm_bench.video.contents import SKIP_BROKEN


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What every stage of a run needs.

    Attributes:
        protocol: protocol of the run.
        out: the run folder.
        options: options of the run.
        reporter: receives progress; only the main process reports.
        processes: processes that share the work.
        conditions: the conditioning of each clip.
        reference: the clips that the generated ones are compared with.
        count: number of clips to generate.
        departures: deviations from the protocol that are known before any work, a sentence each.
        stopwatch: records the seconds of each stage.
    """

    protocol: Protocol
    out: Path
    options: RunOptions
    reporter: Reporter
    processes: ProcessGroup
    conditions: Conditions
    reference: Reference
    count: int
    departures: tuple[str, ...]
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @functools.cached_property
    def asked(self) -> dict[str, Any]:
        """The first part of the run's plan, known before networks and sampler are loaded."""
        return ask(self.protocol, self.options, self.count) | self.conditions.plan

    @property
    def features_folder(self) -> Path:
        """Folder of the features of the generated clips."""
        return RunFolder(self.out).features

    @property
    def extractor(self) -> FeatureExtractor:
        """A feature extractor without networks, which only hashes the clips."""
        options = self.options
        return FeatureExtractor(
            [], options.workers, options.skip_broken, self.reporter, self.processes, options.recheck
        )


def open_run(
    protocol: Protocol, out: Path, options: RunOptions, reporter: Reporter, processes: ProcessGroup
) -> RunContext:
    """Open the data of a run and report notes on them; no clip is read.

    Args:
        protocol: protocol of the run.
        out: the run folder; it need not exist.
        options: see `vdm_bench.run`.
        reporter: receives progress.
        processes: processes that share the work.

    Raises:
        InputError: data are missing, or the limit does not fit the protocol.
    """
    reporter = reporter if processes.is_main else Silent()
    conditions = Conditions(protocol, options.data_root)
    reference = open_reference(protocol, options.data_root, options.reference_stats)
    for note in dict.fromkeys((*conditions.notes, *reference.notes)):
        reporter.note(note)
    count = _planned_count(conditions, options.limit)
    # Both sides may come from the same videos.
    departures = list(dict.fromkeys((*conditions.departures, *reference.departures)))
    if count < len(conditions):
        departures.append(f"generated {count} of {protocol.generated_count} clips")
    return RunContext(
        protocol=protocol,
        out=out,
        options=options,
        reporter=reporter,
        processes=processes,
        conditions=conditions,
        reference=reference,
        count=count,
        departures=tuple(departures),
    )


def _planned_count(conditions: Conditions, limit: int | None) -> int:
    wanted, protocol = len(conditions), conditions.protocol
    if limit is None or limit >= wanted:
        return wanted
    if protocol.rounds == "averaged" and limit % conditions.round_length:
        raise InputError(
            f"`limit` {limit} is not a multiple of {conditions.round_length}; {protocol.name} averages over "
            "rounds of so many"
        )
    return limit


def find_finished(run: RunContext) -> Record:
    """Return the record in the folder, after checking that it belongs to this run and to its clips.

    Raises:
        InputError: it does not, or cannot be read.
    """
    path = RunFolder(run.out).record
    record = read_record(path)
    if other := contradictions(run.out, record):
        raise InputError(
            f"{path} is the record of a run with another {', '.join(other)} than the one in this folder; "
            "restore it, or delete it and run again"
        )
    reader = replace(run.extractor, skip_broken=True)
    if isinstance(source := run.options.source, ExistingClips):
        clips = open_scored(source.path, run.protocol, fit=source.fit)
        found = reader.collect(clips, min(run.count, len(clips)), run.features_folder, GENERATED)
        _require_same(run, found, record.generated, GENERATED)
    if run.options.recheck:
        _require_same(run, run.reference.features(reader), record.reference, "the reference")
    run.reporter.note(f"{run.out} holds this run already, complete; nothing to do")
    return record


def _require_same(run: RunContext, found: ExtractedFeatures, recorded: ClipCounts, title: str) -> None:
    if recorded.digest not in (None, found.digest):
        raise InputError(
            f"the content of {title} is not that of the complete run in {run.out}, which scored "
            f"{recorded.scored:,} other clips; {ANOTHER_FOLDER}"
        )


@dataclass(frozen=True)
class Samples:
    """The complete generated clips.

    Attributes:
        clips: the clips as they are scored.
        count: how many of them are scored.
        departures: deviations from the protocol, a sentence each.
        way_out: what to do if some cannot be read, for error messages.
    """

    clips: DescribedClips
    count: int
    departures: Sequence[str] = ()
    way_out: str = SKIP_BROKEN


@dataclass(frozen=True)
class Maker:
    """A sampler that is ready to generate the clips of a run.

    Attributes:
        sampler: the sampler.
        seed: seed of the run.
        evaluations: network evaluations per clip; None if the sampler does not report them.
    """

    sampler: Sampler
    seed: int
    evaluations: int | None

    @property
    def steps(self) -> tuple[int, str]:
        """Steps of progress for one clip, and their unit."""
        return (1, "clips") if self.evaluations is None else (self.evaluations, "evaluations")


@dataclass(frozen=True)
class PreparedRun:
    """Everything that a run needs, loaded and checked.

    Attributes:
        suite: the metrics with their networks.
        source: the existing clips, or the sampler that generates them.
        info: description of the source for the record.
        plan: all that the run's result depends on.
    """

    suite: MetricSuite
    source: Samples | Maker
    info: SamplerInfo
    plan: Mapping[str, Any]


def prepare(run: RunContext) -> PreparedRun:
    """Check existing clips, load the networks, build and check the sampler: all before hours of work.

    Raises:
        InputError: existing clips do not fit the protocol, or a network or the sampler is not available.
    """
    match run.options.source:
        case ExistingClips() as chosen_clips:
            with run.stopwatch.stage("samples"):
                existing = check_existing(run, chosen_clips)
            suite = load_suite(run)
            info = _sampler_info(run, chosen_clips.settings)
            return PreparedRun(suite, existing, info, make_plan(run.asked, info, None, suite))
        case SampledClips() as chosen:
            # Before the sampler: its folder may contain modules with the names of those that networks import.
            suite = load_suite(run)
            maker = build_maker(run, chosen)
            info = describe_sampler(run, maker.sampler)
            return PreparedRun(suite, maker, info, make_plan(run.asked, info, maker.sampler, suite))


def check_existing(run: RunContext, source: ExistingClips) -> Samples:
    """Open existing clips as the protocol scores them.

    Raises:
        InputError: there are none, they have another size than the protocol's, or predictions do not begin with
            their context frames.
    """
    options = run.options
    given = open_existing(
        source.path,
        run.conditions,
        run.count,
        options.workers,
        skip_broken=options.skip_broken,
        fit=source.fit,
    )
    for note in given.clips.notes:
        run.reporter.note(note)
    return Samples(given.clips, given.count, given.departures)


def load_suite(run: RunContext) -> MetricSuite:
    """Load the networks of the protocol's metrics.

    Raises:
        InputError: weights or a device are not available, or no network accepts clips of the protocol's length.
    """
    suite = MetricSuite.of(run.protocol.metrics, run.options.computing, run.reporter)
    suite.check_frames(run.protocol.frames)
    return suite


def build_maker(run: RunContext, source: SampledClips) -> Maker:
    """Build the sampler and ask it for its network evaluations per clip; no clip is sampled.

    Raises:
        InputError: it cannot be built or does not fit the protocol, or conditioning of the task is missing.
    """
    sampler = source.sampler
    if isinstance(sampler, str):
        device = pick_device(run.options.computing.device)
        setup = SamplerSetup(run.conditions, dict(source.options), device, run.protocol.clip_fps)
        sampler = make_sampler(sampler, setup)
    run.conditions.check_labels_and_captions(run.count)
    evaluations = sampler.evaluations(run.conditions.request([0], source.seed))
    return Maker(sampler, source.seed, evaluations)


def describe_sampler(run: RunContext, sampler: Sampler) -> SamplerInfo:
    """Return what the record says of a sampler: its own settings, or else the options of the run.

    Raises:
        InputError: the settings cannot be recorded.
    """
    options = run.options.source.options if isinstance(run.options.source, SampledClips) else {}
    return _sampler_info(run, options if sampler.recorded_settings is None else sampler.recorded_settings)


def _sampler_info(run: RunContext, settings: Mapping[str, Any]) -> SamplerInfo:
    try:
        return SamplerInfo(**run.options.source.described, settings=dict(settings))
    except ValidationError as error:
        wrong = first_wrong_field(error)
        raise InputError(f"the sampler's settings cannot be recorded: {wrong}; change what it says") from error
