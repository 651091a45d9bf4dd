"""Run a protocol, from its plan to its record; an interrupted run resumes.

`execute` and `measure` list the stages in order, cheap ones first. The stages are functions in `context.py` and
`stages.py`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record, write_record
from vdm_bench.metrics.networks import ComputeConfig
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.runs.context import PreparedRun, RunContext, find_finished, open_run, prepare
from vdm_bench.runs.plan import ClipSource, ExistingClips, RunOptions, SampledClips, is_finished, keep_plan
from vdm_bench.runs.stages import (
    MissingSamples,
    extract_generated,
    extract_reference,
    find_samples,
    make_samples,
    measure_frames,
    score_samples,
    try_sampler,
)
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.files import check_writable, remove_temporary_files
from vdm_bench.runtime.locks import hold_together
from vdm_bench.runtime.progress import Reporter, Silent
from vdm_bench.runtime.run_folder import FEATURES_FOLDER, SAMPLES_FOLDER, RunFolder
from vdm_bench.samplers.callable import as_sampler
from vdm_bench.scoring.features import ExtractedFeatures, FeatureSource, compute_layers
from vdm_bench.scoring.suite import on_main


def run(
    protocol: str | Path | Protocol,
    *,
    out: str | Path,
    sampler: object | None = None,
    options: Mapping[str, str] | None = None,
    clips: str | Path | None = None,
    fit: bool = False,
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
    """Run a protocol, or resume an interrupted run.

    Args:
        protocol: its name, the path of its TOML file, or the protocol itself.
        out: run folder; it gets `run.json`, `samples/` and `features/`.
        sampler: name of a baseline, `reference`, `diffusers` or `module:object`; or a `vdm_bench.Sampler`, an
            object with `sample(request)`, or a function `f(request, **options)`.
        options: options of a sampler given by name, or keyword arguments of a function.
        clips: folder or file of existing clips, instead of a sampler.
        fit: resize `clips` of any size by the rule of the protocol; the record then names this as a departure.
        data_root: folder of the protocol's dataset; `shapes` needs none.
        reference_stats: file with the reference features (`vdm-bench data export-reference`), instead of the
            reference clips.
        seed: seed of the run, in [0, 2**32).
        limit: number of clips to generate; the record then says that the run deviates from its protocol. A run
            of fewer clips in `out` is continued.
        skip_broken: skip existing clips that cannot be read.
        computing: how networks compute; on the CPU by default.
        workers: decoding threads.
        name: name of the run in tables; the sampler's name by default.
        reporter: receives progress; none is reported by default.
        processes: processes that share the work, from `vdm_bench.join_processes`; this one alone by default.
        recheck: read and hash every clip, even if its hash is cached; also those of a finished run.

    Returns:
        The record, as in `run.json`.

    Raises:
        InputError: bad input, or `out` holds a run with other settings.
    """
    if not isinstance(protocol, Protocol):
        protocol = get_protocol(str(protocol))
    chosen = RunOptions(
        source=source_of_clips(sampler, clips, options or {}, seed, fit=fit),
        data_root=None if data_root is None else Path(data_root),
        reference_stats=None if reference_stats is None else Path(reference_stats),
        limit=limit,
        skip_broken=skip_broken,
        computing=computing or ComputeConfig(),
        workers=workers,
        name=name,
        recheck=recheck,
    )
    return execute(open_run(protocol, Path(out), chosen, reporter or Silent(), processes or ProcessGroup()))


def source_of_clips(
    sampler: object | None,
    clips: str | Path | None,
    options: Mapping[str, str],
    seed: int,
    *,
    fit: bool = False,
) -> ClipSource:
    """Return the source of the clips: a sampler, or existing clips.

    Raises:
        InputError: both or none are given, there are options without a sampler, or a type is wrong.
    """
    if (sampler is None) == (clips is None):
        raise InputError("give one of the two: `sampler` or `clips`")
    if sampler is not None:
        if fit:
            raise InputError("`fit` works only with `clips`; leave it out")
        chosen = sampler if isinstance(sampler, str) else as_sampler(sampler, options)
        return SampledClips(chosen, dict(options), seed)
    if not isinstance(clips, str | Path):
        raise InputError(
            f"clips of a run are a path, not of type {type(clips).__name__}; save them by numpy.save, or score "
            "them by vdm_bench.score"
        )
    if options:
        raise InputError(f"{next(iter(options))!r} is an option of a sampler; leave it out, as `clips` are given")
    return ExistingClips(Path(clips), fit)


def execute(run: RunContext) -> Record:
    """Execute a run, or resume it.

    Raises:
        InputError: see `run`.
    """
    processes, note = run.processes, run.reporter.note
    # Right after a file was written, processes may disagree about whether it has changed.
    if processes.all_true([is_finished(run.out, run.asked, run.options.source)])[0]:
        return find_finished(run)
    with hold_together(run.out, "run", is_main=processes.is_main, agree=processes.agree, note=note) as alone:
        if processes.is_main:
            check_writable(run.out)
        prepared = prepare(run)
        if _claim_folder(run, prepared, alone):
            return find_finished(run)
        record = measure(run, prepared).record
        if processes.is_main:
            write_record(record, RunFolder(run.out).record)
        return record


@dataclass(frozen=True)
class Measurement:
    """The results of a run.

    Attributes:
        reference: features of the reference clips.
        record: record of the run, with all scores.
    """

    reference: ExtractedFeatures
    record: Record


def measure(run: RunContext, prepared: PreparedRun, source: FeatureSource = compute_layers) -> Measurement:
    """Do the work of a prepared run: sample, extract features, score.

    Args:
        run: the run; results that are already in its folder are reused.
        prepared: its networks and the source of its clips.
        source: computes the features of the generated clips.

    Raises:
        InputError: clips cannot be read, the folder holds clips of another sampler, or the sampler fails.
    """
    suite = prepared.suite
    found = find_samples(run, prepared)
    reference = extract_reference(run, suite)  # before sampling, so that faults of the reference show early
    samples = make_samples(run, found) if isinstance(found, MissingSamples) else found
    generated = extract_generated(run, suite, samples, source)
    frames = measure_frames(run, samples)
    record = on_main(run.processes, lambda: score_samples(run, prepared, reference, samples, generated, frames))
    return Measurement(reference, record)


def write_page(run: RunContext, record: Record) -> None:
    """Write `report.html` into the folder of a complete run, unless the folder is read-only."""
    # Plots take a second to load, and `run` needs none.
    from vdm_bench.pages.galleries import ClipPlaces
    from vdm_bench.pages.write import write_html

    source = run.options.source
    clips = {record.name: source.path} if isinstance(source, ExistingClips) else {}
    if os.access(run.out, os.W_OK):
        write_html([run.out], RunFolder(run.out).report, places=ClipPlaces(run.options.data_root, clips))


def _claim_folder(run: RunContext, prepared: PreparedRun, alone: bool) -> bool:
    """Store the plan in the run folder and remove temporary files; return whether the run is complete.

    The sampler is tried first, so that the plan of a sampler that cannot generate a single clip is not stored.
    """
    main = run.processes.is_main
    keep_plan(run.out, prepared.plan, writes=False)  # refuses the folder of another run
    if main:
        # The other processes wait; they have not written anything yet.
        remove_temporary_files(run.out, SAMPLES_FOLDER, FEATURES_FOLDER, shared=not alone)
    run.processes.wait()
    try_sampler(run, prepared)
    keep_plan(run.out, prepared.plan, writes=main)
    run.processes.wait()
    return RunFolder(run.out).record.exists()
