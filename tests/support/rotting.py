"""Stored features and clips that the tests let rot, and the ways in which they do."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from paths import ROOT
from small_data import MemoryClips

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.runtime.checksums import open_arrays, save_arrays
from vdm_bench.runtime.progress import Console
from vdm_bench.scoring.features import ExtractedFeatures, FeatureExtractor

COUNT = 70  # a block of 64 clips and one of 6
DIGEST = "0" * 64  # of other clips
FRAMES = np.stack([clip.frames for clip in (Shapes("test", seed=5)[i] for i in range(COUNT))])
CASES = ROOT.parent / "shared" / "cases" / "fuzz"


def collect(folder: Path, clips: MemoryClips | None = None, **options: object) -> ExtractedFeatures:
    """Collect the features of `FRAMES`, or of other clips, into a folder."""
    options = {"networks": [EmbeddedNetwork()], **options}
    made = FeatureExtractor(workers=2, skip_broken=False, reporter=Console(), **options)  # type: ignore[arg-type]
    return made.collect(clips or MemoryClips(FRAMES), COUNT, folder, "clips")


def values(collected: ExtractedFeatures) -> bytes:
    """All features of a side, to the last bit."""
    (features,) = collected.features
    return b"".join(
        block.tobytes() for layer in EmbeddedNetwork().spec.layers for block in features.blocks(layer)
    )


def flip(path: Path, draw: random.Random) -> tuple[int, int]:
    """Flip one bit of a file; return its byte and bit."""
    data = bytearray(path.read_bytes())
    place, bit = draw.randrange(len(data)), draw.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return place, bit


def rewrite(path: Path, arrays: Callable[[dict[str, np.ndarray]], object] = dict, facts: object = None) -> None:
    """Write a file of features anew, with sound checksums."""
    with open_arrays(path) as old:
        found = {name: old.read(name) for name in old.shapes}
        said = dict(old.facts)
    changed = arrays(found)
    path.write_bytes(save_arrays(changed, said if facts is None else facts))  # type: ignore[arg-type]


def with_facts(path: Path, **facts: object) -> None:
    """Write a file of features anew, with sound checksums and these facts beside its own."""
    with open_arrays(path) as old:
        said = {**old.facts, **facts}
    rewrite(path, facts=said)


def nested(depth: int) -> object:
    found: object = []
    for _ in range(depth):
        found = [found]
    return found


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))
