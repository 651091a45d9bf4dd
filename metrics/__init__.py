"""Metrics of video generation: feature networks, statistics, distances, scores and signatures.

It needs only torch, numpy, scipy and safetensors; the metric objects for training loops also need torchmetrics.
The public names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from vdm_bench.runtime.lazy import lazy

if TYPE_CHECKING:
    from vdm_bench.metrics.frechet import frechet_distance as frechet_distance
    from vdm_bench.metrics.inception import inception_score as inception_score
    from vdm_bench.metrics.kernel import kernel_distance as kernel_distance
    from vdm_bench.metrics.modules import FrechetVideoDistance as FrechetVideoDistance
    from vdm_bench.metrics.modules import KernelVideoDistance as KernelVideoDistance
    from vdm_bench.metrics.modules import VideoInceptionScore as VideoInceptionScore
    from vdm_bench.metrics.moments import Moments as Moments
    from vdm_bench.metrics.score import Interval as Interval
    from vdm_bench.metrics.score import Score as Score
    from vdm_bench.metrics.score import Signature as Signature

_HOMES = {
    "FrechetVideoDistance": "modules",
    "Interval": "score",
    "KernelVideoDistance": "modules",
    "Moments": "moments",
    "Score": "score",
    "Signature": "score",
    "VideoInceptionScore": "modules",
    "frechet_distance": "frechet",
    "inception_score": "inception",
    "kernel_distance": "kernel",
}
# `import *` works without torchmetrics.
__all__ = [name for name, home in _HOMES.items() if home != "modules"]

__getattr__, __dir__ = lazy(__name__, _HOMES)
