"""Videos for people: they play in browsers, keep their colours and frames, and are written whole or not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.video import write as write_module
from vdm_bench.video.decode import probe, read_video
from vdm_bench.video.images import read_strip
from vdm_bench.video.write import write_clip

Clip = NDArray[np.uint8]
SUFFIXES = [".mp4", ".webm", ".gif"]


def error_of(shown: Clip, clip: Clip) -> NDArray[np.int16]:
    return shown.astype(np.int16) - clip


@pytest.fixture
def smooth() -> Clip:
    """Colours that change gradually in space and time, uint8 [12, 32, 48, 3]."""
    t, y, x = np.meshgrid(np.arange(12), np.arange(32), np.arange(48), indexing="ij")
    return np.stack([3 * x + 6 * t, 4 * y + 10 * t, 200 - 2 * x - 2 * y + 4 * t], axis=-1).astype(np.uint8)


# Mean absolute error of 0 to 255: what halved colour and 256 colours cost on videos of 8-bit noise and edges.
@pytest.mark.parametrize(("suffix", "bound"), [(".mp4", 2.0), (".webm", 2.0), (".gif", 3.2)])
def test_a_real_video_comes_back(shared_data: Path, tmp_path: Path, suffix: str, bound: float) -> None:
    clip = read_video(shared_data / "mmaction2/demo/test_video_structuralize.mp4", range(16))
    path = tmp_path / f"clip{suffix}"
    write_clip(path, clip)
    shown = read_video(path)
    assert shown.shape == clip.shape
    difference = error_of(shown, clip)
    assert np.abs(difference).mean() < bound
    # The fast path of FFmpeg's 4:2:0 decoder rounds down: about 1 of each channel is its own.
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 1.6


@pytest.mark.parametrize(("suffix", "bound"), [(".mp4", 2.5), (".webm", 3.0), (".gif", 1.2)])
def test_a_small_video_comes_back(shared_data: Path, tmp_path: Path, suffix: str, bound: float) -> None:
    clip = read_strip(shared_data / "weizmann_strips/data/actions/0/00000002.jpg")[:16]
    write_clip(tmp_path / f"clip{suffix}", clip)
    assert np.abs(error_of(read_video(tmp_path / f"clip{suffix}"), clip)).mean() < bound


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_frame_stays_at_its_place(tmp_path: Path, smooth: Clip, suffix: str) -> None:
    write_clip(tmp_path / f"clip{suffix}", smooth)
    shown = read_video(tmp_path / f"clip{suffix}")
    distances = np.abs(shown[:, None].astype(np.int16) - smooth[None]).mean(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == np.arange(12)).all()
    assert np.abs(error_of(shown, smooth)).mean() < 3


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pure_colours_are_not_shifted(tmp_path: Path, suffix: str) -> None:
    """Written with the matrix of BT.601 and read with BT.709, red gains 23 of green and green loses 40."""
    colours = np.array(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 120, 40]], np.uint8
    )
    clip = np.broadcast_to(colours[:, None, None], (6, 32, 32, 3))
    write_clip(tmp_path / f"clip{suffix}", clip)
    assert np.abs(error_of(read_video(tmp_path / f"clip{suffix}"), clip)).max() <= 3


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
def test_videos_are_tagged_so_that_browsers_show_these_colours(
    tmp_path: Path, smooth: Clip, suffix: str, codec: str
) -> None:
    path = tmp_path / f"clip{suffix}"
    write_clip(path, smooth)
    info = probe(path)
    assert (info.codec, info.pixel_format) == (codec, "yuv420p")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    tags = frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range
    assert tags == (1, 1, 1, 1)  # BT.709, limited range


def test_mp4_begins_with_its_index(tmp_path: Path, smooth: Clip) -> None:
    write_clip(tmp_path / "clip.mp4", smooth)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_gif_repeats_for_ever(tmp_path: Path, smooth: Clip) -> None:
    write_clip(tmp_path / "clip.gif", smooth)
    assert b"NETSCAPE2.0\x03\x01\x00\x00\x00" in (tmp_path / "clip.gif").read_bytes()


def test_gif_of_few_colours_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (5, 250, 3), dtype=np.uint8)[:, rng.integers(0, 250, (40, 40))]
    write_clip(tmp_path / "clip.gif", clip)
    assert np.abs(error_of(read_video(tmp_path / "clip.gif"), clip)).max() <= 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_video_that_stands_still_keeps_its_frames(tmp_path: Path, suffix: str) -> None:
    clip = np.full((16, 32, 32, 3), 77, np.uint8)
    write_clip(tmp_path / f"clip{suffix}", clip)
    shown = read_video(tmp_path / f"clip{suffix}")
    assert shown.shape == clip.shape
    assert np.abs(error_of(shown, clip)).max() <= 1


@pytest.mark.parametrize(("suffix", "runs"), [(".mp4", 60), (".webm", 4), (".gif", 4)])
def test_the_same_clip_gives_the_same_bytes(tmp_path: Path, textured: Clip, suffix: str, runs: int) -> None:
    contents = set()
    for run in range(runs):
        write_clip(tmp_path / f"{run}{suffix}", textured)
        contents.add((tmp_path / f"{run}{suffix}").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_odd_sizes_repeat_the_last_row_and_column(tmp_path: Path, smooth: Clip, suffix: str) -> None:
    clip = smooth[:, :31, :47]
    write_clip(tmp_path / f"clip{suffix}", clip)
    shown = read_video(tmp_path / f"clip{suffix}")
    assert shown.shape == (12, 32, 48, 3)
    repeated = clip[:, np.minimum(np.arange(32), 30)][:, :, np.minimum(np.arange(48), 46)]
    assert np.abs(error_of(shown, repeated))[:, -1].mean() < 4
    assert np.abs(error_of(shown, repeated))[:, :, -1].mean() < 4


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 70, 3), (3, 5, 7, 3)])
def test_gif_keeps_odd_sizes_and_others_fit_the_smallest(tmp_path: Path, shape: tuple[int, ...]) -> None:
    clip = np.zeros(shape, np.uint8)
    write_clip(tmp_path / "clip.gif", clip)
    assert read_video(tmp_path / "clip.gif").shape == shape
    even = (shape[0], shape[1] + 1, shape[2] + shape[2] % 2, 3)
    for suffix in (".mp4", ".webm"):
        write_clip(tmp_path / f"clip{suffix}", clip)
        assert read_video(tmp_path / f"clip{suffix}").shape == even


@pytest.mark.parametrize("fps", [8, 25, 30_000 / 1001, 0.5])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_rate_is_kept(tmp_path: Path, smooth: Clip, suffix: str, fps: float) -> None:
    write_clip(tmp_path / f"clip{suffix}", smooth, fps=fps)
    assert probe(tmp_path / f"clip{suffix}").fps == pytest.approx(fps, rel=1e-3)


def test_gif_takes_the_time_of_its_frames(tmp_path: Path, smooth: Clip) -> None:
    write_clip(tmp_path / "clip.gif", smooth, fps=8)
    assert probe(tmp_path / "clip.gif").duration == pytest.approx(12 / 8, abs=0.011)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_views_of_arrays_are_taken(tmp_path: Path, smooth: Clip, suffix: str) -> None:
    view = smooth[:, ::-1, ::2]
    view.setflags(write=False)
    write_clip(tmp_path / f"view{suffix}", view)
    write_clip(tmp_path / f"copy{suffix.upper()}", view.copy())
    assert (tmp_path / f"view{suffix}").read_bytes() == (tmp_path / f"copy{suffix.upper()}").read_bytes()


def test_a_video_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, smooth: Clip) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, smooth)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"cannot write .*clip\.mp4"):
        write_clip(path, np.zeros((1, 2, 40_000, 3), np.uint8))  # wider than H.264 can be
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupted_run_leaves_the_old_video(
    tmp_path: Path, textured: Clip, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"clip{suffix}"
    write_clip(path, textured[:3])
    before = path.read_bytes()
    converted = write_module._converted

    def interrupted(*arguments: Any) -> Iterator[VideoFrame]:
        yield from converted(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(write_module, "_converted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_clip(path, textured)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "clip", "words"),
    [
        ("clip.avi", np.zeros((1, 2, 2, 3), np.uint8), r"clips are written as \.mp4, \.webm, \.gif"),
        ("clip", np.zeros((1, 2, 2, 3), np.uint8), "clips are written as"),
        ("clip.mp4", np.zeros((1, 2, 2, 3), np.float32), r"not float32 \[1, 2, 2, 3\]"),
        ("clip.mp4", np.zeros((2, 2, 3), np.uint8), r"not uint8 \[2, 2, 3\]"),
        ("clip.mp4", np.zeros((1, 2, 2, 4), np.uint8), r"not uint8 \[1, 2, 2, 4\]"),
        ("clip.mp4", np.zeros((0, 2, 2, 3), np.uint8), r"not uint8 \[0, 2, 2, 3\]"),
    ],
)
def test_what_is_no_clip_is_refused(tmp_path: Path, name: str, clip: Clip, words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_clip(tmp_path / name, clip)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e-9, 1e300])
def test_rates_that_are_not_possible(tmp_path: Path, smooth: Clip, fps: float) -> None:
    with pytest.raises(InputError, match="frames per second are not possible"):
        write_clip(tmp_path / "clip.mp4", smooth, fps=fps)
