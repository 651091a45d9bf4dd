"""A run: a protocol carried out from its plan to its record, and interrupted at any moment.

`execute` and `measure` have the stages in order, cheap ones first. The stages are functions in `prepare.py` and
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
from vdm_bench.runs.plan import ClipSource, ExistingClips, RunOptions, SampledClips, is_finished, keep_plan
from vdm_bench.runs.prepare import PreparedRun, RunContext, find_finished, open_run, prepare
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
    """Run a protocol, or go on with a run that was interrupted.

    Args:
        protocol: its name, the path of its TOML file, or the protocol itself.
        out: run folder: `run.json`, `samples/`, `features/`.
        sampler: name of a baseline, `reference`, `diffusers` or `module:object`; or a `vdm_bench.Sampler`, an
            object with `sample(request)`, or a function `f(request, **options)`.
        options: of a sampler given by name, or keyword arguments of a function.
        clips: folder or file of existing clips, instead of a sampler.
        fit: resize `clips` of any size by the protocol's rule; the run is then marked as a departure.
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
    """Tell the two sources of clips apart: a sampler, or clips that exist.

    Raises:
        InputError: both are given or none, options without a sampler, or what is no sampler or path.
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
    """Carry a run out, or go on with it.

    Raises:
        InputError: see `run`.
    """
    processes, note = run.processes, run.reporter.note
    # A file that has just been written may be told from another by some processes, and not by others.
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
    """What the work of a run came to.

    Attributes:
        reference: features of the reference clips.
        record: of the run, with all scores.
    """

    reference: ExtractedFeatures
    record: Record


def measure(run: RunContext, prepared: PreparedRun, source: FeatureSource = compute_layers) -> Measurement:
    """Do the work of a run that is prepared.

    Args:
        run: to carry out; its folder holds what is done already.
        prepared: of this run.
        source: of the features of the generated clips.

    Raises:
        InputError: clips cannot be read, the folder holds clips of another sampler, or the sampler fails.
    """
    suite = prepared.suite
    found = find_samples(run, prepared)
    reference = extract_reference(run, suite)  # before samples are made: what is wrong with it shows first
    samples = make_samples(run, found) if isinstance(found, MissingSamples) else found
    generated = extract_generated(run, suite, samples, source)
    frames = measure_frames(run, samples)
    record = on_main(run.processes, lambda: score_samples(run, prepared, reference, samples, generated, frames))
    return Measurement(reference, record)


def write_page(run: RunContext, record: Record) -> None:
    """Write `report.html` into the folder of a complete run; a folder that cannot be written is left as it is."""
    # Plots take a second to load, and `run` needs none.
    from vdm_bench.pages.galleries import ClipPlaces
    from vdm_bench.pages.write import write_html

    source = run.options.source
    clips = {record.name: source.path} if isinstance(source, ExistingClips) else {}
    if os.access(run.out, os.W_OK):
        write_html([run.out], RunFolder(run.out).report, places=ClipPlaces(run.options.data_root, clips))


def _claim_folder(run: RunContext, prepared: PreparedRun, alone: bool) -> bool:
    """Write the plan into the run folder, and remove temporary files there; return whether it has a record.

    The sampler is tried first: the folder is not claimed for a sampler that cannot generate a single clip.
    """
    main = run.processes.is_main
    keep_plan(run.out, prepared.plan, writes=False)  # refuses the folder of another run
    if main:
        # The other processes wait, and have written nothing yet.
        remove_temporary_files(run.out, SAMPLES_FOLDER, FEATURES_FOLDER, shared=not alone)
    run.processes.wait()
    try_sampler(run, prepared)
    keep_plan(run.out, prepared.plan, writes=main)
    run.processes.wait()
    return RunFolder(run.out).record.exists()
