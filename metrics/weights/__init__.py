"""Pretrained weights: a catalogue, downloads, checks, conversion and a cache.

Weights in the cache load with only torch, numpy and safetensors. A file is never trusted because of its name: its
size, its digest and, where they are published, the CRC32C of each tensor are checked. The public names below are
loaded when they are first used.
"""

from typing import TYPE_CHECKING

from vdm_bench.runtime.lazy import lazy

if TYPE_CHECKING:
    from vdm_bench.metrics.weights.digest import content_digest as content_digest
    from vdm_bench.metrics.weights.digest import git_blob_id as git_blob_id
    from vdm_bench.metrics.weights.entries import Entry as Entry
    from vdm_bench.metrics.weights.entries import catalogue as catalogue
    from vdm_bench.metrics.weights.library import export as export
    from vdm_bench.metrics.weights.library import fetch as fetch
    from vdm_bench.metrics.weights.library import import_weights as import_weights
    from vdm_bench.metrics.weights.library import load_weights as load_weights
    from vdm_bench.metrics.weights.library import provide as provide
    from vdm_bench.metrics.weights.library import verify as verify
    from vdm_bench.metrics.weights.store import read_weights_file as read_weights_file

_HOMES = {
    "Entry": "entries",
    "catalogue": "entries",
    "content_digest": "digest",
    "export": "library",
    "fetch": "library",
    "git_blob_id": "digest",
    "import_weights": "library",
    "load_weights": "library",
    "provide": "library",
    "read_weights_file": "store",
    "verify": "library",
}
__all__ = list(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
