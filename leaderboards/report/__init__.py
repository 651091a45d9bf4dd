"""Pages of runs: one self-contained HTML file, or a site with a page for every protocol.

A page makes no network requests: style, script, plots and clips are in the file, and its Content-Security-Policy
allows nothing else. It shows the contents of the records, and nothing about where or when it was made, so the
same runs produce the same bytes.
"""

from typing import TYPE_CHECKING

from vdm_bench.runtime.lazy import lazy

if TYPE_CHECKING:
    from vdm_bench.leaderboards.report.gallery import EncodedClip as EncodedClip
    from vdm_bench.leaderboards.report.gallery import Gallery as Gallery
    from vdm_bench.leaderboards.report.gallery import GalleryRow as GalleryRow
    from vdm_bench.leaderboards.report.runs import Runs as Runs
    from vdm_bench.leaderboards.report.runs import read_runs as read_runs
    from vdm_bench.leaderboards.report.writing import PageOptions as PageOptions
    from vdm_bench.leaderboards.report.writing import write_report as write_report
    from vdm_bench.leaderboards.report.writing import write_site as write_site

_HOMES = {
    "EncodedClip": "gallery",
    "Gallery": "gallery",
    "GalleryRow": "gallery",
    "PageOptions": "writing",
    "Runs": "runs",
    "read_runs": "runs",
    "write_report": "writing",
    "write_site": "writing",
}
__all__ = list(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
