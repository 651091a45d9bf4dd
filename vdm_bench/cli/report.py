"""`vdm-bench report`: tables of runs, or a page with plots and clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.leaderboards.tables.formats import Format

_MEGABYTE = 1_000_000


@click.command(short_help="Print tables of runs, or write a report page.")
@click.argument("runs", type=options.PATH, nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice((*options.FORMATS, "parquet", "html")),
    default="text",
    show_default=True,
    help="Format: parquet needs the extra `parquet`; html is a page with tables, plots and clips.",
)
@options.output
@options.data_root
@click.option(
    "--clips",
    "named",
    multiple=True,
    metavar="NAME=PATH",
    help="For html: clips of the run NAME, or of an extra column; may be repeated.",
)
@click.option(
    "--embed",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    metavar="MB",
    help="Megabytes of clips in the page; further clips are written to a folder next to it.",
)
def report(
    runs: tuple[Path, ...],
    form: "Format | Literal['parquet', 'html']",
    output: Path | None,
    data_root: Path | None,
    named: tuple[str, ...],
    embed: int,
) -> None:
    """Print tables of RUNS: run folders, folders of them, or run.json files.

    Only scores with the same signature are ranked together; others are in separate tables.

    \b
    vdm-bench report runs/
    vdm-bench report runs/ --format html -o report.html
    vdm-bench report runs/mine --format html -o report.html --clips theirs=other/samples
    """
    if named and form != "html":
        raise InputError("--clips needs --format html; add it, or leave out --clips")
    if form == "html":
        _write_page(runs, _needed(output, form), data_root, named, embed)
        return
    from vdm_bench.leaderboards.store import load_runs

    frame = load_runs(runs, note=options.say_left_out)
    if form == "parquet":
        from vdm_bench.leaderboards.tables.formats import write_parquet

        write_parquet(frame, _needed(output, form))
        say(f"wrote {output}")
        return
    from vdm_bench.leaderboards.tables.formats import format_tables

    options.write_or_print(format_tables(frame, form), output)


def _needed(output: Path | None, form: str) -> Path:
    if output is None:
        raise InputError(f"--format {form} cannot be printed; name a file with -o FILE")
    return output


def _write_page(
    runs: tuple[Path, ...], output: Path, data_root: Path | None, named: tuple[str, ...], embed: int
) -> None:
    from vdm_bench.pages.galleries import ClipPlaces
    from vdm_bench.pages.write import write_html
    from vdm_bench.runtime.progress import Console

    reporter = Console()
    places = ClipPlaces(data_root, options.named_paths(named, "--clips", "NAME=PATH, such as mine=samples/"))
    write_html(runs, output, places=places, embed=embed * _MEGABYTE, reporter=reporter)
    reporter.note(f"wrote {output}")
