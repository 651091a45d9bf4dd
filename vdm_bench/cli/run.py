"""`vdm-bench run`: score a sampler, or existing clips, under a protocol."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import print_record, require_values, say, show
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vdm_bench.leaderboards.trackers import Tracker
    from vdm_bench.metrics.networks import ComputeConfig
    from vdm_bench.samplers.base import Sampler

_LONGEST_NAME = 100  # bytes in the name of a folder that is named after a command


@click.command(short_help="Run a sampler under a protocol.")
@click.argument("protocol")
@click.option("--sampler", help="A named sampler (`vdm-bench list samplers`) or a callable module:object.")
@click.option("--sampler-command", metavar="CMD", help="A program in another environment that samples clips.")
@click.option(
    "--sampler-timeout",
    type=options.Number(0, min_open=True),
    metavar="SECONDS",
    help="Time limit of that program to start, and to answer.  [default: none]",
)
@click.option("--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Sampler option; may be repeated.")
@click.option("--clips", type=options.PATH, help="Existing clips, instead of a sampler.")
@click.option(
    "--fit", is_flag=True, help="Resize existing clips of other sizes by the protocol's rule; the run is marked."
)
@options.data_root
@options.reference_stats
@click.option("--out", type=options.PATH, help="Run folder.  [default: runs/PROTOCOL/SAMPLER]")
@click.option(
    "--limit", type=click.IntRange(1), help="Generate only N clips; the run is marked and ranked separately."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the run.")
@click.option(
    "--dry-run", is_flag=True, help="Print the number of clips and the estimated time, and write nothing."
)
@click.option("--log-to", "specs", multiple=True, metavar="TRACKER", help=f"Log the record: {options.TRACKERS}")
@options.skip_broken
@options.recheck
@options.name
@options.computing
@options.workers
@options.as_json
@options.resumable
def run(
    protocol: str,
    sampler: str | None,
    sampler_command: str | None,
    sampler_timeout: float | None,
    pairs: tuple[str, ...],
    clips: Path | None,
    fit: bool,
    data_root: Path | None,
    reference_stats: Path | None,
    out: Path | None,
    limit: int | None,
    seed: int,
    dry_run: bool,
    specs: tuple[str, ...],
    skip_broken: bool,
    recheck: bool,
    name: str | None,
    computing: "ComputeConfig",
    workers: int,
    as_json: bool,
) -> None:
    """Run PROTOCOL (a name or a TOML file): generate clips, score them, and record everything.

    Rerun the same command to resume an interrupted run; its score is the same to the last bit.

    \b
    vdm-bench run shapes-unconditional --sampler real
    vdm-bench run shapes-prediction --sampler my_model:sample --option steps=64
    vdm-bench run bair-prediction --sampler my_model:sample --data-root datasets/bair
    vdm-bench run shapes-unconditional --clips samples/
    vdm-bench run shapes-unconditional --sampler-command "other/bin/python sampler.py"
    """
    from vdm_bench.leaderboards.trackers import open_tracker
    from vdm_bench.protocols import get_protocol
    from vdm_bench.runs.context import open_run
    from vdm_bench.runs.forecast import forecast
    from vdm_bench.runs.plan import RunOptions
    from vdm_bench.runs.run import execute, source_of_clips, write_page
    from vdm_bench.runtime.distributed import join_processes
    from vdm_bench.runtime.progress import Console

    chosen, processes = get_protocol(protocol), join_processes()
    source, settings = _sampler(
        sampler, sampler_command, sampler_timeout, options.key_values(pairs), has_clips=clips is not None
    )
    asked = RunOptions(
        source=source_of_clips(source, clips, settings, seed, fit=fit),
        data_root=data_root,
        reference_stats=reference_stats,
        limit=limit,
        skip_broken=skip_broken,
        computing=computing,
        workers=workers,
        name=name,
        recheck=recheck,
    )
    folder = out or Path("runs", chosen.name, _folder_name(sampler or sampler_command or str(clips)))
    if dry_run:
        show(*forecast(chosen, asked, folder).lines())
        return
    trackers = {spec: open_tracker(spec) for spec in specs}  # before hours of work
    opened = open_run(chosen, folder, asked, Console(), processes)
    record = execute(opened)
    if processes.is_main:
        print_record(record, as_json)
        write_page(opened, record)
        _log(folder, trackers)
        require_values(record)


def _log(folder: Path, trackers: "Mapping[str, Tracker]") -> None:
    """Send the record of a run folder to trackers; failures are warnings."""
    from vdm_bench.leaderboards.record import StoredRecord
    from vdm_bench.leaderboards.trackers import log_record
    from vdm_bench.runtime.run_folder import RunFolder

    for sentence in log_record(StoredRecord.read(RunFolder(folder).record), trackers) if trackers else ():
        say(f"Warning: {sentence}")


def _sampler(
    sampler: str | None, command: str | None, timeout: float | None, settings: dict[str, str], *, has_clips: bool
) -> tuple["str | Sampler | None", dict[str, str]]:
    """Return the sampler, and the options that it does not have yet."""
    from vdm_bench.samplers.command import CommandSampler

    if command is None:
        if sampler is None and not has_clips:
            raise InputError(
                "no clips to score: give --sampler NAME, --sampler-command CMD, or --clips PATH of existing ones"
            )
        if timeout is not None:
            raise InputError("--sampler-timeout works only with --sampler-command; leave it out")
        return sampler, settings
    if sampler is not None:
        raise InputError("give --sampler or --sampler-command, one of the two")
    return CommandSampler(command, settings, timeout), {}


def _folder_name(text: str) -> str:
    """Return a folder name for a sampler: `module:object` becomes `module.object`."""
    kept = "".join(char if char.isalnum() or char in "-_." else "." for char in text)
    return kept.strip(".").encode()[:_LONGEST_NAME].decode(errors="ignore") or "run"
