"""Pages of runs: one self-contained HTML file, or a site with a page for every protocol.

A page asks nothing of a network: style, script, plots and clips stand in it, and its Content-Security-Policy
lets nothing else in. It holds what its records hold and nothing of the place or time it was made at, so that
the same runs give the same bytes.
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
