"""How much of PyAV's decoding rate `vdm-bench data prepare` reaches on the same videos.

    python benchmarks/prepare.py FOLDER      # a folder of videos; those with fewer than 16 frames are skipped

All decode the first frames of each video, several videos at a time, a thread each. PyAV alone throws the pictures
away; once more, it makes RGB arrays of them, which is the least that any use of them takes. `data prepare` also
checks the file to its end, resizes, hashes, and writes the clips. The order is by turns, and the best of each
counts: machines are shared.
"""

import argparse
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

import av

from vdm_bench.datasets.folder import VIDEO_SUFFIXES
from vdm_bench.datasets.video_folder import FolderVideos
from vdm_bench.errors import BrokenClipError
from vdm_bench.protocols import ClipChoice, Protocol
from vdm_bench.protocols.prepare import prepare
from vdm_bench.runtime.progress import Silent
from vdm_bench.runtime.threads import ordered_map


def main() -> None:
    """Print the two rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=16, help="of each video")
    parser.add_argument("--size", type=int, default=64, help="height and width of the clips")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--copies", type=int, default=4, help="each video counts so many times")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    videos = list(readable_videos(arguments.folder, arguments.frames)) * arguments.copies
    bare, rgb, ours = [], [], []
    for _ in range(arguments.turns):
        bare.append(seconds_bare(videos, arguments.frames, arguments.workers, rgb=False))
        rgb.append(seconds_bare(videos, arguments.frames, arguments.workers, rgb=True))
        ours.append(seconds_prepare(videos, arguments.frames, arguments.size, arguments.workers))
    frames = len(videos) * arguments.frames
    print(f"{len(videos)} videos, {arguments.frames} frames each, {arguments.workers} threads")
    print(f"PyAV alone    {frames / min(bare):8.0f} frames/s")
    print(f"PyAV to RGB   {frames / min(rgb):8.0f} frames/s, {min(bare) / min(rgb):.0%} of it")
    print(f"data prepare  {frames / min(ours):8.0f} frames/s, {min(bare) / min(ours):.0%}")


def readable_videos(folder: Path, frames: int) -> list[Path]:
    """Return the videos below a folder that are intact and long enough."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    found = []
    for path in paths:
        try:
            FolderVideos(path).read(0, range(frames))
        except BrokenClipError:
            continue
        found.append(path)
    return found


def seconds_bare(videos: list[Path], frames: int, workers: int, *, rgb: bool) -> float:
    """Decode by PyAV alone, to arrays in RGB or to nothing."""

    def decode(path: Path) -> int:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            decoded = islice(container.decode(stream), frames)
            if rgb:
                return len([frame.to_ndarray(format="rgb24", threads=1) for frame in decoded])
            return sum(1 for _ in decoded)

    start = time.perf_counter()
    if sum(ordered_map(decode, videos, workers)) != len(videos) * frames:
        raise SystemExit("PyAV decoded another number of frames")
    return time.perf_counter() - start


def seconds_prepare(videos: list[Path], frames: int, size: int, workers: int) -> float:
    """Prepare the same videos as the clips of a protocol."""
    choice = ClipChoice(split="videos", seed=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "videos"
        folder.mkdir()
        for number, path in enumerate(videos):
            (folder / f"{number:05}{path.suffix}").symlink_to(path.resolve())
        protocol = Protocol(
            name="videos",
            title="videos",
            task="unconditional",
            dataset="folder",
            frames=frames,
            context_frames=0,
            resolution=size,
            resize="antialias",
            aspect="center-crop",
            reference=choice,
            reference_count=len(videos),
            conditions=choice,
            generated_count=len(videos),
            metrics=("fvd",),
        )
        start = time.perf_counter()
        (made,) = prepare(
            protocol, Path(name), Path(name) / "made", workers=workers, skip_broken=False, reporter=Silent()
        )
        seconds = time.perf_counter() - start
        if made.clips != len(videos):
            raise SystemExit(f"{made.clips} of {len(videos)} clips were prepared")
        return seconds


if __name__ == "__main__":
    main()
