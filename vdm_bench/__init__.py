"""Evaluation and benchmarking of video generation models, with reproducible scores.

Public names are loaded when they are first used: importing this package loads neither torch nor pandas.
"""

from typing import TYPE_CHECKING

from vdm_bench.runtime.lazy import lazy
from vdm_bench.version import __version__ as __version__

if TYPE_CHECKING:
    from vdm_bench.leaderboards.store import load_runs as load_runs
    from vdm_bench.metrics.networks import ComputeConfig as ComputeConfig
    from vdm_bench.pages.write import write_html as _write_report
    from vdm_bench.pages.write import write_html_site as _write_site
    from vdm_bench.reference_model.model import load_reference_model as load_reference_model
    from vdm_bench.runs.run import run as run
    from vdm_bench.runs.verify import VerifyOptions as VerifyOptions
    from vdm_bench.runs.verify import verify as verify
    from vdm_bench.runtime.distributed import join_processes as join_processes
    from vdm_bench.samplers.base import Sampler as Sampler
    from vdm_bench.samplers.base import SampleRequest as SampleRequest
    from vdm_bench.samplers.output import ClipFormat as ClipFormat
    from vdm_bench.scoring.score import ScoreOptions as ScoreOptions
    from vdm_bench.scoring.score import score as score
    from vdm_bench.scoring.score import score_record as score_record
    from vdm_bench.video.archive import Archive as _ClipArchive
    from vdm_bench.video.clip import Clip as Clip

    ClipArchive, write_report, write_site = _ClipArchive, _write_report, _write_site

_HOMES = {
    "Clip": "video.clip",
    "ClipArchive": "video.archive:Archive",
    "ClipFormat": "samplers.output",
    "ComputeConfig": "metrics.networks",
    "SampleRequest": "samplers.base",
    "Sampler": "samplers.base",
    "ScoreOptions": "scoring.score",
    "VerifyOptions": "runs.verify",
    "join_processes": "runtime.distributed",
    "load_reference_model": "reference_model.model",
    "load_runs": "leaderboards.store",
    "run": "runs.run",
    "score": "scoring.score",
    "score_record": "scoring.score",
    "verify": "runs.verify",
    "write_report": "pages.write:write_html",
    "write_site": "pages.write:write_html_site",
}
__all__ = ["__version__", *_HOMES]

__getattr__, __dir__ = lazy(__name__, _HOMES, libraries=("leaderboards", "metrics", "reference_model"))
