"""`vdm-bench leaderboard`: published results, ranked with your runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdm_bench.cli import options
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.leaderboards.tables.formats import Format


@click.command(short_help="Print published results, ranked with your runs.")
@click.argument("protocol", required=False)
@click.option("--runs", type=options.PATH, multiple=True, help="Folder of your runs; may be repeated.")
@click.option("--citation", is_flag=True, help="Print the BibTeX entries of the papers instead.")
@click.option(
    "--html", type=options.PATH, metavar="DIR", help="Write a site with a page for each protocol to a folder."
)
@options.data_root
@options.table_format
@options.output
def leaderboard(
    protocol: str | None,
    runs: tuple[Path, ...],
    citation: bool,
    html: Path | None,
    data_root: Path | None,
    form: "Format",
    output: Path | None,
) -> None:
    """Print published results of PROTOCOL, or of all protocols, ranked with your runs.

    A run is ranked with published results if it follows the protocol exactly. Published rows and runs that
    deviate from the protocol are in separate groups, with the reason.

    As text, each protocol is one table that fits on a screen: a row per model, a column per metric. The other
    formats have one table per group, with all rows.

    \b
    vdm-bench leaderboard ucf101-unconditional --runs runs/
    vdm-bench leaderboard kinetics600-prediction --citation -o references.bib
    vdm-bench leaderboard --runs runs/ --html site/
    """
    if html is not None:
        if protocol or citation or output or form != "text":
            raise InputError("--html writes pages of all protocols; use it only with --runs and --data-root")
        _write_site(runs, html, data_root)
        return
    from vdm_bench.leaderboards.published import citation as entry
    from vdm_bench.leaderboards.published import published_rows
    from vdm_bench.protocols import get_protocol

    name = None if protocol is None else get_protocol(protocol).name
    published = published_rows(name)
    if citation:
        if runs or form != "text":
            raise InputError("--citation prints BibTeX; leave out --format or --runs")
        text = "\n".join(map(entry, dict.fromkeys(row.source for row in published)))
        options.write_or_print(text or "% no published results\n", output)
        return
    from vdm_bench.leaderboards.ranking import make_boards
    from vdm_bench.leaderboards.store import load_runs
    from vdm_bench.leaderboards.tables.formats import format_boards
    from vdm_bench.leaderboards.tables.matrix import text_of_boards
    from vdm_bench.pages.summaries import summaries
    from vdm_bench.protocols.eligibility import with_apart

    frame = load_runs(runs, note=options.say_left_out)
    if name is not None:
        frame = frame[frame["protocol"] == name].reset_index(drop=True)
    boards = make_boards(published, with_apart(frame))
    text = text_of_boards(boards, summaries()) if form == "text" else format_boards(boards, form)
    options.write_or_print(text, output)


def _write_site(runs: tuple[Path, ...], folder: Path, data_root: Path | None) -> None:
    from vdm_bench.pages.galleries import ClipPlaces
    from vdm_bench.pages.write import write_html_site
    from vdm_bench.runtime.progress import Console

    reporter = Console()
    index = write_html_site(runs, folder, places=ClipPlaces(data_root), reporter=reporter)
    reporter.note(f"wrote {index}")
