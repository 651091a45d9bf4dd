"""Memory and open files do not grow with the number of clips, but for a name and a digest of each."""

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from peak_memory import peak_memory
from torch import Tensor

from vdm_bench.datasets.folder import open_clips
from vdm_bench.metrics.evaluation import Evaluation, FeatureSet
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.runtime.progress import Silent
from vdm_bench.scoring.features import FeatureExtractor


class Pixels(EmbeddedNetwork):
    """The first pixels of a clip as its features: which they are does not matter here."""

    def __call__(self, clips: Tensor) -> dict[str, Tensor]:
        return {name: clips.flatten(1)[:, :width].float() for name, width in self.spec.layers.items()}


def write_clips(folder: Path, count: int, save: Callable[[Path, np.ndarray], None], suffix: str) -> Path:
    """Write few files with many names, each a clip."""
    folder.mkdir()
    draw, written = np.random.default_rng(0), 64
    for number in range(count):
        path = folder / f"{number:05}{suffix}"
        if number < written:
            save(path, draw.integers(0, 256, (4, 8, 8, 3), np.uint8))
        else:
            os.link(folder / f"{number % written:05}{suffix}", path)
    return folder


def collect(clips: Path, features: Path) -> FeatureSet:
    dataset = open_clips(clips)
    return (
        FeatureExtractor([Pixels()], 2, False, Silent())
        .collect(dataset, len(dataset), features, "clips")
        .features[0]
    )


def collect_anew(clips: Path) -> FeatureSet:
    return collect(clips, Path(tempfile.mkdtemp(dir=clips.parent)))


@pytest.mark.parametrize(("save", "suffix"), [(np.save, ".npy"), (np.savez, ".npz")])
def test_features_of_a_folder_take_no_more_memory_for_more_clips(
    save: Callable[[Path, np.ndarray], None], suffix: str, tmp_path: Path
) -> None:
    collect(write_clips(tmp_path / "first", 64, save, suffix), tmp_path / "of-first")  # modules are imported
    peaks = []
    for count in (300, 2100):
        folder = write_clips(tmp_path / str(count), count, save, suffix)
        peaks.append(peak_memory(partial(collect_anew, folder)))
    # A name, a digest and their places in lists. The features of a clip would take 256 bytes more, pixels 768.
    assert (peaks[1] - peaks[0]) / 1800 < 450


@pytest.mark.parametrize("name", ["embedded/fvd", "embedded/is"])
def test_a_score_takes_no_more_memory_for_more_clips(name: str) -> None:
    spec = EmbeddedNetwork().spec

    def side(count: int) -> FeatureSet:
        def blocks(layer: str) -> Iterator[np.ndarray]:
            for number in range(count // 64):
                yield np.random.default_rng(number).standard_normal((64, spec.layers[layer]), np.float32)

        return FeatureSet("real", (16, 32, 32), count, blocks)

    few, many = (Evaluation(side(6400), side(count)) for count in (102_400, 204_800))
    recipe = get_recipe(name)
    assert peak_memory(lambda: many.score(recipe, spec)) < peak_memory(lambda: few.score(recipe, spec)) + 1e5


def test_a_folder_may_hold_more_arrays_than_a_process_may_open(tmp_path: Path) -> None:
    clips = open_clips(write_clips(tmp_path / "clips", 200, np.save, ".npy"))
    before = open_files()
    kept = [clips[index].key for index in range(200)]
    assert len(set(kept)) == 200
    assert open_files() < before + 50


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
