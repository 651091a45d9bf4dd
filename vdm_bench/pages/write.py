"""Write pages of runs with their clips, for `vdm-bench report --format html` and `leaderboard --html`."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vdm_bench.leaderboards.report.runs import Runs, read_runs
from vdm_bench.leaderboards.report.writing import EMBEDDED_BYTES, PageOptions, write_report, write_site
from vdm_bench.pages.galleries import ClipPlaces, make_galleries
from vdm_bench.pages.summaries import summaries
from vdm_bench.protocols.eligibility import with_apart
from vdm_bench.runtime.files import remove_temporary_files
from vdm_bench.runtime.locks import hold
from vdm_bench.runtime.progress import Reporter, Silent

__all__ = ["write_html", "write_html_site"]


def write_html(
    paths: str | Path | Iterable[str | Path],
    page: str | Path,
    *,
    places: ClipPlaces | None = None,
    embed: int = EMBEDDED_BYTES,
    reporter: Reporter | None = None,
) -> None:
    """Write one self-contained HTML file about runs.

    Args:
        paths: run folders, folders of them, or `run.json` files.
        page: the file to write.
        places: where to find clips that are not in a run's folder.
        embed: limit on the bytes of videos in the file; further ones are written to a folder next to it.
        reporter: receives progress, and a note for each record that is skipped.

    Raises:
        InputError: no valid record, named clips do not exist, or a file cannot be written.
    """
    runs, reporter = _read(paths, reporter)
    galleries = make_galleries(runs, places or ClipPlaces(), reporter)
    write_report(runs, Path(page), PageOptions(galleries, embed, summaries(), reporter))


def write_html_site(
    paths: str | Path | Iterable[str | Path],
    folder: str | Path,
    *,
    places: ClipPlaces | None = None,
    embed: int = EMBEDDED_BYTES,
    reporter: Reporter | None = None,
) -> Path:
    """Write a site about runs: a page for each protocol, and `index.html`. Arguments as in `write_html`.

    Returns:
        The path of `index.html`.

    Raises:
        InputError: no valid record, named clips do not exist, or a file cannot be written.
    """
    folder = Path(folder)
    runs, reporter = _read(paths, reporter)
    galleries = make_galleries(runs, places or ClipPlaces(), reporter)
    way_out = "wait for it, or choose another --html"
    with hold(folder, "leaderboard", way_out=way_out, note=reporter.note) as alone:
        remove_temporary_files(folder, shared=not alone)
        return write_site(runs, folder, PageOptions(galleries, embed, summaries(), reporter))


def _read(paths: str | Path | Iterable[str | Path], reporter: Reporter | None) -> tuple[Runs, Reporter]:
    reporter = reporter or Silent()
    runs = read_runs(paths)
    for sentence in runs.left_out:
        reporter.note(f"left out: {sentence}")
    return replace(runs, frame=with_apart(runs.frame)), reporter
