"""UCF101 by its real lists, on small stand-ins for its files."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.datasets.ucf101 import CLASSES, SPLITS, open_ucf101
from vdm_bench.datasets.windows import WindowChoice, WindowedClips
from vdm_bench.errors import InputError
from vdm_bench.video.view import View
from vdm_bench.video.write import write_clip


@pytest.fixture(scope="module")
def everything(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real lists, and an empty file in the place of each of the 13,320 videos."""
    root = tmp_path_factory.mktemp("ucf101")
    lists = root / "ucfTrainTestlist"
    shutil.copytree(shared_data / "ucf101_lists/data/ucfTrainTestlist", lists)
    shutil.copyfile(shared_data / "ucf101_classind/ucfTrainTestlist/classInd.txt", lists / "classInd.txt")
    for part in ("train", "test"):
        for line in (lists / f"{part}list01.txt").read_text().splitlines():
            path = root / "UCF-101" / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_real_lists_name_all_videos_with_their_labels(everything: Path, split: str, number: int) -> None:
    videos = open_ucf101(everything, split, number)
    assert len(videos) == SPLITS[split][number - 1]
    labels = {info.label for info in map(videos.info, range(len(videos)))}
    assert labels == set(range(CLASSES))
    assert len({file.path for file in videos.files}) == len(videos)


def test_the_class_whose_name_is_spelt_in_two_ways_has_its_label(everything: Path) -> None:
    videos = open_ucf101(everything, "test")
    found = {info.key: info.label for info in map(videos.info, range(len(videos)))}
    assert found["HandstandPushups/v_HandStandPushups_g01_c01.avi"] == 36
    assert found["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"] == 0
    assert found["YoYo/v_YoYo_g01_c01.avi"] == 100
    assert next(iter(found)) == "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three classes, avi files, lists as the real ones are."""
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_bytes(b"1 Alpha\r\n2 HandStandPushups\r\n3 Gamma\r\n")
    train = ["Alpha/v_Alpha_g08_c01.avi 1", "HandstandPushups/v_HandStandPushups_g08_c01.avi 2"]
    test = ["Alpha/v_Alpha_g01_c01.avi", "Gamma/v_Gamma_g01_c01.avi"]
    (lists / "trainlist01.txt").write_bytes("\r\n".join([*train, ""]).encode())
    (lists / "testlist01.txt").write_bytes("\r\n".join(test).encode())
    clips = Shapes("test", frames=20)
    for number, line in enumerate([*train, *test]):
        path = tmp_path / "UCF-101" / line.split()[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path.with_suffix(".mp4"), clips[number].frames)
        path.with_suffix(".mp4").rename(path)  # what is in it is told by its content
    return tmp_path


def test_videos_are_read_in_the_order_of_the_list(small: Path) -> None:
    videos = open_ucf101(small, "train+test")
    clips = WindowedClips(videos, WindowChoice("first"), View(frames=16))
    assert [clips[index].label for index in range(4)] == [0, 1, 0, 2]
    assert videos.length(2) == 20
    for index in range(4):
        clip = clips[index]
        assert clip.lossy
        assert np.abs(clip.frames.astype(int) - Shapes("test", frames=20)[index].frames[:16]).mean() < 12


@pytest.mark.parametrize("below", ["", "UCF-101"])
def test_the_root_may_be_the_folder_of_the_videos(small: Path, below: str) -> None:
    assert len(open_ucf101(small / below, "train")) == 2


def test_missing_videos_leave_the_labels_of_the_others(small: Path) -> None:
    (small / "UCF-101/Alpha/v_Alpha_g01_c01.avi").unlink()
    videos = open_ucf101(small, "train+test")
    assert videos.missing == ["Alpha/v_Alpha_g01_c01.avi"]
    assert [videos.info(index).label for index in range(len(videos))] == [0, 1, 2]
    shutil.rmtree(small / "UCF-101/Gamma")
    message = r"none of the 2 videos of UCF101's test list 01 is below .*UCF-101; unpack UCF101.rar there"
    with pytest.raises(InputError, match=message):
        open_ucf101(small, "test")
    assert open_ucf101(small, "train").missing == []


def test_lists_that_an_editor_saved_with_a_byte_order_mark_are_read(small: Path) -> None:
    for path in (small / "ucfTrainTestlist").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    videos = open_ucf101(small, "train")
    assert [videos.info(index).label for index in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trainlist01.txt", "Alpha/v_Alpha_g08_c01.avi 2", "line 1: the label 2 is not that of Alpha"),
        ("trainlist01.txt", "Delta/v_Delta_g08_c01.avi 1", "line 1: Delta/.* names no video of a class"),
        ("trainlist01.txt", "Alpha/../../secret.avi 1", "line 1: Alpha/.* names no video of a class"),
        ("trainlist01.txt", "\nAlpha 1", "names no video of a class"),
        ("classInd.txt", "one Alpha", "classInd.txt has a line that is not a number and a class"),
        (
            "classInd.txt",
            "1 Alpha\n2 HandStandPushups\n2 Gamma",
            "classInd.txt does not number its 3 classes from 1",
        ),
        (
            "classInd.txt",
            "1 Alpha\n2 HandStandPushups\n7 Gamma",
            "classInd.txt does not number its 3 classes from 1",
        ),
        ("classInd.txt", "1 Alpha\n2 Alpha\n3 Gamma", "classInd.txt does not number its 3 classes from 1"),
        ("classInd.txt", "1 Alpha more", "classInd.txt has a line that is not a number and a class"),
    ],
)
def test_lists_that_are_not_as_they_should_be_are_refused(
    small: Path, name: str, content: str, message: str
) -> None:
    (small / "ucfTrainTestlist" / name).write_text(content)
    with pytest.raises(InputError, match=message):
        open_ucf101(small, "train")


def test_wrong_trees_splits_and_lists_are_refused(tmp_path: Path, small: Path) -> None:
    with pytest.raises(InputError, match=r"holds no UCF101: expected UCF-101/<class>/v_<class>_gNN_cNN.avi and"):
        open_ucf101(tmp_path / "elsewhere", "train")
    with pytest.raises(InputError, match=r"no split 'val'; choose one of train, test, train\+test"):
        open_ucf101(small, "val")
    with pytest.raises(InputError, match="no split list 4; choose 1, 2 or 3"):
        open_ucf101(small, "train", 4)
    with pytest.raises(InputError, match=r"trainlist02.txt cannot be read .*; unpack UCF101TrainTestSplits"):
        open_ucf101(small, "train", 2)
