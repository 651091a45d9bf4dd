"""Frames that are made smaller as they are read: the same clips, and no whole video in memory."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from peak_memory import peak_memory
from PIL import Image

from vdm_bench.datasets.folder import FolderDataset
from vdm_bench.datasets.video_files import VideoFile, VideoFiles
from vdm_bench.datasets.windows import WindowChoice, WindowedClips
from vdm_bench.video.clip import ClipInfo
from vdm_bench.video.decode import read_video
from vdm_bench.video.view import View
from vdm_bench.video.write import write_clip

Encode = Callable[..., Path]
VIEW = View(40, 1, (16, 16), "antialias", "center-crop")


@pytest.fixture
def video(encode: Encode, textured: NDArray[np.uint8]) -> Path:
    return encode("video.mkv", np.resize(textured, (40, 240, 320, 3)))


def test_frames_made_smaller_one_by_one_are_those_of_the_whole_video(video: Path) -> None:
    frames = VIEW.resized(read_video(video))
    windowed = WindowedClips(VideoFiles([VideoFile(ClipInfo("video"), video)]), WindowChoice(), VIEW)
    assert frames.shape == (40, 16, 16, 3)
    assert np.array_equal(windowed[0].frames, frames)
    assert windowed[0].frames.flags.c_contiguous  # hashing and writing would go over it in jumps
    assert np.array_equal(FolderDataset(video.parent, VIEW)[0].frames, frames)


@dataclass(frozen=True)
class Watchful(View):
    """A view that weighs the large frames that are alive whenever it makes one smaller."""

    seen: list["weakref.ref[NDArray[np.uint8]]"] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)

    def frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.seen.append(weakref.ref(memory_of(frame)))
        arrays = {
            id(array): array.nbytes for array in (reference() for reference in self.seen) if array is not None
        }
        self.alive.append(sum(arrays.values()))
        return super().frame(frame)


def memory_of(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The array that an array is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@pytest.mark.parametrize("kind", ["windows", "folder"])
def test_a_video_is_never_in_memory_as_a_whole(video: Path, kind: str) -> None:
    view = Watchful(40, 1, (16, 16), "antialias", "center-crop")
    videos = VideoFiles([VideoFile(ClipInfo("video"), video)])
    dataset = (
        WindowedClips(videos, WindowChoice(), view) if kind == "windows" else FolderDataset(video.parent, view)
    )
    assert dataset[0].frames.shape == (40, 16, 16, 3)
    assert len(view.alive) == 40
    assert set(view.alive) == {240 * 320 * 3}


@pytest.mark.parametrize("kind", ["video", "animation", "frames"])
def test_frames_between_strides_are_dropped_as_they_are_read(tmp_path: Path, kind: str) -> None:
    """Of 60 frames every 12th is kept: five, and no more than a few on the way."""
    clip = np.random.default_rng(0).integers(0, 256, (60, 30, 40, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    images = [Image.fromarray(frame) for frame in clip]
    if kind == "video":
        write_clip(tmp_path / "video.mp4", clip)
    elif kind == "animation":
        images[0].save(tmp_path / "video.png", save_all=True, append_images=images[1:], duration=40)
    else:
        for number, image in enumerate(images):
            image.save(tmp_path / f"{number}.png")
    dataset = FolderDataset(tmp_path, View(stride=12))
    frames = dataset[0].frames
    assert frames.shape == (5, 240, 320, 3)
    if kind != "video":
        np.testing.assert_array_equal(frames, clip[::12])
    assert peak_memory(lambda: dataset[0].frames) < 16 * 240 * 320 * 3
