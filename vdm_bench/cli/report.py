"""`vdm-bench report`: tables of runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vdm_bench.cli import options
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.leaderboards.tables import Format


@click.command(short_help="Print tables of runs.")
@click.argument("runs", type=options.PATH, nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice((*options.FORMATS, "parquet")),
    default="text",
    show_default=True,
    help="Form of the tables; parquet needs -o and the extra `parquet`.",
)
@options.output
def report(runs: tuple[Path, ...], form: "Format | Literal['parquet']", output: Path | None) -> None:
    """Print tables of RUNS: run folders, folders of them, or run.json files.

    Scores are ranked only among scores that were made in the same way; others stand in a table of their own.
    """
    from vdm_bench.leaderboards.store import load_runs
    from vdm_bench.leaderboards.tables import format_tables

    frame = load_runs(runs, note=lambda text: click.echo(text, err=True))
    if form != "parquet":
        options.write_or_print(format_tables(frame, form), output)
        return
    from vdm_bench.leaderboards.parquet import write_parquet

    if output is None:
        raise InputError("--format parquet is not for the screen; give a file by -o FILE")
    write_parquet(frame, output)
    click.echo(f"wrote {output}", err=True)
