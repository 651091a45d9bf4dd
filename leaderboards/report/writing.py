"""Write pages: one report, or a site with a page for each protocol."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vdm_bench.leaderboards.published import published_rows
from vdm_bench.leaderboards.ranking import BEST, Board, make_boards
from vdm_bench.leaderboards.report.content import make_page
from vdm_bench.leaderboards.report.gallery import Gallery, clips_folder, with_addresses
from vdm_bench.leaderboards.report.page import render
from vdm_bench.leaderboards.report.runs import Runs
from vdm_bench.leaderboards.tables.views import NAME, Table, tables_with_boards
from vdm_bench.runtime.files import is_stream, remove_temporary_files, remove_temporary_files_of, write_text

INDEX = "index.html"
EMBEDDED_BYTES = 8_000_000  # of clips, in a page
_MOST_IN_TITLE = 2  # protocols
_SLUG_DIGITS = 8


@dataclass(frozen=True)
class _IndexRow:
    name: str
    link: str
    runs: int
    published: int
    best: tuple[str, ...]


@dataclass(frozen=True)
class _Index:
    title: str
    about: tuple[str, ...]
    home: str
    left_out: tuple[str, ...]
    rows: tuple[_IndexRow, ...]


@dataclass(frozen=True)
class PageOptions:
    """Options of a page.

    Attributes:
        galleries: clips side by side; each is shown on the page of its protocol.
        embed: limit on the bytes of videos in a page; further ones are written to a folder next to it.
    """

    galleries: Sequence[Gallery] = ()
    embed: int = EMBEDDED_BYTES


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
    published = [row for protocol in protocols for row in published_rows(protocol)]
    tables = tables_with_boards(make_boards(published, runs.frame), runs.links)
    _write_page(path, runs, tables, options, title=title, galleries=options.galleries)


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
    rows = []
    for protocol in sorted({*(run.protocol for run in runs.runs), *(row.protocol for row in published_rows())}):
        own, published = runs.of(protocol), published_rows(protocol)
        tables = tables_with_boards(make_boards(published, own.frame), own.links)
        link = f"{_slug(protocol)}.html"
        galleries = [gallery for gallery in options.galleries if gallery.protocol == protocol]
        _write_page(folder / link, own, tables, options, title=protocol, galleries=galleries, home=INDEX)
        rows.append(_IndexRow(protocol, link, len(own.runs), len(published), tuple(_best(tables))))
    index = _Index("Leaderboards", _size(runs, published_rows()), "", runs.left_out, tuple(rows))
    write_text(folder / INDEX, render("index.html", index))
    return folder / INDEX


def _write_page(
    path: Path,
    runs: Runs,
    tables: Sequence[tuple[Table, Board]],
    options: PageOptions,
    *,
    title: str,
    galleries: Sequence[Gallery],
    home: str = "",
) -> None:
    if not is_stream(path):
        remove_temporary_files_of(path, shared=True)
        remove_temporary_files(clips_folder(path), shared=True)
    # A pipe has no folder for further files.
    shown = with_addresses(galleries, path, sys.maxsize if is_stream(path) else options.embed)
    published = [row for _, board in tables for row in board.rows["source"].dropna()]
    page = make_page(runs, tables, title=title, about=_size(runs, published), home=home, galleries=shown)
    linked = any(clip.linked for gallery in shown for row in gallery.rows for clip in row.clips if clip)
    write_text(path, render("page.html", page, linked=linked))


def _size(runs: Runs, published: Sequence[object]) -> tuple[str, ...]:
    count = len(runs.runs)
    parts = [f"{count:,} {'run' if count == 1 else 'runs'}"]
    return (" and ".join([*parts, *([f"{len(published):,} published numbers"] if published else [])]),)


def _best(tables: Sequence[tuple[Table, Board]]) -> Iterator[str]:
    """Yield the best score of each metric, if a table follows the protocol."""
    seen = set()
    for table, board in tables:
        first = table.rows[0]
        if table.metric not in seen and first.mark == BEST and not board.group:
            seen.add(table.metric)
            value = next(cell.text for cell in first.cells if cell.emphasis)
            name = first.cells[table.columns.index(NAME)].text
            yield f"{table.metric} {'↑' if table.higher_is_better else '↓'} {value} {name}"


def _slug(protocol: str) -> str:
    """Return a file name for a protocol; a name with other characters than this package's gets a digest."""
    kept = "".join(c for c in protocol.lower() if c.isascii() and (c.isalnum() or c in "-_"))[:60]
    if kept == protocol and f"{kept}.html" != INDEX:
        return kept
    return f"{kept or 'protocol'}-{hashlib.sha256(protocol.encode()).hexdigest()[:_SLUG_DIGITS]}"
