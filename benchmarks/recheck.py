"""What it costs that remembered clips are held against their files: shares of the time that decoding takes.

    python benchmarks/recheck.py [--clips 640] [--rounds 5]

640 clips of 16x64x64 as videos, frame folders, arrays and a clip archive. Each round reads and hashes all of them
(`--recheck`), then takes them from memory with the sample that is read again, and without it; then it scores them
against others with all features there, likewise. Medians of the rounds, one thread. Two minutes on two cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from vdm_bench import ScoreOptions, score_record
from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.runtime import stamps
from vdm_bench.runtime.progress import Silent
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.clip import Clip
from vdm_bench.video.contents import BlockMetadata, ContentCache
from vdm_bench.video.write import write_clip

BOUND = 0.05


def write(form: str, folder: Path, clips: Iterable[Clip]) -> None:
    """Write clips in a form."""
    if form == "archive":
        ArchiveWriter(folder, (16, 64, 64)).append(list(clips))
        return
    for number, clip in enumerate(clips):
        place = folder / f"{number:05}"
        if form == "films":
            write_clip(place.with_suffix(".mp4"), clip.frames)
        elif form == "frames":
            place.mkdir(parents=True)
            for index, frame in enumerate(clip.frames):
                Image.fromarray(frame).save(place / f"{index:02}.png")
        else:
            folder.mkdir(exist_ok=True)
            np.save(place.with_suffix(".npy"), clip.frames)


def believed(self: ContentCache, blocks: Iterable[tuple[int, BlockMetadata]]) -> None:
    """Look at no clip: memory is believed outright."""


def seconds(work: Callable[[], object]) -> float:
    """Time a call, by the processor's time of all threads: the machine may do other things as well."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(folder: Path, reference: Path, cache: Path) -> dict[str, float]:
    """Time one round."""
    outright = mock.patch.object(ContentCache, "first_changed", believed)

    def read(*, recheck: bool = False) -> float:
        clips = open_clips(folder)
        collector = FeatureExtractor([], 1, False, Silent(), recheck=recheck)
        return seconds(lambda: collector.collect(clips, len(clips), cache / "contents", "clips"))

    def score() -> None:
        score_record(folder, reference, ScoreOptions(("embedded/fvd",), workers=1, out=cache / "score"))

    score()  # from here on all features are there
    times = {"decoding": read(recheck=True), "remembered": read(), "warm": seconds(score)}
    with outright:
        return {**times, "outright": read(), "warm outright": seconds(score)}


def main() -> None:
    """Measure, and print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    stamps.UNSETTLED_NS = 0  # nothing else writes to these files
    sides = [Shapes("test", seed=seed, resolution=64) for seed in (0, 1)]
    with tempfile.TemporaryDirectory() as name:
        os.environ["VDM_BENCH_CACHE"] = str(Path(name, "cache"))
        for form in ("films", "frames", "arrays", "archive"):
            generated, reference = (Path(name, form, side) for side in ("generated", "reference"))
            for place, shapes in zip((generated, reference), sides, strict=True):
                place.parent.mkdir(exist_ok=True)
                write(form, place, [shapes[index] for index in range(chosen.clips)])
            rounds = [measure(generated, reference, Path(name, form, "kept")) for _ in range(chosen.rounds)]
            t = {key: statistics.median(times[key] for times in rounds) for key in rounds[0]}
            sample = (t["remembered"] - t["outright"]) / t["decoding"]
            print(
                f"{form:8} decoding and hashing {1e3 * t['decoding'] / chosen.clips:6.2f} ms a clip; "
                f"sample {sample:6.1%} of it (bound {BOUND:.0%}), asking the file system "
                f"{t['outright'] / t['decoding']:6.1%}; warm score {t['warm']:.2f} s, "
                f"{t['warm'] / t['warm outright']:.2f} x of without the sample"
            )


if __name__ == "__main__":
    main()
