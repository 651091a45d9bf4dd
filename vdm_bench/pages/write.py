"""Pages of runs with their clips: what `vdm-bench report --format html` and `leaderboard --html` write."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vdm_bench.leaderboards.report.runs import Runs, read_runs
from vdm_bench.leaderboards.report.writing import EMBEDDED_BYTES, PageOptions, write_report, write_site
from vdm_bench.pages.galleries import ClipPlaces, make_galleries
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
        places: where clips lie that are not in a run's folder.
        embed: bytes of clips in the file; others are written to a folder beside it.
        reporter: where progress, and records left out, are told; nowhere by default.

    Raises:
        InputError: no sound record, clips that are not there, or a file that cannot be written.
    """
    runs, reporter = _told(paths, reporter)
    galleries = make_galleries(runs, places or ClipPlaces(), reporter)
    write_report(runs, Path(page), PageOptions(galleries, embed))


def write_html_site(
    paths: str | Path | Iterable[str | Path],
    folder: str | Path,
    *,
    places: ClipPlaces | None = None,
    embed: int = EMBEDDED_BYTES,
    reporter: Reporter | None = None,
) -> Path:
    """Write a site about runs: a page for each protocol, and `index.html`; as `write_html`, but for a folder.

    Returns:
        The path of `index.html`.

    Raises:
        InputError: no sound record, clips that are not there, or a file that cannot be written.
    """
    folder = Path(folder)
    runs, reporter = _told(paths, reporter)
    galleries = make_galleries(runs, places or ClipPlaces(), reporter)
    way_out = "wait for it, or choose another --html"
    with hold(folder, "leaderboard", way_out=way_out, note=reporter.note) as alone:
        remove_temporary_files(folder, shared=not alone)
        return write_site(runs, folder, PageOptions(galleries, embed))


def _told(paths: str | Path | Iterable[str | Path], reporter: Reporter | None) -> tuple[Runs, Reporter]:
    reporter = reporter or Silent()
    runs = read_runs(paths)
    for sentence in runs.left_out:
        reporter.note(f"left out: {sentence}")
    return replace(runs, frame=with_apart(runs.frame)), reporter
