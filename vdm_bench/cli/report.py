"""`vdm-bench report`: tables of runs, or a page with their plots and clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vdm_bench.cli import options
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.leaderboards.tables import Format

_MEGABYTE = 1_000_000


@click.command(short_help="Print tables of runs, or write a page about them.")
@click.argument("runs", type=options.PATH, nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice((*options.FORMATS, "html")),
    default="text",
    show_default=True,
    help="Form of the tables; html is one file with tables, plots and clips.",
)
@options.output
@options.data_root
@click.option(
    "--clips",
    "named",
    multiple=True,
    metavar="NAME=PATH",
    help="On a page: clips of the run NAME, or of another column; may be repeated.",
)
@click.option(
    "--embed",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    metavar="MB",
    help="Megabytes of clips in a page; others are written to a folder beside it.",
)
def report(
    runs: tuple[Path, ...],
    form: "Format | Literal['html']",
    output: Path | None,
    data_root: Path | None,
    named: tuple[str, ...],
    embed: int,
) -> None:
    """Print tables of RUNS: run folders, folders of them, or run.json files.

    Scores are ranked only among scores that were made in the same way; others stand in a table of their own.

    \b
    vdm-bench report runs/
    vdm-bench report runs/ --format html -o report.html
    vdm-bench report runs/mine --format html -o report.html --clips theirs=other/samples
    """
    from vdm_bench.leaderboards.store import load_runs
    from vdm_bench.leaderboards.tables import format_tables

    if form != "html":
        if named:
            raise InputError("--clips are shown on a page alone; add --format html, or leave them out")
        options.write_or_print(format_tables(load_runs(runs), form), output)
        return
    from vdm_bench.galleries import ClipPlaces
    from vdm_bench.progress import Console
    from vdm_bench.reports import write_html

    if output is None:
        raise InputError("a page is written to a file; give its name by -o, such as -o report.html")
    reporter = Console()
    places = ClipPlaces(data_root, options.named_paths(named, "--clips", "NAME=PATH, such as mine=samples/"))
    write_html(runs, output, places=places, embed=embed * _MEGABYTE, reporter=reporter)
    reporter.note(f"wrote {output}")
