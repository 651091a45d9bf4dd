"""Headers say what decoding gives: number of frames, size and frame rate, for every kind of clip."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vdm_bench.datasets.folder import open_clips
from vdm_bench.errors import BrokenClipError
from vdm_bench.runtime.progress import Silent
from vdm_bench.scoring.headers import ClipHeader, Header, read_headers
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.clip import Clip
from vdm_bench.video.view import View
from vdm_bench.video.write import write_clip

CLIPS = np.random.default_rng(0).integers(0, 256, (3, 9, 32, 48, 3), np.uint8)


def headers(folder: Path, view: View | None = None) -> list[Header]:
    found = read_headers([open_clips(folder, view)], "clips", 2, Silent())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of many kinds, each in a folder."""
    root = tmp_path_factory.mktemp("kinds")
    for kind, rate in (("mp4", 8), ("webm", 25), ("gif", 10)):
        for number, clip in enumerate(CLIPS):
            (root / kind).mkdir(exist_ok=True)
            write_clip(root / kind / f"{number}.{kind}", clip[: 9 - number], fps=rate)
    for number, clip in enumerate(CLIPS):
        (root / "frames" / str(number)).mkdir(parents=True)
        for place, frame in enumerate(clip[: 9 - number]):
            Image.fromarray(frame).save(root / "frames" / str(number) / f"{place}.png")
    (root / "arrays").mkdir()
    np.save(root / "arrays" / "a.npy", CLIPS)
    np.savez(root / "arrays" / "b.npz", clips=CLIPS[:, :4, :16])
    archive = ArchiveWriter(root / "archive", (9, 32, 48))
    archive.write_shard(0, [Clip(clip, str(number)) for number, clip in enumerate(CLIPS)])
    return root


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif", "frames", "arrays", "archive"])
@pytest.mark.parametrize("fps", [None, "stored", 5.0], ids=["own", "stored", "5 fps"])
def test_a_header_says_what_decoding_gives(mixed: Path, kind: str, fps: float | None) -> None:
    clips = open_clips(mixed / kind, View(fps=fps))
    found = headers(mixed / kind, View(fps=fps))
    assert len(found) == len(clips)
    for index, header in enumerate(found):
        assert isinstance(header, ClipHeader)
        if kind == "archive" and fps == 5.0:
            continue  # archives have no frame rate; all of their frames are taken
        clip = clips[index]
        assert (header.frames, *header.size) == clip.frames.shape[:3]
        assert (None if header.fps is None else float(header.fps)) == pytest.approx(clip.fps)


def test_strips_are_measured_as_clips_of_squares(tmp_path: Path) -> None:
    Image.fromarray(np.concatenate(list(CLIPS[0, :5, :, :32]), axis=1)).save(tmp_path / "a.png")
    found = read_headers([open_clips(tmp_path, strips=True)], "strips", 1, Silent())
    assert found == [ClipHeader(str(tmp_path / "a.png"), 5, (32, 32))]


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_length_with_a_stride_is_that_of_the_clip(mixed: Path, stride: int) -> None:
    clips = open_clips(mixed / "mp4", View(stride=stride))
    lengths = [header.length(stride) for header in headers(mixed / "mp4") if isinstance(header, ClipHeader)]
    assert lengths == [len(clips[index].frames) for index in range(len(clips))]


@pytest.mark.parametrize("rate", ["3", "8", "24", "30000/1001"])
def test_frames_at_another_rate_are_never_more_than_there_are(mixed: Path, rate: str) -> None:
    for kind in ("mp4", "webm"):
        clips = open_clips(mixed / kind, View(fps=Fraction(rate)))
        for index, header in enumerate(headers(mixed / kind)):
            assert isinstance(header, ClipHeader)
            there = len(clips[index].frames)
            assert there - 1 <= header.frames_at(Fraction(rate)) <= there


def test_a_clip_that_cannot_be_read_is_an_error_in_its_place(mixed: Path, tmp_path: Path) -> None:
    whole = (mixed / "mp4" / "0.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.mp4").write_bytes(whole)
    broken, whole_clip = headers(tmp_path)
    assert isinstance(broken, BrokenClipError)
    assert isinstance(whole_clip, ClipHeader)


def test_clips_in_memory_have_no_headers(mixed: Path) -> None:
    class Memory:
        identity = None

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Clip:
            raise AssertionError

        def fingerprint(self, index: int) -> None:
            return None

    assert read_headers([open_clips(mixed / "mp4"), Memory()], "clips", 1, Silent()) is None
