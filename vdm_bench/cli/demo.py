"""`vdm-bench demo`: from clips to a table of scores, offline."""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import show_text


@click.command(short_help="Score baselines and a model offline and print a table: start here.")
@click.option(
    "--out", type=options.PATH, default="vdm-bench-demo", show_default=True, help="Folder for the results."
)
@options.workers
@options.resumable
def demo(out: Path, workers: int) -> None:
    """Score five baselines and a trained model on shapes-unconditional: offline, on a CPU, in a minute or two.

    Prints the table. Also writes report.md, with the table and a picture of the clips, and report.html, with
    plots and playable clips.
    """
    from vdm_bench.leaderboards.store import load_runs
    from vdm_bench.leaderboards.tables.formats import format_tables
    from vdm_bench.runs.demo import run_demo
    from vdm_bench.runtime.progress import Console
    from vdm_bench.runtime.run_folder import REPORT_FILE

    reporter = Console()
    written = run_demo(out, workers, reporter)
    show_text(format_tables(load_runs(out / "runs"), "text"))
    reporter.note(f"wrote {written}, with a picture and {REPORT_FILE} next to it; the runs are in {out / 'runs'}")
