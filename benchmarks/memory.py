"""Peak memory of scoring 1,000 and 20,000 generated clips of 16x32x32.

    python benchmarks/memory.py

Each size is scored by a process of its own, from a clip archive against 1,024 reference clips; the figure is
the largest resident set of the process. About two minutes and 1.1 GB of disk.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from vdm_bench.datasets.shapes import Shapes
from vdm_bench.video.archive import SHARD_CLIPS, ArchiveWriter

SCORE = """
import resource, sys
from vdm_bench import ScoreOptions, compare
compare(sys.argv[1], sys.argv[2], ScoreOptions(workers=2))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write(folder: Path, seed: int, count: int) -> None:
    """Write `count` clips of shapes as an archive."""
    clips, writer = Shapes("test", seed=seed), ArchiveWriter(folder, (16, 32, 32))
    for shard, start in enumerate(range(0, count, SHARD_CLIPS)):
        writer.write_shard(shard, [clips[i] for i in range(start, min(start + SHARD_CLIPS, count))])


def peak(generated: Path, reference: Path) -> float:
    """Give the peak of a scoring process in MB."""
    command = [sys.executable, "-c", SCORE, str(generated), str(reference)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


def main() -> None:
    """Write the clips, score them and print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "reference", 0, 1024)
        peaks = []
        for count in (1000, 20000):
            write(folder / str(count), 1, count)
            peaks.append(peak(folder / str(count), folder / "reference"))
            print(f"{count:>6} clips: {peaks[-1]:.0f} MB")
        print(f"difference: {peaks[1] - peaks[0]:.0f} MB (bound: 300)")
    print(f"(this script itself: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB)")


if __name__ == "__main__":
    main()
