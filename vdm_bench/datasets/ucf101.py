"""UCF101 (Soomro et al. 2012) in the downloaded layout: class folders of avi files, and the split lists.

    UCF-101/<class>/v_<class>_gNN_cNN.avi
    ucfTrainTestlist/{classInd,trainlist01,testlist01,...}.txt

Quirks of the lists: lines end in CRLF; training lines have a label counted from 1, test lines have none; the
class HandStandPushups of `classInd.txt` has the folder HandstandPushups, but files v_HandStandPushups_...
"""

from pathlib import Path

from vdm_bench.datasets.text_lists import read_words
from vdm_bench.datasets.video_files import VideoFile, VideoFiles, files_there
from vdm_bench.errors import InputError
from vdm_bench.video.clip import ClipInfo

VIDEOS = "UCF-101"
LISTS = "ucfTrainTestlist"
# Number of videos in each split, for the three split lists. Each list divides all 13,320 videos.
SPLITS = {"train": (9_537, 9_586, 9_624), "test": (3_783, 3_734, 3_696), "train+test": (13_320,) * 3}
CLASSES = 101

_FETCH = "unpack UCF101TrainTestSplits-RecognitionTask.zip again"


def open_ucf101(root: Path, split: str, split_list: int = 1) -> VideoFiles:
    """Open the existing videos of a split, in the order of its list; `train+test` is train followed by test.

    Labels are those of `classInd.txt`, counted from 0.

    Args:
        root: the folder that contains `UCF-101` and `ucfTrainTestlist`.
        split: `train`, `test` or `train+test`.
        split_list: number of the list, 1 to 3.

    Raises:
        InputError: there is no such split; the lists or all of the videos are missing; or a list is invalid.
    """
    if split not in SPLITS:
        raise InputError(f"UCF101 has no split {split!r}; choose one of {', '.join(SPLITS)}")
    if split_list not in (1, 2, 3):
        raise InputError(f"UCF101 has no split list {split_list}; choose 1, 2 or 3")
    videos, lists = _folders(root)
    labels = _labels(lists / "classInd.txt")
    listed = [
        video
        for part in split.split("+")
        for video in _listed(lists / f"{part}list{split_list:02}.txt", videos, labels)
    ]
    nothing = (
        f"none of the {len(listed):,} videos of UCF101's {split} list {split_list:02} is below {videos}; unpack "
        "UCF101.rar there, or choose another --data-root"
    )
    return files_there(listed, nothing)


def _folders(root: Path) -> tuple[Path, Path]:
    """Find the folders of videos and of lists: both in `root`, or `root` is the folder of videos."""
    for videos in (root / VIDEOS, root):
        for lists in (root / LISTS, videos / LISTS, root.parent / LISTS):
            if (lists / "classInd.txt").is_file() and any(videos.glob("*/v_*.avi")):
                return videos, lists
    raise InputError(
        f"{root} holds no UCF101: expected {VIDEOS}/<class>/v_<class>_gNN_cNN.avi and {LISTS}/classInd.txt below "
        "it; unpack UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip there"
    )


def _labels(path: Path) -> dict[str, int]:
    """Return the label of each class, counted from 0. Names are in lower case: see the quirks above."""
    try:
        listed = [(name.casefold(), int(number) - 1) for _, (number, name) in read_words(path, _FETCH)]
    except ValueError as error:
        raise InputError(f"{path} has a line that is not a number and a class; fetch it again") from error
    labels = dict(listed)
    if sorted(labels.values()) != list(range(len(listed))):
        raise InputError(f"{path} does not number its {len(listed)} classes from 1 on, each once; fetch it again")
    return labels


def _listed(path: Path, videos: Path, labels: dict[str, int]) -> list[VideoFile]:
    found = []
    for number, (name, *rest) in read_words(path, _FETCH):
        folder, _, file = name.partition("/")
        label = labels.get(folder.casefold())
        # A name from the list must not lead out of the folder of videos.
        if label is None or not file or "/" in file or ".." in (folder, file):
            raise InputError(f"{path}, line {number}: {name} names no video of a class of classInd.txt")
        if rest and rest != [str(label + 1)]:
            raise InputError(f"{path}, line {number}: the label {' '.join(rest)} is not that of {folder}")
        found.append(VideoFile(ClipInfo(name, label), videos / folder / file))
    return found
