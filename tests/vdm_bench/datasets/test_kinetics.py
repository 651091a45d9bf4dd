"""Kinetics-600 by its real annotations, and captioned videos."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from vdm_bench.datasets.captioned import open_captioned
from vdm_bench.datasets.kinetics import CLASSES, open_kinetics600
from vdm_bench.datasets.windows import WindowChoice, WindowedClips
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.view import View
from vdm_bench.video.write import write_clip

HEADER = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture(scope="module")
def annotations(shared_data: Path) -> Path:
    return shared_data / "kinetics600_val/Crawler/Kinetics/data/kinetics-600_val.csv"


@pytest.fixture
def root(tmp_path: Path, annotations: Path) -> Path:
    """The real annotations, and three of the videos: two in folders of their class, one in none."""
    shutil.copyfile(annotations, tmp_path / "kinetics-600_val.csv")
    for name in (
        "abseiling/7pRfb0t34uo_000158_000168.mp4",
        "abseiling/yq_M1PMw2hY_000038_000048.mkv",
        "XaH22IFN81Y_000056_000066.mp4",
        "abseiling/unlisted_000000_000010.mp4",
        "abseiling/readme.txt",
    ):
        path = tmp_path / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_videos_that_are_there_come_in_the_order_of_the_annotations(root: Path) -> None:
    videos = open_kinetics600(root, "val")
    assert [videos.info(index).key for index in range(len(videos))] == [
        "yq_M1PMw2hY_000038_000048",
        "7pRfb0t34uo_000158_000168",
        "XaH22IFN81Y_000056_000066",
    ]
    assert {videos.info(index).label for index in range(3)} == {0}  # abseiling is the first of 600
    assert len(videos.missing) == 30_000 - 3


def test_labels_are_the_places_of_600_classes(root: Path, annotations: Path) -> None:
    lines = annotations.read_text("utf-8").splitlines()[1:]
    last = max(line.split(",")[0] for line in lines)
    name = next(line for line in lines if line.startswith(f"{last},")).split(",")
    (root / "val" / f"{name[1]}_{int(name[2]):06}_{int(name[3]):06}.mp4").touch()
    videos = open_kinetics600(root, "val")
    assert max(videos.info(index).label or 0 for index in range(4)) == CLASSES - 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_labels_are_those_of_annotations_that_a_spreadsheet_saved(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "train").mkdir()
    rows = ["zumba", "juggling balls", "zumba"]
    for index in range(3):
        (tmp_path / "train" / f"id{index}_000000_000010.mkv").touch()
    lines = [HEADER.strip(), *(f'"{label}",id{i},0,10,train' for i, label in enumerate(rows)), ""]
    (tmp_path / "train.csv").write_text("\r\n".join(lines), encoding)
    videos = open_kinetics600(tmp_path, "train")
    assert [videos.info(index).label for index in range(3)] == [1, 0, 1]
    assert videos.notes == []


def test_annotations_without_labels_say_so(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "id_000000_000010.mp4").touch()
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end\nid,0.0,10.0\n")
    videos = open_kinetics600(tmp_path, "test")
    assert videos.info(0).label is None
    assert videos.notes == [f"{tmp_path / 'test.csv'} has no column label: its videos have no labels"]


@pytest.mark.parametrize("second", ["b/id_000000_000010.mp4", "a/id_000000_000010.mkv", "id_000000_000010.MP4"])
def test_two_files_of_one_video_are_refused(tmp_path: Path, second: str) -> None:
    (tmp_path / "val.csv").write_text(HEADER + "a,id,0,10,val\n")
    for name in ("a/id_000000_000010.mp4", "a/other_000000_000010.mp4", "b/other_000000_000010.mp4"):
        (tmp_path / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "val" / name).touch()
    assert len(open_kinetics600(tmp_path, "val")) == 1  # what no annotation names does not matter
    (tmp_path / "val" / second).touch()
    with pytest.raises(InputError, match=r"are two files of one video; move one of them out of .*val$") as caught:
        open_kinetics600(tmp_path, "val")
    assert str(tmp_path / "val" / second) in str(caught.value)


def test_a_link_that_leads_nowhere_is_a_broken_video_and_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val/b_000000_000010.mp4").symlink_to("gone.mp4")
    (tmp_path / "val.csv").write_text(HEADER + "x,a,0,10,val\ny,b,0,10,val\n")
    videos = open_kinetics600(tmp_path, "val")
    assert videos.missing == ["a_000000_000010"]
    with pytest.raises(BrokenClipError, match="is a link to what is not there"):
        videos.length(0)


def test_real_videos_are_read_and_broken_ones_named(tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/test.csv").write_text(
        HEADER + "a,id1,0,10,test\nb,-id2,5,15,test\n,id_3,0,10,test\n"
    )
    shutil.copyfile(shared_data / "mmaction2/demo/demo.mp4", tmp_path / "test/id1_000000_000010.mp4")
    shutil.copyfile(
        shared_data / "decord/tests/test_data/corrupted.mp4", tmp_path / "test/-id2_000005_000015.mp4"
    )
    videos = open_kinetics600(tmp_path, "test")
    assert (len(videos), videos.missing) == (2, ["id_3_000000_000010"])
    clips = WindowedClips(videos, WindowChoice("random"), View(frames=16, size=(64, 64), rule="antialias"))
    found = []
    for index in range(2):
        try:
            found.append(clips[index].frames.shape)
        except BrokenClipError as error:
            found.append(error.reason.split(":")[0])
    assert sorted(found, key=str) == [(16, 64, 64, 3), "damaged"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("label,id\n", "lacks the columns youtube_id, time_start, time_end: .* is 'label,id'; fetch"),
        (HEADER + "a,id,zero,10,val\n", "line 2: no start and end in seconds"),
        (HEADER + "a,id\n", "line 2 ends before its columns time_start, time_end"),
        (HEADER + "a,id,Inf,10,val\n", "line 2: no start and end in seconds"),
        (HEADER + "a, b,id,0,10,val\n", "line 2 has 6 fields, but there are 5 columns"),
        (HEADER + "a,id,0,10,val\n", "none of the 1 videos of .* is below .*val; check --data-root"),
        (b"\xff\xfe\0", "cannot be read: it is UTF-16"),
    ],
)
def test_annotations_that_are_not_as_they_should_be_are_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        open_kinetics600(tmp_path, "val")


def test_wrong_trees_and_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no Kinetics-600 test: expected annotations/test.csv and test/"):
        open_kinetics600(tmp_path, "test")
    with pytest.raises(InputError, match="no split 'all'; choose one of train, val, test"):
        open_kinetics600(tmp_path, "all")


# Captioned videos


def captions(folder: Path, form: str, rows: list[dict[str, object]]) -> Path:
    if form == "csv":
        lines = [
            "\ufefffile,caption,label",
            *(f'{row["file"]},"{row["caption"]}",{row.get("label", "")}' for row in rows),
        ]
        (folder / "captions.csv").write_text("\n".join(lines), "utf-8")
    else:
        (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", "utf-8")
    return folder


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_captions_and_labels_come_with_the_videos(tmp_path: Path, form: str) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/one.mp4", "two.mp4"):
        (tmp_path / name).touch()
    rows: list[dict[str, object]] = [
        {"file": "two.mp4", "caption": "a cat, asleep"},
        {"file": "a/one.mp4", "caption": " zwei Bälle ", "label": 7},
    ]
    captions(tmp_path, form, rows)
    for root in (tmp_path, tmp_path / f"captions.{form}"):
        videos = open_captioned(root)
        infos = [videos.info(index) for index in range(2)]
        assert [info.caption for info in infos] == ["a cat, asleep", "zwei Bälle"]
        assert [info.label for info in infos] == [None, 7]
        assert [file.path for file in videos.files] == [tmp_path / "two.mp4", tmp_path / "a/one.mp4"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file": "../secret.mp4", "caption": "x"}, "line 1: ../secret.mp4 leads out of the folder of the list"),
        ({"file": "/etc/passwd", "caption": "x"}, "line 1: /etc/passwd leads out of the folder"),
        ({"file": "one.mp4", "caption": "  "}, "line 1: it lacks a caption"),
        ({"file": 3, "caption": "x"}, "line 1: it lacks a file"),
        ({"caption": "x"}, "line 1: it lacks a file"),
        ({"file": "a/../../b.mp4", "caption": "x"}, "line 1: a/../../b.mp4 leads out of the folder"),
        ({"file": "one.mp4\0", "caption": "x"}, "line 1: its file has null bytes"),
        ({"file": "one.mp4", "caption": "\ud800"}, "line 1: its caption has null bytes or halves of characters"),
        ({"file": "one.mp4", "caption": "x", "label": 10**400}, "line 1: the label 1000"),
        ({"file": "one.mp4", "caption": "x", "label": [[]]}, "line 1: the label .* is not a whole number"),
        ({"file": "one.mp4", "caption": "x", "label": "9" * 5000}, "line 1: the label .* is not a whole number"),
        ({"file": "one.mp4", "caption": "x", "label": "cat"}, "line 1: the label 'cat' is not a whole number"),
        ({"file": "one.mp4", "caption": "x", "label": 3.5}, "line 1: the label 3.5 is not a whole number"),
        ({"file": "one.mp4", "caption": "x", "label": True}, "line 1: the label True is not a whole number"),
        (
            {"file": "one.mp4", "caption": "x", "label": float("inf")},
            "line 1: it cannot be read as JSON: it holds Infinity",
        ),
        ({"file": "gone.mp4", "caption": "x"}, "none of the 1 videos that .*captions.jsonl names is there"),
        ({"file": "x" * 5000, "caption": "x"}, "none of the 1 videos that .*captions.jsonl names is there"),
        ([1], "line 1: it is not a JSON object"),
    ],
)
def test_lines_that_are_not_as_they_should_be_are_refused(tmp_path: Path, row: object, message: str) -> None:
    (tmp_path / "one.mp4").touch()
    (tmp_path / "captions.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match=message):
        open_captioned(tmp_path)


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("csv", "../one.gif,x,", "../one.gif leads out of the folder of the list"),
        ("csv", "one.gif,,", "it lacks a caption"),
        ("csv", "one.gif,x,1e999", "the label '1e999' is not a whole number"),
        ("jsonl", '{"file": "one.gif"}', "it lacks a caption"),
        ("jsonl", '{"file": "one.gif", "caption": "x", "label": NaN}', "it cannot be read as JSON: it holds NaN"),
        ("jsonl", "[" * 3000, "nested too deeply"),
        ("jsonl", "", ""),  # no fault at all: an empty line
    ],
)
def test_a_row_at_fault_is_a_clip_that_cannot_be_read_and_costs_no_other(
    tmp_path: Path, form: str, text: str, message: str
) -> None:
    for name in ("one", "two"):
        write_clip(tmp_path / f"{name}.gif", np.full((3, 8, 8, 3), 80, np.uint8))
    captions(tmp_path, form, [{"file": f"{name}.gif", "caption": "x", "label": 2} for name in ("one", "two")])
    path = tmp_path / f"captions.{form}"
    lines = path.read_text("utf-8").split("\n")
    lines.insert(len(lines) - (1 if form == "csv" else 3), text)
    path.write_text("\n".join(lines), "utf-8")
    line = lines.index(text) + 1
    videos = open_captioned(tmp_path)
    assert not videos.missing
    if not message:
        assert len(videos) == 2
        return
    assert [videos.info(i).label for i in range(3)] == [2, None, 2]
    assert videos.info(1).key == f"captions.{form}, line {line}"  # the same wherever the folder lies
    assert len(videos.notes) == 1
    assert f"line {line}: " in videos.notes[0]
    for call in (videos.length, lambda index: videos.read(index, [0])):
        with pytest.raises(BrokenClipError, match=rf"captions\.{form}, line {line}: .*{re.escape(message)}"):
            call(1)
    assert [videos.length(i) for i in (0, 2)] == [3, 3]


def test_folders_without_a_list_or_with_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no captions: expected captions.csv or captions.jsonl in it"):
        open_captioned(tmp_path)
    (tmp_path / "captions.csv").write_text("name,text\n")
    with pytest.raises(InputError, match=r"lacks the columns file, caption: .* is 'name,text'"):
        open_captioned(tmp_path)
    (tmp_path / "captions.csv").write_text("file,caption\n")
    with pytest.raises(InputError, match="names no videos"):
        open_captioned(tmp_path)
    (tmp_path / "captions.jsonl").write_text("{}")
    with pytest.raises(InputError, match="holds both"):
        open_captioned(tmp_path)
    (tmp_path / "captions.csv").unlink()
    (tmp_path / "captions.jsonl").write_text("{")
    with pytest.raises(InputError, match="line 1: it cannot be read as JSON"):
        open_captioned(tmp_path)


def test_videos_that_a_list_names_and_that_are_not_there_are_missing(tmp_path: Path) -> None:
    for name in ("0.mp4", "2.mp4"):
        (tmp_path / name).touch()
    rows = [{"file": f"{i}.mp4", "caption": f"ball {i}", "label": i} for i in range(4)]
    videos = open_captioned(captions(tmp_path, "jsonl", rows))
    assert [(videos.info(i).caption, videos.info(i).label) for i in range(2)] == [("ball 0", 0), ("ball 2", 2)]
    assert videos.missing == ["1.mp4", "3.mp4"]


def test_separators_within_a_caption_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    caption = "one\u2028two\u2029three\x85four\x1cfive\x0csix"
    (tmp_path / "captions.jsonl").write_text(
        f'{{"file": "a.mp4", "caption": "{caption}"}}\r\n{{"file": "a.mp4", "caption": "b"}}\r\n', "utf-8-sig"
    )
    videos = open_captioned(tmp_path)
    assert [videos.info(i).caption for i in range(len(videos))] == [caption, "b"]
    assert videos.notes == [f"{tmp_path / 'captions.jsonl'} has no key label: its videos have no labels"]


def test_a_caption_with_a_comma_and_no_quotes_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "captions.csv").write_text('file,caption\na.mp4,"one, two"\n\na.mp4,red, then blue\n')
    with pytest.raises(
        InputError, match=r"captions.csv, line 4 has 3 fields, but there are 2 columns; put quotes"
    ):
        open_captioned(tmp_path)
