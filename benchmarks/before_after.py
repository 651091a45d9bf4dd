"""What a change costs: reading, scoring and the demo of this checkout and of another revision, as ratios.

    python benchmarks/before_after.py REVISION [--rounds 5] [--skip-demo]

Both work on the same clips, in turns, each time in a new process with a cache of its own; the ratio is the median
over rounds of this checkout's time divided by the other's in the same round, printed with the smallest and the
largest ratio: a shared machine slows both. Times are CPU times of all threads and children. About ten minutes.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.write import write_clip

ROOT = Path(__file__).resolve().parents[1]
CLIPS = 512
FRAMES, SIDE = 16, 64

READ = """
import sys, time
from pathlib import Path
from vdm_bench.datasets.folder import open_clips
try:
    from vdm_bench.video.contents import load_clip
except ImportError:  # an earlier revision
    from vdm_bench.contents import load_clip
start = time.process_time()
clips = open_clips(Path(sys.argv[1]))
for index in range(len(clips)):
    load_clip(clips, index)
print(time.process_time() - start)
"""
SCORE = ("score", "{clips}/archive", "--reference", "{clips}/arrays", "--metric", "embedded/fvd")
VIEW = ("--size", "32x32", "--resize", "antialias", "--workers", "1", "--out", "{scratch}/scored")


def write_clips(folder: Path) -> None:
    """Write the same clips as videos, as arrays and as a clip archive."""
    clips = [Shapes("test", resolution=SIDE, frames=FRAMES)[index] for index in range(CLIPS)]
    (folder / "arrays").mkdir()
    for number, clip in enumerate(clips):
        np.save(folder / "arrays" / f"{number:05}.npy", clip.frames)
    for number, clip in enumerate(clips[: CLIPS // 8]):
        write_clip(folder / "videos" / f"{number:05}.mp4", clip.frames)
    ArchiveWriter(folder / "archive", (FRAMES, SIDE, SIDE)).append(clips)


def environment(checkout: Path, scratch: Path) -> Mapping[str, str]:
    """Have Python import the package of a checkout."""
    return {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "VDM_BENCH_CACHE": str(scratch / "cache"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def reading(form: str, clips: Path) -> Callable[[Path], float]:
    """Time the reading and hashing of all clips, without what Python needs to start."""

    def timed(checkout: Path) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run(
                [sys.executable, "-c", READ, str(clips / form)],
                env=environment(checkout, Path(scratch)),
                cwd=scratch,
                capture_output=True,
                text=True,
                check=True,
            )
        return float(done.stdout)

    return timed


def commands(clips: Path, *lines: tuple[str, ...], timed_from: int = 0) -> Callable[[Path], float]:
    """Time command lines one after the other; those before `timed_from` make what the others need."""

    def timed(checkout: Path) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            before = 0.0
            for number, line in enumerate(lines):
                if number == timed_from:
                    before = of_children()
                words = [word.format(clips=clips, scratch=scratch) for word in line]
                subprocess.run(
                    [sys.executable, "-m", "vdm_bench", *words],
                    env=environment(checkout, Path(scratch)),
                    cwd=scratch,
                    capture_output=True,
                    check=True,
                )
            return of_children() - before

    return timed


def of_children() -> float:
    """Return the processor's time of all processes that were waited for, in seconds."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def works(clips: Path, *, with_demo: bool) -> dict[str, Callable[[Path], float]]:
    """Name what is timed."""
    score = (*SCORE, *VIEW)
    found = {
        f"reading {CLIPS} clips of an archive": reading("archive", clips),
        f"reading {CLIPS} arrays": reading("arrays", clips),
        f"reading {CLIPS // 8} videos": reading("videos", clips),
        f"scoring {CLIPS} clips": commands(clips, score),
        "scoring them again, from what is kept": commands(clips, score, score, timed_from=1),
    }
    return found | ({"the demo": commands(clips, ("demo",))} if with_demo else {})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="the other revision, as git names it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-demo", action="store_true", help="which takes a minute each time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        other, clips = Path(scratch, "other"), Path(scratch, "clips")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(other), given.revision], check=True, capture_output=True)
        try:
            clips.mkdir()
            write_clips(clips)
            print(f"| what | {given.revision}, s | now, s | ratio | least to largest |")
            print("| --- | ---: | ---: | ---: | --- |")
            for name, work in works(clips, with_demo=not given.skip_demo).items():
                print(row(name, [(work(other), work(ROOT)) for _ in range(given.rounds)]), flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)


def row(name: str, times: list[tuple[float, float]]) -> str:
    """Sum up the rounds of one work as a row of the table."""
    before, after = (statistics.median(each) for each in zip(*times, strict=True))
    ratios = sorted(now / then for then, now in times)
    spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
    return f"| {name} | {before:.2f} | {after:.2f} | {statistics.median(ratios):.3f} | {spread} |"


if __name__ == "__main__":
    main()
