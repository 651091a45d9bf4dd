"""`vdm-bench report`: tables of runs, or a page with plots and clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.leaderboards.record import StoredRecord
    from vdm_bench.leaderboards.tables.formats import Format
    from vdm_bench.leaderboards.tables.wide.formats import WideFormat

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
@click.option(
    "--wide/--by-metric",
    default=None,
    help="One table with a row per run and a column per metric, or a ranked table per metric, with all details.  "
    "[default: --wide for text and latex if there are several metrics]",
)
@click.option("--rows-only", is_flag=True, help="For latex: only the rows of the wide table, for your own table.")
@click.option("--citation", is_flag=True, help="Print the BibTeX entries of the metrics' papers instead.")
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
    wide: bool | None,
    rows_only: bool,
    citation: bool,
    output: Path | None,
    data_root: Path | None,
    named: tuple[str, ...],
    embed: int,
) -> None:
    """Print tables of RUNS: run folders, folders of them, or run.json files.

    Only scores with the same signature are ranked together; others are in separate tables or rows.

    \b
    vdm-bench report runs/
    vdm-bench report runs/ --by-metric
    vdm-bench report runs/ --format latex -o table.tex
    vdm-bench report runs/ --citation -o references.bib
    vdm-bench report runs/ --format html -o report.html
    vdm-bench report runs/mine --format html -o report.html --clips theirs=other/samples
    """
    if named and form != "html":
        raise InputError("--clips needs --format html; add it, or leave out --clips")
    _check_layout(form, wide, rows_only, citation)
    if form == "html":
        _write_page(runs, _needed(output, form), data_root, named, embed)
        return
    from vdm_bench.leaderboards.store import frame_of_records, read_records

    records = read_records(runs, note=options.say_left_out)
    if citation:
        from vdm_bench.leaderboards.tables.wide.appendix import citations

        scores = [score for run in records for score in run.record.scores]
        options.write_or_print(citations(scores) or "% no papers to cite\n", output)
        return
    if wide or rows_only or (wide is None and form in ("text", "latex") and _has_several_metrics(records)):
        from vdm_bench.leaderboards.tables.wide.formats import format_wide
        from vdm_bench.leaderboards.tables.wide.table import wide_tables

        text = format_wide(wide_tables(records), cast("WideFormat", form), rows_only=rows_only)
        options.write_or_print(text, output)
        return
    frame = frame_of_records(records, note=options.say_left_out)
    if form == "parquet":
        from vdm_bench.leaderboards.tables.formats import write_parquet

        write_parquet(frame, _needed(output, form))
        say(f"wrote {output}")
        return
    from vdm_bench.leaderboards.tables.formats import format_tables

    options.write_or_print(format_tables(frame, form), output)


def _check_layout(form: str, wide: bool | None, rows_only: bool, citation: bool) -> None:
    if rows_only and (form != "latex" or wide is False):
        raise InputError("--rows-only is for wide LaTeX tables; add --format latex, and leave out --by-metric")
    if wide and form not in ("text", "markdown", "latex"):
        raise InputError(
            f"--format {form} has no wide table; leave out --wide, or choose text, markdown or latex"
        )
    if citation and (form != "text" or wide is not None):
        raise InputError("--citation prints BibTeX; leave out --format, --wide and --by-metric")


def _has_several_metrics(records: "list[StoredRecord]") -> bool:
    return len({score.metric for run in records for score in run.record.scores}) > 1


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
