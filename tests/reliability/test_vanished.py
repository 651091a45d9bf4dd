"""Links to nothing, files that vanish in mid-run, and hidden files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from vdm_bench.cli import cli
from vdm_bench.datasets.captioned import open_captioned
from vdm_bench.datasets.folder import FolderDataset, open_clips
from vdm_bench.datasets.kinetics import open_kinetics600
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.datasets.windows import WindowChoice, WindowedClips
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.runtime.progress import Silent
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.decode import count_frames, probe, read_video
from vdm_bench.video.view import View
from vdm_bench.video.write import write_clip

CLIPS = [Shapes("test")[i] for i in range(12)]
LINK = "is a link to what is not there"


def write_videos(folder: Path, count: int = 12) -> Path:
    for number, clip in enumerate(CLIPS[:count]):
        write_clip(folder / f"{number:02}.mp4", clip.frames)
    return folder


def write_frame_folder(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def real(tmp_path: Path) -> Path:
    np.save(tmp_path / "real.npy", np.stack([clip.frames for clip in CLIPS]))
    return tmp_path / "real.npy"


@pytest.mark.parametrize("name", ["06b.webm", "06b.npy", "06b.npz", "06b.gif", "06b", "06b/0.png"])
def test_a_link_to_nothing_is_a_broken_clip(name: str, real: Path, tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "videos")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "nowhere" / name)
    score = ("score", folder, "--reference", real, "--metric", "embedded/fvd")
    refused = invoke(*score)
    assert refused.exit_code == 2
    assert f"1 of 13 clips in {folder} cannot be read ({folder}/06b" in refused.stderr
    assert "or pass --skip-broken to leave them out" in refused.stderr
    done = invoke(*score, "--skip-broken", "--json", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    generated = json.loads(done.stdout)["generated"]
    assert generated["scored"] == 12
    assert [skipped["source"] for skipped in generated["skipped"]] == [str(folder / name)]
    again = invoke(*score, "--skip-broken", "--json", "--out", tmp_path / "out")
    assert json.loads(again.stdout)["generated"] == generated


def test_a_frame_that_is_a_link_to_nothing_is_not_left_out_of_its_clip(tmp_path: Path) -> None:
    write_frame_folder(tmp_path / "clips" / "a", CLIPS[0].frames)
    (tmp_path / "clips" / "a" / "7.png").unlink()
    (tmp_path / "clips" / "a" / "7.png").symlink_to("nowhere.png")
    with pytest.raises(BrokenClipError, match=rf"a/7\.png: {LINK}"):
        open_clips(tmp_path / "clips")[0]


def test_a_link_that_is_no_clip_by_its_name_is_ignored(tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "videos", 2)
    (folder / "notes.txt").symlink_to("nowhere")
    dataset = FolderDataset(folder)
    assert len(dataset) == 2
    assert dataset.ignored == [folder / "notes.txt"]


def test_a_link_in_a_circle_is_a_broken_clip(tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "videos", 2)
    (folder / "a.mp4").symlink_to("b.mp4")
    (folder / "b.mp4").symlink_to("a.mp4")
    made = FeatureExtractor([EmbeddedNetwork()], 2, True, Silent()).collect(
        open_clips(folder), 4, tmp_path / "features", "videos"
    )
    assert [Path(error.source).name for error in made.broken] == ["a.mp4", "b.mp4"]


def test_a_pipe_is_a_broken_clip_and_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_videos(tmp_path / "videos", 2)
    os.mkfifo(folder / "pipe.mp4")
    with pytest.raises(BrokenClipError, match="is a pipe or a device"):
        open_clips(folder)[2]


def test_hidden_files_are_not_even_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_videos(tmp_path / "clips", 2)
    write_frame_folder(tmp_path / "clips" / "frames", CLIPS[0].frames)
    for folder in (tmp_path / "clips", tmp_path / "clips" / "frames"):
        (folder / ".gone.mp4").symlink_to("nowhere.mp4")
        (folder / ".gone.png").symlink_to("nowhere.png")
        (folder / "._0.png").write_bytes(b"no image")
        (folder / ".folder").mkdir()
    asked, ask = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: (asked.append(str(path)), ask(path, **how))[1])
    dataset = open_clips(tmp_path / "clips")
    assert [dataset[index].frames.shape for index in range(len(dataset))] == [(16, 32, 32, 3)] * 3
    assert all("gone" not in (dataset.fingerprint(index) or "") for index in range(3))
    assert asked
    assert not [path for path in asked if any(part.startswith(".") for part in Path(path).parts)]


class Vanishing(FolderDataset):
    """A folder whose clip 5 is removed while clip 4 is read."""

    def __getitem__(self, index: int) -> object:  # type: ignore[override]
        if index == 4:
            path = self.path_of(5)
            path.unlink() if path.is_file() else [file.unlink() for file in path.iterdir()] and path.rmdir()
        return super().__getitem__(index)


@pytest.mark.parametrize("form", ["videos", "arrays", "frames"])
def test_what_vanishes_in_mid_run_is_a_broken_clip(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    if form == "videos":
        write_videos(folder)
    for number, clip in enumerate(CLIPS):
        if form == "frames":
            write_frame_folder(folder / f"{number:02}", clip.frames)
        elif form == "arrays":
            folder.mkdir(exist_ok=True)
            np.save(folder / f"{number:02}.npy", clip.frames)
    made = FeatureExtractor([EmbeddedNetwork()], 1, True, Silent())
    # One worker has at most two clips under way: nothing has been read of clip 5 when clip 4 is.
    found = made.collect(Vanishing(folder), 12, tmp_path / "features", "clips")
    assert [Path(error.source).name[:2] for error in found.broken] == ["05"]
    assert found.features[0].count == 11


@pytest.mark.parametrize("read", [read_video, count_frames, probe])
def test_a_video_that_vanishes_just_when_it_is_opened_is_a_broken_clip(
    read: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdm_bench.video.stream.check_container", lambda path: None)  # it was still there
    with pytest.raises(BrokenClipError, match=r"video\.mp4: no such file"):
        read(tmp_path / "video.mp4")  # type: ignore[operator]


@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_a_shard_that_vanishes_makes_broken_clips(suffix: str, tmp_path: Path) -> None:
    ArchiveWriter(tmp_path / "a", (16, 32, 32)).append(CLIPS[:4] * 20)
    archive = Archive(tmp_path / "a")
    (tmp_path / "a" / f"shard-000000.{suffix}").unlink()
    assert archive[70].frames.shape == (16, 32, 32, 3)
    with pytest.raises(BrokenClipError, match=rf"shard-000000\.{suffix}: no such file"):
        archive[3]
    made = FeatureExtractor([EmbeddedNetwork()], 2, True, Silent())
    found = made.collect(open_clips(tmp_path / "a") if suffix == "npy" else archive, 80, tmp_path / "f", "clips")
    assert len(found.broken) == 64


def test_a_folder_that_vanishes_while_it_is_searched_is_a_broken_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_frame_folder(tmp_path / "clips" / "a", CLIPS[0].frames)
    write_frame_folder(tmp_path / "clips" / "b", CLIPS[1].frames)
    listed = os.listdir

    def gone(path: Path) -> list[str]:
        if Path(path).name == "b":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", gone)
    dataset = open_clips(tmp_path / "clips")
    assert [dataset.info(index).key for index in range(2)] == ["a", "b"]


def test_a_source_that_is_itself_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "clips").symlink_to("nowhere")
    with pytest.raises(InputError, match="clips does not exist"):
        open_clips(tmp_path / "clips")


def test_listed_videos_that_vanish_are_broken_clips(tmp_path: Path) -> None:
    write_videos(tmp_path, 3)
    (tmp_path / "captions.jsonl").write_text(
        "".join(json.dumps({"file": f"{n:02}.mp4", "caption": "a shape"}) + "\n" for n in range(3))
    )
    clips = WindowedClips(open_captioned(tmp_path), WindowChoice("random"), View(frames=8))
    broken = next(index for index in range(3) if clips.info(index).key == "01.mp4")
    (tmp_path / "01.mp4").unlink()
    assert "is not there" in (clips.fingerprint(broken) or "is not there")
    with pytest.raises(BrokenClipError, match=r"01\.mp4: no such file"):
        clips[broken]


def test_kinetics_skips_hidden_videos_and_dead_links_are_broken(tmp_path: Path) -> None:
    rows = ["label,youtube_id,time_start,time_end,split"] + [f"zumba,abcdefghij{n},0,10,val" for n in range(3)]
    (tmp_path / "val.csv").write_text("\n".join(rows))
    write_clip(tmp_path / "val" / "abcdefghij0_000000_000010.mp4", CLIPS[0].frames)
    (tmp_path / "val" / "abcdefghij1_000000_000010.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "val" / ".part").mkdir()
    (tmp_path / "val" / ".part" / "abcdefghij2_000000_000010.mp4").write_bytes(b"half a video")
    videos = open_kinetics600(tmp_path, "val")
    assert (len(videos), list(videos.missing)) == (2, ["abcdefghij2_000000_000010"])
    # Of every rule a video that cannot be read is one broken clip, and not the end.
    for rule, counts in (("first", 2), ("every", 9 + 1)):
        clips = WindowedClips(videos, WindowChoice(rule), View(frames=8))  # type: ignore[arg-type]
        assert len(clips) == counts
        with pytest.raises(BrokenClipError, match=LINK):
            clips[counts - 1]
