"""Pages of runs: one self-contained HTML file, or a site with a page for every protocol.

A page asks nothing of a network: style, script, plots and clips stand in it, and its Content-Security-Policy
lets nothing else in. It holds what its records hold and nothing of the place or time it was made at, so that
the same runs give the same bytes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdm_bench.leaderboards.report.gallery import Film, Gallery, GalleryRow
    from vdm_bench.leaderboards.report.runs import Runs, read_runs
    from vdm_bench.leaderboards.report.writing import PageOptions, write_report, write_site

__all__ = ["Film", "Gallery", "GalleryRow", "PageOptions", "Runs", "read_runs", "write_report", "write_site"]

_HOMES = {
    "gallery": ("Film", "Gallery", "GalleryRow"),
    "runs": ("Runs", "read_runs"),
    "writing": ("PageOptions", "write_report", "write_site"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
