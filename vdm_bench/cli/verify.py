"""`vdm-bench verify`: is a record true of its clips?"""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import show

REFUTED = 1


@click.command(short_help="Verify somebody's record from its clips.")
@click.argument("record", type=options.PATH)
@click.option("--samples", type=options.PATH, required=True, help="The clips; a clip archive, or a run folder.")
@click.option("--protocol", help="File of the record's protocol, where it is not one of vdm-bench's.")
@click.option(
    "--share",
    type=options.Number(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Part of the clips whose stored features are computed again; without stored ones, all are.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="By which these clips are chosen.  [default: one that nobody knows before]",
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
    samples: Path,
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
    """Verify RECORD, a run.json or its folder: make the run again from its clips, and compare.

    Where all is as recorded, verified.json is written beside RECORD, and tables show the run as verified.
    It is not shown that a model made the clips.

    \b
    vdm-bench verify their-run/run.json --samples their-run/samples
    Exit codes: 0 verified, 1 not verified, 2 wrong usage, or something that is needed is not there.
    """
    from vdm_bench.metrics.networks import ComputeConfig, pick_device
    from vdm_bench.runs.verify import VerifyOptions
    from vdm_bench.runs.verify import verify as verify_record
    from vdm_bench.runtime.progress import Console

    asked = VerifyOptions(
        samples=samples,
        protocol=protocol,
        share=share,
        seed=seed,
        data_root=data_root,
        reference_stats=reference_stats,
        computing=ComputeConfig(pick_device(device), weights=options.weight_files(weights)),
        workers=workers,
        recheck=recheck,
    )
    checks = verify_record(record, asked, Console())
    for check in checks:
        show(f"{check.name:<11} {check.fault or check.found}")
    fault = checks[-1].fault
    show("verified" if fault is None else f"not verified: {checks[-1].name}")
    context.exit(REFUTED if fault else 0)
