"""`vdm-bench verify`: check a record against its clips."""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import show
from vdm_bench.errors import InputError

REFUTED = 1


@click.command(short_help="Verify a record against its clips.")
@click.argument("record", type=options.PATH)
@click.option(
    "--samples",
    type=options.PATH,
    help="The clips: a clip archive, a folder or a run folder.  [default: those in the folder of RECORD]",
)
@click.option("--protocol", help="Protocol file of the record, if the protocol is not built in.")
@click.option(
    "--share",
    type=options.Number(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Share of the clips whose stored features are recomputed; without stored features, all clips.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Seed for choosing these clips.  [default: unpredictable]",
)
@options.data_root
@options.reference_stats
@options.recheck
@options.device
@options.weights
@options.workers
@click.pass_context
def verify(
    context: click.Context,
    record: Path,
    samples: Path | None,
    protocol: str | None,
    share: float,
    seed: int | None,
    data_root: Path | None,
    reference_stats: Path | None,
    recheck: bool,
    device: str,
    weights: tuple[str, ...],
    workers: int,
) -> None:
    """Verify RECORD, a run.json or its folder: repeat the run with its clips, and compare.

    If everything matches, verified.json is written next to RECORD, and tables show the run as verified.
    This does not prove that a model generated the clips.

    \b
    vdm-bench verify their-run
    vdm-bench verify their-run/run.json --samples elsewhere/samples
    Exit codes: 0 verified, 1 not verified, 2 wrong usage, or something required is missing.
    """
    from vdm_bench.metrics.networks import ComputeConfig, pick_device
    from vdm_bench.runs.verify import VerifyOptions
    from vdm_bench.runs.verify import verify as verify_record
    from vdm_bench.runtime.progress import Console

    chosen = VerifyOptions(
        samples=samples or _samples_of(record),
        protocol=protocol,
        share=share,
        seed=seed,
        data_root=data_root,
        reference_stats=reference_stats,
        computing=ComputeConfig(pick_device(device), weights=options.weight_files(weights)),
        workers=workers,
        recheck=recheck,
    )
    checks = verify_record(record, chosen, Console())
    for check in checks:
        show(f"{check.name:<11} {check.fault or check.found}")
    fault = checks[-1].fault
    show("verified" if fault is None else f"not verified: {checks[-1].name}")
    context.exit(REFUTED if fault else 0)


def _samples_of(record: Path) -> Path:
    """Return the clips in the folder of a record."""
    from vdm_bench.runtime.run_folder import RunFolder

    folder = record if record.is_dir() else record.parent
    samples = RunFolder(folder).samples
    if not samples.is_dir():
        raise InputError(f"there are no clips in {samples}; name them with --samples PATH")
    return samples
