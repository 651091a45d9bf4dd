from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vdm_bench.datasets.folder import FolderDataset, open_clips
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.datasets.video_folder import FolderVideos
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.clip import Clip
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
        assert list(found.notes) == []


@pytest.mark.parametrize(
    ("plan", "notes"), [('{"clips": 64}', 1), ('{"clips": 3}', 0), ('{"clips": "64"}', 0), ("{", 0), ("[]", 0)]
)
def test_a_run_that_holds_too_few_clips_says_so(plan: str, notes: int, tmp_path: Path) -> None:
    ArchiveWriter(tmp_path / "samples", (16, 32, 32)).append([Clip(frames, "a") for frames in CLIPS])
    (tmp_path / "plan.json").write_text(plan)
    found = list(open_clips(tmp_path).notes)
    assert found == [f"{tmp_path} holds 3 of the 64 clips of its run; the same `run` makes the others"] * notes
    assert list(open_clips(tmp_path / "samples").notes) == []


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
        ("notes.txt", "is not a video"),
        ("archive", "without clips"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            open_clips(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_real_strips(shared_data: Path) -> None:
    dataset = open_clips(shared_data / "weizmann_strips" / "data" / "actions", View(frames=16), strips=True)
    assert len(dataset) == 36
    assert all(dataset[i].frames.shape == (16, 64, 64, 3) and not dataset[i].lossy for i in range(36))


def animate(path: Path, clip: NDArray[np.uint8], **options: object) -> None:
    first, *rest = [Image.fromarray(frame) for frame in clip]
    first.save(path, save_all=True, append_images=rest, duration=125, **options)


def test_animated_images_are_clips_and_still_ones_are_not(tmp_path: Path) -> None:
    for name, clip in zip(("2.png", "10.PNG", "1.webp"), CLIPS, strict=True):
        animate(tmp_path / name, clip, **{"lossless": True} if name == "1.webp" else {})
    Image.fromarray(CLIPS[0, 0]).save(tmp_path / "still.webp")
    for dataset in (FolderDataset(tmp_path), FolderDataset(tmp_path, strips=True)):
        clips = [dataset[i] for i in range(len(dataset))]
        assert [clip.key for clip in clips] == ["1.webp", "2.png", "10.PNG"]
        assert all(np.array_equal(clip.frames, CLIPS[i]) for clip, i in zip(clips, (2, 0, 1), strict=True))
        assert [(clip.lossy, clip.fps) for clip in clips] == [(False, 8)] * 3
        assert [path.name for path in dataset.ignored] == ["still.webp"]
    alone = open_clips(tmp_path / "2.png", View(frames=3, stride=4))
    assert np.array_equal(alone[0].frames, CLIPS[0, [0, 4, 8]])
    videos = FolderVideos(tmp_path)
    assert (videos.length(1), videos.fps(1)) == (16, 8)
    assert np.array_equal(videos.read(1, [5, 7])[0], CLIPS[0, [5, 7]])


def test_a_lossy_animation_is_marked_as_such(tmp_path: Path) -> None:
    animate(tmp_path / "video.webp", CLIPS[0], quality=80)
    assert FolderDataset(tmp_path)[0].lossy


def test_a_cut_or_damaged_animation_is_broken(tmp_path: Path) -> None:
    for name in ("a.png", "b.webp"):
        animate(tmp_path / name, CLIPS[0])
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-700])
    dataset = FolderDataset(tmp_path)
    for index in range(2):
        with pytest.raises(BrokenClipError):
            dataset[index]


@pytest.mark.parametrize(
    ("images", "others"),
    [
        (["0.jpg", "1.jpg"], ["0.mp4", "1.mp4"]),
        (["preview.png"], ["clips.npy"]),
        (["cover.jpeg"], ["train/a.mp4"]),
        (["0.png"], ["0/0.png", "1/0.png"]),
        (["sub/poster.jpg"], ["sub/0.gif"]),
        (["0.png"], ["1.webp"]),
    ],
)
def test_images_beside_other_clips_are_refused(tmp_path: Path, images: list[str], others: list[str]) -> None:
    for name in [*images, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".webp"):
            animate(tmp_path / name, CLIPS[0])
        elif name in images or name.endswith(".png"):
            Image.fromarray(CLIPS[0, 0]).save(tmp_path / name)
        elif name.endswith(".npy"):
            np.save(tmp_path / name, CLIPS)
        else:
            write_clip(tmp_path / name, CLIPS[0])
    with pytest.raises(InputError) as caught:
        FolderDataset(tmp_path)
    words = str(caught.value)
    assert Path(images[0]).name in words
    assert Path(others[0]).name in words or others[0].split("/")[0] in words
    assert words.endswith(f"move one kind out of {tmp_path}")


