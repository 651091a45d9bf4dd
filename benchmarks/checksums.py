"""The cost of checking stored data against their checksums: time with checks / time without, in one run.

    taskset -c 0 python benchmarks/checksums.py [--blocks 200] [--clips 320] [--rounds 15]

Blocks of features are read with the check and without it, from the page cache and from the disk (where the system
drops cached pages on request). Clips of an archive are read and hashed without comparison, and with it.
Then a score is computed again from stored features, with and without checks. The
two ways take turns; each figure is the median of the ratios with both quartiles. Reads from
the page cache are timed in CPU time, as the machine may be busy; reads from the disk in wall-clock time.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from vdm_bench import ScoreOptions, score_record
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.runtime import stamps
from vdm_bench.runtime.checksums import open_arrays, write_arrays
from vdm_bench.scoring.feature_files import BlockHeader, read_features, write_features
from vdm_bench.video.archive import SHARD_CLIPS, Archive, ArchiveWriter, _pixel_file, _read_row
from vdm_bench.video.clip import Clip
from vdm_bench.video.contents import load_clip

BOUND = 1.03
LAYERS = {"embedded": 240, "i3d": 400, "c3d": 4096}


def plain_features(path: Path, name: str) -> NDArray[np.float32]:
    """Read a layer as it was read before there were checksums."""
    with safe_open(path, framework="np") as file:
        values: NDArray[np.float32] = file.get_tensor(name)
    return values


def plain_header(path: Path) -> BlockHeader:
    """Read the header of features without checking it."""
    with safe_open(path, framework="np") as file:
        facts = json.loads(file.metadata()["stored"].split("\n")[2])
        widths = {name: file.get_slice(name).get_shape()[1] for name in file.keys()}  # noqa: SIM118
    return BlockHeader(facts["networks"], facts["digests"], facts["refused"], widths)


def plain_json(path: Path) -> dict[str, object]:
    """Read a JSON object and forget its checksum."""
    return plain_object(path.read_bytes())


def plain_object(data: bytes, *_: object, **__: object) -> dict[str, object]:
    """Parse a JSON object and forget its checksum."""
    content: dict[str, object] = json.loads(data)
    content.pop("checksum", None)
    return content


class Believed(Archive):
    """An archive as it was read before: the caller hashes clips, and nothing is compared."""

    def __getitem__(self, index: int) -> Clip:
        entry = self.entry(index)
        shard, row = divmod(index, SHARD_CLIPS)
        frames = _read_row(_pixel_file(self.folder, shard), row, (*self.shape, 3))
        return Clip(frames, entry.key, entry.label, entry.caption, entry.lossy)


def without_checks() -> contextlib.ExitStack:
    """Switch all checks off that a score makes."""
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch("vdm_bench.scoring.features.read_features", plain_features))
    stack.enter_context(mock.patch("vdm_bench.video.contents.read_json", plain_json))
    stack.enter_context(mock.patch("vdm_bench.scoring.features.read_header", plain_header))
    stack.enter_context(mock.patch("vdm_bench.video.archive.unsealed", plain_object))
    return stack


def drop(paths: Sequence[Path]) -> None:
    """Ask the system to forget what it has cached of files, which are on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time a call."""
    start = clock()
    work()
    return clock() - start


def ratio(
    name: str,
    with_checks: Callable[[], object],
    without: Callable[[], object],
    rounds: int,
    cold: Sequence[Path] = (),
) -> None:
    """Print how much longer the first takes than the second."""
    ratios, base, clock = [], [], time.perf_counter if cold else time.process_time
    for turn in range(rounds + 1):
        times = {}
        for is_checked in (True, False) if turn % 2 else (False, True):
            drop(cold)
            times[is_checked] = seconds(with_checks if is_checked else without, clock)
        if turn:  # the first one warms up
            ratios.append(times[True] / times[False])
            base.append(times[False])
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{name:46} {middle:6.3f} x ({low:.3f} to {high:.3f}; bound {BOUND}), "
        f"without checks {1e3 * statistics.median(base):8.2f} ms"
    )


def of_features(folder: Path, blocks: int, rounds: int) -> None:
    """Read blocks of 64 clips, of networks of several widths, and a whole reference file."""
    rng = np.random.default_rng(0)
    for network, width in LAYERS.items():
        paths = [folder / network / f"{number}.safetensors" for number in range(blocks)]
        for number, path in enumerate(paths):
            digests = [f"{number * 64 + row:064x}" for row in range(64)]
            write_features(path, [network], digests, {"0.x": rng.random((64, width), np.float32)}, {})

        def read(way: Callable[[Path, str], object], paths: Sequence[Path] = paths) -> Callable[[], object]:
            return lambda: [way(path, "0.x") for path in paths]

        for place, cold in (("page cache", list[Path]()), ("disk", paths)):
            name = f"{blocks} blocks of 64 x {width}, from the {place}"
            ratio(name, read(read_features), read(plain_features), rounds, cold)
    path = folder / "reference.safetensors"
    write_arrays(path, {"x": rng.random((64 * blocks, LAYERS["c3d"]), np.float32)}, {})

    def by_rows() -> None:
        with open_arrays(path) as stored:
            for _ in stored.rows("x", 4096):
                pass

    def plain_rows() -> None:
        with safe_open(path, framework="np") as file:
            rows = file.get_slice("x")
            for start in range(0, 64 * blocks, 4096):
                rows[start : min(start + 4096, 64 * blocks)]

    for place, cold in (("page cache", list[Path]()), ("disk", [path])):
        ratio(f"a reference file of {64 * blocks} x {LAYERS['c3d']}, {place}", by_rows, plain_rows, rounds, cold)


def of_clips(folder: Path, clips: int, rounds: int) -> None:
    """Read and hash an archive's clips, and score them again."""
    sides = [folder / name for name in ("generated", "reference")]
    for seed, side in enumerate(sides):
        shapes = Shapes("test", seed=seed, resolution=64)
        ArchiveWriter(side, (16, 64, 64)).append([shapes[index] for index in range(clips)])
    shards = sorted(sides[0].glob("*.npy"))

    checked, believed = Archive(sides[0]), Believed(sides[0])

    def loaded(archive: Archive) -> Callable[[], object]:
        return lambda: [load_clip(archive, index) for index in range(clips)]

    def shown(archive: Archive) -> Callable[[], object]:
        return lambda: [archive[index] for index in range(clips)]

    kinds = (("page cache", list[Path]()), ("disk", shards))
    for place, cold in kinds:
        ratio(f"{clips} clips to be scored, from the {place}", loaded(checked), loaded(believed), rounds, cold)
    for place, cold in kinds:
        ratio(f"{clips} clips to be shown, from the {place}", shown(checked), shown(believed), rounds, cold)

    def score() -> None:
        score_record(sides[0], sides[1], ScoreOptions(("embedded/fvd",), workers=1, out=folder / "out"))

    def unchecked() -> None:
        with without_checks():
            score()

    score()  # from here on all features are there
    ratio(f"a warm score of {clips} and {clips} clips", score, unchecked, rounds)


def main() -> None:
    """Measure, and print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    stamps.UNSETTLED_NS = 0  # nothing else writes to these files
    with tempfile.TemporaryDirectory() as name:
        os.environ["VDM_BENCH_CACHE"] = str(Path(name, "cache"))
        of_features(Path(name, "features"), chosen.blocks, chosen.rounds)
        of_clips(Path(name), chosen.clips, chosen.rounds)


if __name__ == "__main__":
    main()
