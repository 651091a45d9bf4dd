"""Write pages: one report, or a site with a page for each protocol."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vdm_bench.leaderboards.published import published_rows
from vdm_bench.leaderboards.ranking import make_boards
from vdm_bench.leaderboards.report.content import PageFrame, Scores, make_page
from vdm_bench.leaderboards.report.front import Card, Front, PageLink, make_card
from vdm_bench.leaderboards.report.gallery import Gallery, clips_folder, with_addresses
from vdm_bench.leaderboards.report.metric_tables import metric_tables
from vdm_bench.leaderboards.report.page import render
from vdm_bench.leaderboards.report.runs import Runs
from vdm_bench.leaderboards.tables.matrix import ProtocolSummary, make_matrices
from vdm_bench.leaderboards.tables.views import tables_with_boards
from vdm_bench.runtime.files import is_stream, remove_temporary_files, remove_temporary_files_of, write_text
from vdm_bench.runtime.progress import Advance, Reporter, Silent

INDEX = "index.html"
EMBEDDED_BYTES = 8_000_000  # of clips, in a page
_MOST_IN_TITLE = 2  # protocols
_SLUG_DIGITS = 8


@dataclass(frozen=True)
class PageOptions:
    """Options of a page.

    Attributes:
        galleries: clips side by side; each is shown on the page of its protocol.
        embed: limit on the bytes of videos in a page; further ones are written to a folder next to it.
        summaries: of the protocols, by name; may lack some.
        reporter: receives progress.
    """

    galleries: Sequence[Gallery] = ()
    embed: int = EMBEDDED_BYTES
    summaries: Mapping[str, ProtocolSummary] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=Silent)


def write_report(runs: Runs, path: Path, options: PageOptions) -> None:
    """Write one HTML file about all runs, with the published rows of their protocols.

    Args:
        runs: from `read_runs`, with the column `apart` of `make_boards` in the frame.
        path: of the file; its folder is created if needed.
        options: clips, and how many are embedded.

    Raises:
        InputError: the file cannot be written, or `make_boards` refuses the runs.
    """
    protocols = sorted({run.protocol for run in runs.runs})
    title = f"Report: {', '.join(protocols)}" if len(protocols) <= _MOST_IN_TITLE else "Report"
    scores = _scores(runs, protocols, options, focus_runs=True)
    _write_page(path, runs, scores, options, PageFrame(title), options.galleries)


def write_site(runs: Runs, folder: Path, options: PageOptions) -> Path:
    """Write a page for each protocol with runs or published rows, and `index.html`, which links to them.

    Args:
        runs: from `read_runs`, with the column `apart` of `make_boards` in the frame.
        folder: created if needed; other files in it are left alone.
        options: clips, and how many are embedded.

    Returns:
        The path of `index.html`.

    Raises:
        InputError: a file cannot be written, or `make_boards` refuses the runs.
    """
    published = published_rows()
    protocols = sorted({*(run.protocol for run in runs.runs), *(row.protocol for row in published)})
    with options.reporter.stage("pages", len(runs.frame) + len(published), "scores") as advance:
        cards = [_write_protocol(runs.of(name), folder, name, options, advance) for name in protocols]
    front = Front(PageFrame("Leaderboards", _size(runs, len(published))), runs.left_out, tuple(cards))
    write_text(folder / INDEX, render("index.html", front))
    return folder / INDEX


def _write_protocol(runs: Runs, folder: Path, protocol: str, options: PageOptions, advance: Advance) -> Card:
    """Write the page of a protocol; return what the front page shows of it."""
    scores = _scores(runs, [protocol], options)
    link = f"{_slug(protocol)}.html"
    galleries = [gallery for gallery in options.galleries if gallery.protocol == protocol]
    _write_page(folder / link, runs, scores, options, PageFrame(protocol, home=INDEX), galleries)
    summary = options.summaries.get(protocol, ProtocolSummary())
    advance(len(runs.frame) + scores.published)
    return make_card(PageLink(protocol, link), summary.sentence, _size(runs, scores.published), scores.tables)


def _scores(runs: Runs, protocols: Sequence[str], options: PageOptions, *, focus_runs: bool = False) -> Scores:
    published = [row for protocol in protocols for row in published_rows(protocol)]
    tables = tables_with_boards(make_boards(published, runs.frame), runs.links)
    merged = metric_tables(tables, options.summaries, focus_runs=focus_runs)
    return Scores(merged, make_matrices(tables), len(published), options.summaries)


def _write_page(
    path: Path, runs: Runs, scores: Scores, options: PageOptions, frame: PageFrame, galleries: Sequence[Gallery]
) -> None:
    if not is_stream(path):
        remove_temporary_files_of(path, shared=True)
        remove_temporary_files(clips_folder(path), shared=True)
    # A pipe has no folder for further files.
    shown = with_addresses(galleries, path, sys.maxsize if is_stream(path) else options.embed)
    frame = PageFrame(frame.title, _size(runs, scores.published), frame.home)
    page = make_page(runs, scores, frame, shown)
    linked = any(clip.linked for gallery in shown for row in gallery.rows for clip in row.clips if clip)
    write_text(path, render("page.html", page, linked=linked))


def _size(runs: Runs, published: int) -> tuple[str, ...]:
    count = len(runs.runs)
    parts = [f"{count:,} {'run' if count == 1 else 'runs'}"] if count or not published else []
    return (" and ".join([*parts, *([f"{published:,} published numbers"] if published else [])]),)


def _slug(protocol: str) -> str:
    """Return a file name for a protocol; a name with other characters than this package's gets a digest."""
    kept = "".join(c for c in protocol.lower() if c.isascii() and (c.isalnum() or c in "-_"))[:60]
    if kept == protocol and f"{kept}.html" != INDEX:
        return kept
    return f"{kept or 'protocol'}-{hashlib.sha256(protocol.encode()).hexdigest()[:_SLUG_DIGITS]}"
