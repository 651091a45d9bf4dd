"""Which clips are cut out of videos."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vdm_bench.datasets.folder import VIDEO_SUFFIXES
from vdm_bench.datasets.windows import VideoSet, WindowChoice, WindowedClips
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.clip import ClipInfo, DescribedClips
from vdm_bench.video.decode import count_frames, read_video
from vdm_bench.video.view import FrameTransform, View, unchanged


class Numbered(VideoSet):
    """Videos whose pixels name the video and the frame."""

    def __init__(self, lengths: Sequence[int], *, without: int | None = None) -> None:
        self.videos = [(number, length) for number, length in enumerate(lengths) if number != without]

    def __len__(self) -> int:
        return len(self.videos)

    def info(self, index: int) -> ClipInfo:
        return ClipInfo(f"video{self.videos[index][0]}", label=index % 3, caption=f"number {index}")

    def length(self, index: int) -> int:
        return self.videos[index][1]

    def read(
        self, index: int, frames: Sequence[int], transform: FrameTransform = unchanged
    ) -> tuple[NDArray[np.uint8], bool]:
        number, length = self.videos[index]
        assert max(frames) < length
        values = np.array([[frame, number % 256, 0] for frame in frames], np.uint8)
        return np.stack([transform(picture) for picture in np.tile(values[:, None, None], (1, 4, 4, 1))]), True

    def fingerprint(self, index: int) -> str:
        return f"numbered {self.videos[index]}"


def starts(dataset: WindowedClips) -> list[tuple[str, int]]:
    clips = [dataset[index] for index in range(len(dataset))]
    return [(clip.key.partition("@")[0], int(clip.frames[0, 0, 0, 0])) for clip in clips]


def test_a_window_has_consecutive_frames_or_every_nth() -> None:
    assert isinstance(Numbered([20]), VideoSet)
    dataset = WindowedClips(Numbered([20, 31]), WindowChoice("first"), View(frames=4, stride=3))
    assert isinstance(dataset, DescribedClips)
    clip = dataset[1]
    assert clip.frames[:, 0, 0].tolist() == [[0, 1, 0], [3, 1, 0], [6, 1, 0], [9, 1, 0]]
    assert (clip.key, clip.label, clip.caption, clip.lossy) == ("video1", 1, "number 1", True)
    sized = View(frames=4, size=(2, 2), rule="antialias")
    assert WindowedClips(Numbered([20]), WindowChoice("first"), sized)[0].frames.shape == (4, 2, 2, 3)


def test_every_window_of_every_video_comes_once() -> None:
    dataset = WindowedClips(Numbered([5, 3, 4]), WindowChoice("every"), View(frames=4))
    assert starts(dataset) == [("video0", 0), ("video0", 1), ("video2", 0)]


def test_each_round_of_random_windows_takes_every_video_once() -> None:
    dataset = WindowedClips(Numbered([20] * 7), WindowChoice("random", per_video=3), View(frames=16))
    names = [name for name, _ in starts(dataset)]
    rounds = [names[:7], names[7:14], names[14:]]
    assert all(sorted(one) == [f"video{number}" for number in range(7)] for one in rounds)
    assert len({tuple(one) for one in rounds}) == 3


def test_random_windows_are_everywhere_the_same() -> None:
    """Recorded once: they hang on a hash alone, and not on the version of NumPy as its generators do."""
    dataset = WindowedClips(Numbered([20, 30, 40, 50]), WindowChoice("random", seed=5), View(frames=16))
    recorded = [("video2", 9), ("video3", 34), ("video0", 3), ("video1", 10)]
    assert starts(dataset) == recorded
    again = WindowedClips(Numbered([20, 30, 40, 50]), WindowChoice("random", seed=6), View(frames=16))
    assert starts(again) != recorded


def test_a_missing_video_moves_no_other() -> None:
    choice, view = WindowChoice("random", per_video=2, seed=1), View(frames=16)
    whole = starts(WindowedClips(Numbered([40] * 9), choice, view))
    part = starts(WindowedClips(Numbered([40] * 9, without=4), choice, view))
    assert part == [clip for clip in whole if clip[0] != "video4"]


def test_random_windows_begin_anywhere_alike() -> None:
    dataset = WindowedClips(Numbered([25] * 4000), WindowChoice("random"), View(frames=16))
    counts = Counter(first for _, first in starts(dataset))
    assert sorted(counts) == list(range(10))
    # 400 each, with a standard deviation of 19.
    assert max(abs(count - 400) for count in counts.values()) < 5 * 19


def test_with_replacement_some_videos_come_twice_and_some_never() -> None:
    dataset = WindowedClips(Numbered([17] * 3000), WindowChoice("random", replacement=True), View(frames=16))
    found = Counter(name for name, _ in starts(dataset))
    assert len(dataset) == 3000
    # 1 - 1/e of them come at all: 1896, with a standard deviation of 17.
    assert abs(len(found) - 1896) < 5 * 17
    assert WindowedClips(Numbered([17] * 5), WindowChoice("random", replacement=True, seed=1), View(frames=16))


def test_a_window_may_be_cut_into_three_squares() -> None:
    """Of a picture whose columns are numbered: the squares at the two ends and in the middle."""

    class Wide(Numbered):
        def read(
            self, index: int, frames: Sequence[int], transform: FrameTransform = unchanged
        ) -> tuple[NDArray[np.uint8], bool]:
            wide = np.broadcast_to(np.arange(10, dtype=np.uint8)[None, :, None], (4, 10, 3))
            return np.stack([transform(wide.swapaxes(0, 1) if index else wide) for _ in frames]), False

    dataset = WindowedClips(Wide([4, 4]), WindowChoice("first", crops=3), View(frames=2))
    clips = [dataset[index] for index in range(len(dataset))]
    assert [clip.key for clip in clips] == [f"video{number}#{crop}" for number in (0, 1) for crop in range(3)]
    assert [clip.frames[0, 0, :, 0].tolist() for clip in clips[:3]] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert [clip.frames[0, :, 0, 0].tolist() for clip in clips[3:]] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert len({dataset.fingerprint(index) for index in range(6)}) == 6
    assert dataset.info(4).key == "video1"


def test_a_short_video_is_a_broken_clip() -> None:
    dataset = WindowedClips(Numbered([15]), WindowChoice("random"), View(frames=16))
    with pytest.raises(BrokenClipError, match="video0: has 15 frames, 16 are needed"):
        dataset[0]


def test_the_fingerprint_tells_windows_apart() -> None:
    videos, view = Numbered([40, 40]), View(frames=16)
    choices = [
        WindowChoice("first"),
        WindowChoice("every"),
        WindowChoice("random"),
        WindowChoice("random", seed=1),
        WindowChoice("random", replacement=True),
    ]
    datasets = [WindowedClips(videos, choice, view) for choice in choices]
    prints = [dataset.fingerprint(index) for dataset in datasets for index in range(2)]
    same_window = datasets[0].fingerprint(0) == datasets[1].fingerprint(0)
    assert same_window
    assert len(set(prints)) >= len(prints) - 2
    assert datasets[0].fingerprint(0) != WindowedClips(videos, choices[0], View(frames=17)).fingerprint(0)


def test_choices_that_mean_nothing_are_refused() -> None:
    with pytest.raises(
        InputError, match="several windows of a video, or replacement, need random windows, not first"
    ):
        WindowChoice("first", per_video=2)
    with pytest.raises(InputError, match="0 windows of a video; there must be at least 1"):
        WindowChoice("random", per_video=0)
    with pytest.raises(InputError, match="there are no videos"):
        WindowedClips(Numbered([]), WindowChoice(), View(frames=4))
    with pytest.raises(InputError, match="windows need a number of frames"):
        WindowedClips(Numbered([5]), WindowChoice(), View())
    with pytest.raises(InputError, match="at their own rates"):
        WindowedClips(Numbered([5]), WindowChoice(), View(frames=4, fps=8))


def test_frames_of_real_videos_are_counted_without_decoding(shared_data: Path) -> None:
    counted = 0
    for path in sorted(shared_data.rglob("*")):
        if path.suffix.lower() not in VIDEO_SUFFIXES or path.stat().st_size > 400_000:
            continue
        try:
            frames = len(read_video(path))
        except BrokenClipError:
            continue
        assert count_frames(path) == frames, path
        counted += 1
    assert counted >= 15
