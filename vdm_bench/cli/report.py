"""`vdm-bench report`: tables of runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdm_bench.cli import options

if TYPE_CHECKING:
    from vdm_bench.leaderboards.tables import Format


@click.command(short_help="Print tables of runs.")
@click.argument("runs", type=options.PATH, nargs=-1, required=True)
@options.table_format
@options.output
def report(runs: tuple[Path, ...], form: "Format", output: Path | None) -> None:
    """Print tables of RUNS: run folders, folders of them, or run.json files.

    Scores are ranked only among scores that were made in the same way; others stand in a table of their own.
    """
    from vdm_bench.leaderboards.store import load_runs
    from vdm_bench.leaderboards.tables import format_tables

    options.write_or_print(format_tables(load_runs(runs), form), output)
