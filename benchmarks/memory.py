"""Peak memory of scoring 400 and 25,600 generated clips of 16x32x32.

    python benchmarks/memory.py                    # a folder of files
    python benchmarks/memory.py --form archive     # a clip archive, 1.3 GB

Each number is scored by a process of its own, with the embedded network, against 1,024 reference clips; the
figure is the largest resident set of the process. The files of the folder are names of 256 clips, each a file of
its own to the suite. Two minutes on two idle cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.video.archive import SHARD_CLIPS, ArchiveWriter

COUNTS = (400, 25_600)
BOUND = 50.0  # MB that the larger number may take more
FILES = 256

SCORE = """
import resource, sys
from vdm_bench import ScoreOptions, compare
compare(sys.argv[1], sys.argv[2], ScoreOptions(metrics=("embedded/fvd", "embedded/is")))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_archive(folder: Path, seed: int, count: int) -> None:
    """Write `count` clips of shapes as an archive."""
    clips, writer = Shapes("test", seed=seed), ArchiveWriter(folder, (16, 32, 32))
    for shard, start in enumerate(range(0, count, SHARD_CLIPS)):
        writer.write_shard(shard, [clips[i] for i in range(start, min(start + SHARD_CLIPS, count))])


def write_files(folder: Path, seed: int, count: int) -> None:
    """Write `count` names of files with clips of shapes."""
    folder.mkdir()
    clips = Shapes("test", seed=seed)
    for number in range(count):
        path = folder / f"{number:06}.npy"
        if number < FILES:
            np.save(path, clips[number].frames)
        else:
            os.link(folder / f"{number % FILES:06}.npy", path)


def peak(generated: Path, reference: Path) -> float:
    """Return the peak of a scoring process in MB."""
    command = [sys.executable, "-c", SCORE, str(generated), str(reference)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout) / 1024


def main() -> None:
    """Write the clips, score them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=("folder", "archive"), default="folder")
    write = {"folder": write_files, "archive": write_archive}[parser.parse_args().form]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_archive(folder / "reference", 0, 1024)
        peaks = []
        for count in COUNTS:
            write(folder / str(count), 1, count)
            peaks.append(peak(folder / str(count), folder / "reference"))
            print(f"{count:>6,} clips: {peaks[-1]:.0f} MB", flush=True)
    print(f"difference: {peaks[1] - peaks[0]:.0f} MB (bound: {BOUND:.0f})")


if __name__ == "__main__":
    main()