def test_an_animation_among_frames_is_refused_by_name(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(CLIPS[0, number]).save(tmp_path / f"{number}.png")
    animate(tmp_path / "3.png", CLIPS[0])
    with pytest.raises(BrokenClipError, match=r"3\.png: is animated, a clip of its own"):
        FolderDataset(tmp_path)[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [("a.gif", "a.mp4"), ("a.mp4", "a.webm"), ("a.npy", "a.npz"), ("a", "a.mp4"), ("a.gif", "a.npy")],
)
def test_two_encodings_of_one_clip_are_refused(tmp_path: Path, first: str, second: str) -> None:
    for name in (first, second, "b.mp4"):
        if name == "a":
            (tmp_path / "a").mkdir()
            Image.fromarray(CLIPS[0, 0]).save(tmp_path / "a" / "0.png")
        elif name.endswith(".npy"):
            np.save(tmp_path / name, CLIPS)
        elif name.endswith(".npz"):
            np.savez(tmp_path / name, CLIPS)
        else:
            write_clip(tmp_path / name, CLIPS[0])
    with pytest.raises(InputError, match=f"holds {first} and {second}, by their names two encodings of one clip"):
        FolderDataset(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / second).rename(tmp_path / "other" / second)
    assert len(FolderDataset(tmp_path)) > 1  # in different folders nothing says that they are one clip


def fill(folder: Path, names: list[str]) -> None:
    """Write clips of the kinds that their names tell; `N x name.npy` is an array of N."""
    for name in names:
        count, _, name = name.rpartition(" x ")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, np.stack([CLIPS[0]] * int(count or 1)))
        elif path.suffix == ".png":
            Image.fromarray(CLIPS[0, 0]).save(path)
        else:
            write_clip(path, CLIPS[0])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.mp4", "b.mp4", "previews/a.png", "previews/b.png"], "a.png and a.mp4: by their names pictures of"),
        (["videos/x/a.gif", "videos/x/b.gif", "png/x/b.png"], "b.png and b.gif: by their names pictures of"),
        (["a.npy", "b.npy", "c.npy", "look/a.png", "look/c.png"], "a.png and a.npy: by their names pictures of"),
        (
            ["b.mp4", "c.mp4", "look/a.png", "look/b.png", "look/c.png"],
            "b.png and b.mp4: by their names pictures of",
        ),
        (["2 x samples.npy", "a.mp4", "b.mp4"], "2 clips in arrays, such as samples.npy, and as many others"),
        (
            ["2 x one.npy", "1 x two.npy", *(f"videos/{n}.mp4" for n in "abc")],
            "3 clips in arrays, such as one.npy",
        ),
        (["gif/a.gif", "gif/b.gif", "mp4/a.mp4", "mp4/b.mp4"], "gif and .*mp4 hold clips of the same names"),
        (
            ["video/1/a.mp4", "video/2/a.mp4", "raw/1/a.npy", "raw/2/a.npy"],
            "video and .*raw hold clips of the same",
        ),
        (["f/a/x.png", "f/b/x.png", "v/a.mp4", "v/b.mp4"], "v and .*f hold clips of the same names"),
    ],
)
def test_pictures_and_encodings_of_other_clips_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    fill(tmp_path, names)
    with pytest.raises(InputError, match=words) as caught:
        FolderDataset(tmp_path)
    assert f"out of {tmp_path}" in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["class1/1.mp4", "class1/2.mp4", "class2/1.mp4", "class2/2.mp4"],  # numbered anew in each class
        ["class1/1.mp4", "class1/2.mp4", "class2/1.gif", "class2/2.mp4"],
        ["a.mp4", "b.mp4", "c/frame1.png", "c/frame2.png"],
        ["1.mp4", "2.mp4", *(f"c/{n}.png" for n in range(2, 7))],
        ["3 x batch.npy", "a.mp4", "b.mp4"],
        ["s/one.npy", "s/two.npy", "s/f1.mp4", "s/f2.mp4"],
        ["a.npy", "b.mp4"],
    ],
)
def test_clips_of_several_kinds_are_taken_where_they_may_differ(tmp_path: Path, names: list[str]) -> None:
    fill(tmp_path, names)
    assert len(FolderDataset(tmp_path)) >= 2


def test_clips_are_in_natural_order_at_every_level(tmp_path: Path) -> None:
    for folder in ("class10", "class9", "Class1"):
        (tmp_path / folder).mkdir()
        for name in ("clip10", "clip9", "clip09", "clip1"):
            np.save(tmp_path / folder / f"{name}.npy", CLIPS[0])
    dataset = FolderDataset(tmp_path)
    names = ["clip1", "clip09", "clip9", "clip10"]
    assert [dataset.info(i).key for i in range(12)] == [
        f"{folder}/{name}.npy" for folder in ("Class1", "class9", "class10") for name in names
    ]


@pytest.mark.usefixtures("settled")
def test_the_rate_enters_the_fingerprint(folder: Path) -> None:
    prints = {FolderDataset(folder, View(fps=fps)).fingerprint(8) for fps in (None, 8, 24, "stored")}
    assert len(prints) == 4
