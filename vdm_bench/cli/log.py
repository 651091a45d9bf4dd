"""`vdm-bench log`: send records to experiment trackers."""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say
from vdm_bench.errors import VdmBenchError


@click.command(short_help="Log runs to MLflow, Weights & Biases or TensorBoard.")
@click.argument("runs", type=options.PATH, nargs=-1, required=True)
@click.option("--to", "specs", multiple=True, required=True, metavar="TRACKER", help=options.TRACKERS)
@click.pass_context
def log(context: click.Context, runs: tuple[Path, ...], specs: tuple[str, ...]) -> None:
    """Log RUNS to experiment trackers: run folders, folders of them, or run.json files.

    Logging a run twice stores it once.

    \b
    vdm-bench log runs/ --to mlflow:http://localhost:5000 --to tensorboard:logs
    vdm-bench log runs/mine --to wandb:me/my-project
    """
    from vdm_bench.leaderboards.store import read_records
    from vdm_bench.leaderboards.trackers import log_record, open_tracker

    trackers = {spec: open_tracker(spec) for spec in specs}
    records = read_records(runs, note=options.say_left_out)
    failed = [sentence for stored in records for sentence in log_record(stored, trackers)]
    for sentence in failed:
        say(f"Error: {sentence}")
    if failed:
        context.exit(VdmBenchError.exit_code)
    logged = "1 run" if len(records) == 1 else f"{len(records)} runs"
    say(f"logged {logged} to {', '.join(specs)}")
