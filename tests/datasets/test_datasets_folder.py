from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vdm_bench.datasets.base import Clip
from vdm_bench.datasets.folder import FolderDataset, open_clips
from vdm_bench.datasets.shapes import Shapes
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.view import View
from vdm_bench.video.write import write_clip

CLIPS = np.stack([Shapes("test")[i].frames for i in range(3)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same three clips in every lossless form, and two lossy ones."""
    np.save(tmp_path / "a-all.npy", CLIPS)
    np.savez(tmp_path / "b-all.npz", clips=CLIPS)
    np.save(tmp_path / "c-one.npy", CLIPS[1])
    (tmp_path / "d-frames").mkdir()
    for number, frame in enumerate(CLIPS[2]):
        Image.fromarray(frame).save(tmp_path / "d-frames" / f"frame{number}.png")
    (tmp_path / "d-frames" / ".thumbnail.jpg").write_bytes(b"no frame")
    write_clip(tmp_path / "e-deep.mp4", CLIPS[0])
    (tmp_path / "f" / "g").mkdir(parents=True)
    write_clip(tmp_path / "f" / "g" / "deeper.gif", CLIPS[0])
    (tmp_path / "notes.txt").write_text("no clip")
    (tmp_path / ".hidden.mp4").write_text("no clip")
    return tmp_path


def test_every_form_is_found_in_the_order_of_the_names(folder: Path) -> None:
    dataset = FolderDataset(folder)
    clips = [dataset[i] for i in range(len(dataset))]
    assert [clip.key for clip in clips] == [
        *[f"a-all.npy#{i}" for i in range(3)],
        *[f"b-all.npz#{i}" for i in range(3)],
        "c-one.npy",
        "d-frames",
        "e-deep.mp4",
        "f/g/deeper.gif",
    ]
    assert [clip.lossy for clip in clips] == [False] * 8 + [True] * 2
    expected = [*CLIPS, *CLIPS, CLIPS[1], CLIPS[2]]
    assert all(np.array_equal(clip.frames, frames) for clip, frames in zip(clips, expected, strict=False))
    assert np.abs(clips[9].frames.astype(int) - CLIPS[0]).mean() < 3
    assert [path.name for path in dataset.ignored] == ["notes.txt"]


def test_a_view_takes_the_same_frames_of_every_form(folder: Path) -> None:
    dataset = FolderDataset(folder, View(frames=3, stride=5))
    clips = [dataset[i] for i in range(len(dataset))]
    assert all(clip.frames.shape == (3, 32, 32, 3) for clip in clips)
    assert all(np.array_equal(clips[i].frames, CLIPS[i, [0, 5, 10]]) for i in range(3))
    assert np.array_equal(clips[7].frames, CLIPS[2, [0, 5, 10]])
    whole = FolderDataset(folder)[8].frames
    assert np.array_equal(clips[8].frames, whole[[0, 5, 10]])


def test_all_frames_at_a_stride(folder: Path) -> None:
    dataset = FolderDataset(folder, View(stride=4))
    assert all(dataset[i].frames.shape[0] == 4 for i in range(len(dataset)))


def test_a_clip_that_is_too_short_is_broken_in_every_form(folder: Path) -> None:
    dataset = FolderDataset(folder, View(frames=17))
    for index in range(len(dataset)):
        with pytest.raises(BrokenClipError, match=r"has 16 frames, 17 are needed"):
            dataset[index]


def test_strips_are_clips_where_the_user_says_so(tmp_path: Path) -> None:
    for number, clip in enumerate(CLIPS):
        Image.fromarray(np.concatenate(list(clip), axis=1)).save(tmp_path / f"{number}.png")
    dataset = FolderDataset(tmp_path, strips=True)
    assert all(np.array_equal(dataset[i].frames, CLIPS[i]) for i in range(3))
    assert len(FolderDataset(tmp_path)) == 1


@pytest.mark.usefixtures("settled")
def test_archives_and_run_folders_are_opened_as_such(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path / "run" / "samples", (16, 32, 32))
    writer.append([Clip(frames, str(i), lossy=i == 1) for i, frames in enumerate(CLIPS)])
    for path in (tmp_path / "run", tmp_path / "run" / "samples"):
        found = open_clips(path, View(frames=4))
        assert [np.array_equal(found[i].frames, CLIPS[i, :4]) for i in range(len(found))] == [True] * 3
        assert [found[i].lossy for i in range(3)] == [False, True, False]
        assert found.fingerprint(0) != open_clips(path).fingerprint(0)


@pytest.mark.usefixtures("settled")
def test_a_changed_file_has_another_fingerprint(folder: Path) -> None:
    before = [FolderDataset(folder).fingerprint(i) for i in range(10)]
    assert len(set(before)) == 10
    write_clip(folder / "e-deep.mp4", CLIPS[1])
    Image.fromarray(CLIPS[0, 0]).resize((31, 31)).save(folder / "d-frames" / "frame3.png")
    after = [FolderDataset(folder).fingerprint(i) for i in range(10)]
    assert [index for index in range(10) if before[index] != after[index]] == [7, 8]
    assert FolderDataset(folder, View(frames=3)).fingerprint(0) != before[0]


def test_broken_files_are_found_when_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "b.npy").write_bytes(b"\x93NUMPY broken")
    np.save(tmp_path / "c.npy", CLIPS[0].astype(np.float32))
    dataset = FolderDataset(tmp_path)
    assert len(dataset) == 3
    for index, name in enumerate(("a.mp4", "b.npy", "c.npy")):
        with pytest.raises(BrokenClipError) as caught:
            dataset[index]
        assert caught.value.source.endswith(name)


def test_a_missing_an_empty_and_a_strange_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    ArchiveWriter(tmp_path / "archive", (16, 32, 32))
    for name, words in [
        ("missing", "does not exist"),
        ("empty", "holds no clips"),
        ("notes.txt", "is no video"),
        ("archive", "without clips"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            open_clips(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_real_strips(shared_data: Path) -> None:
    dataset = open_clips(shared_data / "weizmann_strips" / "data" / "actions", View(frames=16), strips=True)
    assert len(dataset) == 36
    assert all(dataset[i].frames.shape == (16, 64, 64, 3) and not dataset[i].lossy for i in range(36))
