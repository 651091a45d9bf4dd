"""A run: a sampler under a protocol, in stages that can be interrupted at any moment.

Stages: reference features (cached for all runs of this user), samples (64 clips at a time, into the clip
archive `samples/`), features of the samples, scores, record. Every file appears whole or not at all, and a
clip depends on its own seed alone, so a run that is started again goes on and ends with the same bits.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from vdm_bench.datasets.folder import SAMPLES_FOLDER, ViewedArchive
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import (
    RECORD_FILE,
    ClipCounts,
    ProtocolInfo,
    Record,
    SamplerInfo,
    first_wrong_field,
    name_of,
    read_record,
    write_record,
)
from vdm_bench.metrics.networks import ComputeConfig, pick_device
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.protocols.clips import missing_departure, notes_on, open_dataset, task_signature
from vdm_bench.protocols.conditions import GENERATED, Conditions, open_given, open_scored
from vdm_bench.runs.plan import RunOptions, ask, is_finished, keep_plan, make_plan, maker_of_clips, unlike_plan
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.files import check_writable, remove_temporary_files
from vdm_bench.runtime.locks import hold_together
from vdm_bench.runtime.progress import Advance, Reporter, Silent
from vdm_bench.samplers import check_name, make_sampler, sampler_kind
from vdm_bench.samplers.base import (
    ClosingSampler,
    CountingSampler,
    NamedSampler,
    RecordingSampler,
    Sampler,
    SamplerSetup,
    ScratchSampler,
    call_sampler,
)
from vdm_bench.scoring.features import ExtractedFeatures, FeatureExtractor
from vdm_bench.scoring.frames import FrameEvaluator, FrameMeasures, score_frames
from vdm_bench.scoring.reference import check_reference, collect_reference, departures_of, note_on, read_reference
from vdm_bench.scoring.suite import MetricSuite, Side, Stopwatch, make_record, on_main
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.clip import Clip, ClipDataset, DescribedClips


def run(
    protocol: str | Path | Protocol,
    *,
    out: str | Path,
    sampler: str | Sampler | None = None,
    options: Mapping[str, str] | None = None,
    clips: str | Path | None = None,
    data_root: str | Path | None = None,
    reference_stats: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    skip_broken: bool = False,
    computing: ComputeConfig | None = None,
    workers: int = 2,
    name: str | None = None,
    reporter: Reporter | None = None,
    processes: ProcessGroup | None = None,
    recheck: bool = False,
) -> Record:
    """Run a protocol, or go on with a run that was interrupted.

    Args:
        protocol: its name, the path of its TOML file, or the protocol itself.
        out: run folder: `run.json`, `samples/`, `features/`.
        sampler: name of a baseline, `module:object`, or an object with `sample(request)`.
        options: `key=value` options of the sampler.
        clips: clips that are there already, instead of a sampler.
        data_root: folder that the protocol's dataset lies in; `shapes` needs none.
        reference_stats: file with the features of the reference (`vdm-bench data export-reference`), instead of
            its clips.
        seed: of the run, in [0, 2**32).
        limit: generate only so many clips; the run is then marked as departing from its protocol. A run of fewer
            clips in `out` goes on.
        skip_broken: leave out given clips that cannot be read.
        computing: how networks compute; on the CPU, if None.
        workers: threads that decode.
        name: how the run is called in tables; the sampler's name, if None.
        reporter: where progress goes; nowhere by default.
        processes: those that share the work, of `vdm_bench.join_processes`; this one alone by default.
        recheck: read and hash every clip, whatever is remembered of its file; of a finished run, too.

    Raises:
        InputError: bad input; or `out` holds a run with other settings.
    """
    if not isinstance(protocol, Protocol):
        protocol = get_protocol(str(protocol))
    if clips is not None and not isinstance(clips, str | Path):
        raise InputError(
            f"clips of a run are a path, not of type {type(clips).__name__}; save them by numpy.save, or score "
            "them by vdm_bench.score"
        )
    chosen = RunOptions(
        sampler=sampler,
        options=dict(options or {}),
        clips=None if clips is None else Path(clips),
        data_root=None if data_root is None else Path(data_root),
        reference_stats=None if reference_stats is None else Path(reference_stats),
        seed=seed,
        limit=limit,
        skip_broken=skip_broken,
        computing=computing or ComputeConfig(),
        workers=workers,
        name=name,
        recheck=recheck,
    )
    return BenchmarkRun(protocol, Path(out), chosen, reporter or Silent(), processes or ProcessGroup()).record()


@contextlib.contextmanager
def _closing(sampler: Sampler) -> Iterator[None]:
    try:
        yield
    finally:
        if isinstance(sampler, ClosingSampler):
            sampler.close()


_SAMPLE_AGAIN = "delete their shards, and the same command samples them again"


class BenchmarkRun:
    """A run that may be carried out (`record`), or looked at before (`vdm_bench.runs.forecast`).

    Args:
        protocol: that is followed.
        out: run folder.
        options: see `run`.
        reporter: where progress goes; the leading process reports alone.
        processes: the processes that share the work.

    Attributes:
        conditions: what is given to each clip.
        count: clips to generate.
        departures: from the protocol, in words.
    """

    def __init__(
        self, protocol: Protocol, out: Path, options: RunOptions, reporter: Reporter, processes: ProcessGroup
    ) -> None:
        if (options.sampler is None) == (options.clips is None):
            raise InputError("give a sampler (--sampler NAME) or clips (--clips PATH), one of the two")
        if isinstance(options.sampler, str):
            check_name(options.sampler)
        self.protocol, self.out, self.options, self.processes = protocol, out, options, processes
        self.reporter = reporter if processes.is_main else Silent()
        self.conditions = Conditions(protocol, options.data_root)
        self._real = None
        if options.reference_stats is not None:
            check_reference(options.reference_stats, protocol)
            missing = departures_of(options.reference_stats)
            if note := note_on(options.reference_stats):
                self.reporter.note(note)
        else:
            self._real = open_dataset(protocol, protocol.reference, options.data_root)
            missing = missing_departure(protocol, protocol.reference, self._real)
        # Both sides may be cut out of the same videos.
        self.departures = list(dict.fromkeys((*self.conditions.departures, *missing)))
        for note in dict.fromkeys((*self.conditions.notes, *(notes_on(self._real) if self._real else ()))):
            self.reporter.note(note)
        self.count = self._planned_count()
        self.stopwatch = Stopwatch()

    def record(self) -> Record:
        """Carry it out, or go on with it; see `run`."""
        options = self.options
        asked = ask(self.protocol, options, self.count, self._source()) | self.conditions.plan
        # A file that has just been written may be told from another by some processes, and not by others.
        if self.processes.all_true([is_finished(self.out, asked, options.sampler)])[0]:
            return self._finished()
        processes, note = self.processes, self.reporter.note
        with hold_together(self.out, "run", is_main=processes.is_main, agree=processes.agree, note=note) as alone:
            return self._carried_out(asked, alone)

    def _carried_out(self, asked: Mapping[str, Any], alone: bool) -> Record:
        """Make what is missing of the run, and its record, while no other process writes there."""
        options = self.options
        reader = FeatureExtractor(
            [], options.workers, options.skip_broken, self.reporter, self.processes, options.recheck
        )
        given = None
        if options.clips is not None:
            with self.stopwatch.stage("samples"):
                given = self._given_clips(options.clips)
        if self.processes.is_main:
            check_writable(self.out)
        # Before the sampler: its folder may hold modules of the names of those that networks import when loaded.
        panel = MetricSuite.of(self.protocol.metrics, options.computing, self.reporter)
        panel.check_frames(self.protocol.frames)
        sampler, info = self.sampler, self._sampler_info()
        plan = make_plan(asked, info, sampler, panel)
        keep_plan(self.out, plan, writes=self.processes.is_main)
        if self.processes.is_main:
            # The other processes wait, and have written nothing yet.
            remove_temporary_files(self.out, SAMPLES_FOLDER, "features", shared=not alone)
        self.processes.wait()
        if (self.out / RECORD_FILE).exists():
            return self._finished()
        collector = replace(reader, networks=panel.networks)
        reference = self._reference(collector)
        with self.stopwatch.stage("samples"):
            clips = given or self._sample(cast(Sampler, sampler), info.spec, maker_of_clips(plan))
        generated = self._generated(collector, clips)
        measures = self._measure_frames(clips)
        record = on_main(self.processes, lambda: self._score(panel, info, reference, generated, measures))
        if self.processes.is_main:
            write_record(record, self.out / RECORD_FILE)
        return record

    def _finished(self) -> Record:
        """Return the record that is there, if it is of this run, and still true of clips that were given."""
        options, record = self.options, read_record(self.out / RECORD_FILE)
        if other := unlike_plan(self.out, record):
            raise InputError(
                f"{self.out / RECORD_FILE} is the record of a run with another {', '.join(other)} than the one "
                "in this folder; restore it, or delete it and run again"
            )
        reader = FeatureExtractor([], options.workers, True, self.reporter, self.processes, options.recheck)
        if options.clips is not None:
            clips = open_scored(options.clips, self.protocol)
            count = min(self.count, len(clips))
            self._same(reader.collect(clips, count, self._features, GENERATED), record.generated, GENERATED)
        if options.recheck and self._real is not None:
            self._same(collect_reference(self.protocol, self._real, reader), record.reference, "the reference")
        self.reporter.note(f"{self.out} holds this run already, complete; nothing to do")
        return record

    def _same(self, found: ExtractedFeatures, recorded: ClipCounts, title: str) -> None:
        if recorded.digest not in (None, found.digest):
            raise InputError(
                f"the content of {title} is not that of the complete run in {self.out}, which scored "
                f"{recorded.scored:,} other clips; choose another --out, or delete it"
            )

    @property
    def _features(self) -> Path:
        return self.out / "features"

    def _measure_frames(self, clips: ClipDataset) -> FrameMeasures | None:
        protocol, options = self.protocol, self.options
        if not protocol.frame_metrics:
            return None
        meter = FrameEvaluator(
            protocol.frame_metrics,
            self.conditions,
            self._features,
            options.workers,
            self.reporter,
            self.processes,
            options.recheck,
        )
        with self.stopwatch.stage("frames"):
            return meter.measure(clips, self.count)

    def _score(
        self,
        panel: MetricSuite,
        sampler: SamplerInfo,
        reference: ExtractedFeatures,
        generated: ExtractedFeatures,
        measures: FrameMeasures | None,
    ) -> Record:
        with self.stopwatch.stage("scores"):
            each = self.conditions.round_length
            scores = panel.scores(
                reference,
                generated,
                task=task_signature(self.protocol),
                expected_generated=self.protocol.generated_count,
                round_length=each if self.protocol.rounds == "averaged" else None,
                conditions=each,
            )
            of_frames, curves = score_frames(measures, self.conditions) if measures else ([], {})
        return make_record(
            name=self.options.name or name_of(sampler.spec),
            protocol=ProtocolInfo(
                name=self.protocol.name, digest=self.protocol.digest, departures=self.departures
            ),
            sampler=sampler,
            reference=Side(reference.features[0].identity, self.protocol.reference_count, reference),
            generated=Side(sampler.spec, self.protocol.generated_count, generated),
            scores=[*scores, *of_frames],
            curves=curves,
            stopwatch=self.stopwatch,
            device=str(panel.networks[0].device),
        )

    def _planned_count(self) -> int:
        wanted, limit = len(self.conditions), self.options.limit
        if limit is None or limit >= wanted:
            return wanted
        if limit < 2:
            raise InputError(f"--limit {limit} is too few; a score needs at least 2 clips")
        each = self.conditions.round_length
        if self.protocol.rounds == "averaged" and limit % each:
            raise InputError(
                f"--limit {limit} is not a multiple of {each}; {self.protocol.name} averages over rounds of "
                "so many"
            )
        self.departures.append(f"generated {limit} of {self.protocol.generated_count} clips")
        return limit

    @functools.cached_property
    def sampler(self) -> Sampler | None:
        """What makes the clips; None where they are there already.

        Raises:
            InputError: it cannot be made.
        """
        chosen = self.options.sampler
        if not isinstance(chosen, str):
            return chosen
        device = pick_device(self.options.computing.device)
        return make_sampler(chosen, SamplerSetup(self.conditions, dict(self.options.options), device))

    def _sampler_info(self) -> SamplerInfo:
        sampler = self.sampler
        recorded = sampler.recorded_settings if isinstance(sampler, RecordingSampler) else self.options.options
        try:
            return SamplerInfo(**self._source(), settings={} if sampler is None else {**recorded})
        except ValidationError as error:
            wrong = first_wrong_field(error)
            raise InputError(
                f"the sampler's settings cannot be recorded: {wrong}; change what it says"
            ) from error

    def _source(self) -> dict[str, Any]:
        """Say what makes the clips, without making that: `kind`, `spec` and `seed` of a record's sampler."""
        chosen = self.options.sampler
        if chosen is None:
            return {"kind": "folder", "spec": str(self.options.clips), "seed": None}
        kind, spec = "callable", type(chosen).__name__
        if isinstance(chosen, str):
            kind, spec = sampler_kind(chosen), chosen
        elif isinstance(chosen, NamedSampler):
            kind, spec = chosen.kind, chosen.spec
        return {"kind": kind, "spec": spec, "seed": self.options.seed}

    def _given_clips(self, folder: Path) -> DescribedClips:
        given = open_given(
            folder, self.conditions, self.count, self.options.workers, skip_broken=self.options.skip_broken
        )
        self.count = given.count
        self.departures += given.departures
        for note in notes_on(given.clips):
            self.reporter.note(note)
        return given.clips

    def _sample(self, sampler: Sampler, name: str, maker: str) -> DescribedClips:
        side = self.protocol.sample_size
        shape = (self.protocol.frames, side, side)
        writer = ArchiveWriter(self.out / SAMPLES_FOLDER, shape, maker=maker)
        if isinstance(sampler, ScratchSampler):
            sampler.put_scratch(self.out)  # a run that goes on there clears away what this one may leave
        each, unit = self._work(sampler)
        missing = writer.missing(self.count)
        found = self.count - sum(map(len, missing.values()))
        stage = self.reporter.stage(f"samples of {name}", self.count * each, unit, found=found * each)
        with stage as advance, _closing(sampler):
            for shard, indices in missing.items():
                if self.processes.owner(shard) == self.processes.rank:
                    writer.write_shard(shard, self._sample_shard(sampler, name, indices, advance))
                else:
                    advance(len(indices) * each)
        self.processes.wait()
        return ViewedArchive(Archive(self.out / SAMPLES_FOLDER, self.count), self.protocol.scored_view)

    def _work(self, sampler: Sampler) -> tuple[int, str]:
        """Return the steps of progress of a clip, and their unit."""
        if not isinstance(sampler, CountingSampler):
            return 1, "clips"
        return sampler.evaluations(self.conditions.request([0], self.options.seed)), "evaluations"

    def _sample_shard(self, sampler: Sampler, name: str, indices: Sequence[int], advance: Advance) -> list[Clip]:
        request = self.conditions.request(indices, self.options.seed)
        clips = call_sampler(sampler, request, name, advance)
        labels = [None] * len(indices) if request.labels is None else [int(label) for label in request.labels]
        captions = request.captions or [None] * len(indices)
        return [
            Clip(frames, str(index), label, caption)
            for index, frames, label, caption in zip(indices, clips, labels, captions, strict=True)
        ]

    def _reference(self, collector: FeatureExtractor) -> ExtractedFeatures:
        """Get the reference first: what is wrong with it shows before hours of sampling."""
        options, protocol = self.options, self.protocol
        with self.stopwatch.stage("reference features"):
            if self._real is not None:
                reference = collect_reference(protocol, self._real, collector)
            else:
                reference = read_reference(cast(Path, options.reference_stats), protocol, collector.networks)
        there = reference.features[0].count + len(reference.broken)
        if there < protocol.reference_count:
            self.departures.append(f"{there:,} of {protocol.reference_count:,} reference clips")
        return reference

    def _generated(self, collector: FeatureExtractor, clips: ClipDataset) -> ExtractedFeatures:
        if self.options.clips is None:
            collector = replace(collector, way_out=_SAMPLE_AGAIN)
        with self.stopwatch.stage("generated features"):
            return collector.collect(clips, self.count, self._features, GENERATED)
