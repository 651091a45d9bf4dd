"""Clips on their way to a page: which ones, in which order, and that they are still the same."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vdm_bench import run
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.report.gallery import MOST_VIDEOS, EncodedClip, Gallery
from vdm_bench.leaderboards.report.runs import read_runs
from vdm_bench.metrics.frame_metrics import FRAME_METRICS
from vdm_bench.pages.galleries import FOLLOWED, MOST_COLUMNS, MOST_ROWS, REAL, ClipPlaces, make_galleries
from vdm_bench.protocols import get_protocol
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.clip import Clip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("runs")
        for protocol in ("shapes-unconditional", "shapes-prediction"):
            for name in ("blurred", "real"):
                run(protocol, out=folder / protocol / name, sampler=name, limit=20)
        yield folder


def galleries(folder: Path, **named: Path) -> dict[str, Gallery]:
    return {found.title: found for found in make_galleries(read_runs([folder]), ClipPlaces(named=named))}


def decoded(video: EncodedClip | None) -> NDArray[np.uint8]:
    assert video is not None
    with av.open(io.BytesIO(video.video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


def assert_same(video: EncodedClip | None, clip: NDArray[np.uint8]) -> None:
    """A video shows a clip, doubled, as nearly as H.264 does, and its poster a frame of it."""
    frames = decoded(video)
    assert frames.shape == (len(clip), 2 * clip.shape[1], 2 * clip.shape[2], 3)
    assert np.abs(frames[:, ::2, ::2].astype(int) - clip).mean() < 4
    assert video is not None
    poster = np.asarray(Image.open(io.BytesIO(video.poster)))
    assert np.array_equal(poster[::2, ::2], clip[len(clip) // 2])


def test_real_clips_stand_first_and_the_best_run_next(runs: Path) -> None:
    gallery = galleries(runs)["shapes-unconditional"]
    assert gallery.columns == (REAL, "real", "blurred")
    assert len(gallery.rows) == MOST_ROWS
    for place, row in enumerate(gallery.rows):
        assert_same(row.clips[0], Shapes("test", seed=0)[place].frames)
        for video, name in zip(row.clips[1:], gallery.columns[1:], strict=True):
            assert_same(video, Archive(runs / "shapes-unconditional" / name / "samples")[place].frames)


def test_of_a_prediction_what_really_followed_stands_first(runs: Path) -> None:
    gallery = galleries(runs)["shapes-prediction"]
    assert gallery.columns == (FOLLOWED, "real", "blurred")
    assert gallery.notes[1:] == ("The first 4 frames are context.",)
    for row in gallery.rows:
        place = int(row.label.split()[1].strip(";"))
        assert_same(row.clips[0], Shapes("test", seed=1)[place].frames)


def test_the_worst_and_best_clips_of_a_prediction_are_shown(runs: Path) -> None:
    gallery = galleries(runs)["shapes-prediction"]
    # Those of the best run would be the truth itself: all have the same value.
    assert gallery.notes[0] == "The 3 clips of blurred with the lowest psnr, and the 3 with the highest."
    truth, samples = Shapes("test", seed=1), Archive(runs / "shapes-prediction" / "blurred" / "samples")
    pairs = [(samples[i].frames[None, 4:], truth[i].frames[None, 4:]) for i in range(20)]
    values = [float(FRAME_METRICS["psnr"](*pair).mean()) for pair in pairs]
    order = sorted(range(20), key=lambda index: values[index])
    ends = [*((index, "low") for index in order[:3]), *((index, "high") for index in order[-3:])]
    assert [row.label for row in gallery.rows] == [
        f"clip {index}; {end} psnr, {values[index]:.2f}" for index, end in ends
    ]


def test_without_stored_frame_metrics_the_first_clips_are_shown(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "shapes-prediction", tmp_path / "runs")
    for path in (tmp_path / "runs").glob("*/features/frames-*.safetensors"):
        path.write_bytes(b"damaged")
    gallery = galleries(tmp_path / "runs")["shapes-prediction"]
    assert [row.label for row in gallery.rows] == [f"clip {index}" for index in range(MOST_ROWS)]


def test_the_same_clips_give_the_same_bytes(runs: Path) -> None:
    assert galleries(runs) == galleries(runs)


def test_named_clips_are_those_of_a_run_or_another_column(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "shapes-unconditional", tmp_path / "runs")
    shutil.move(tmp_path / "runs" / "blurred" / "samples", tmp_path / "moved")
    bare = galleries(tmp_path / "runs")["shapes-unconditional"]
    assert bare.columns == (REAL, "real")
    assert bare.notes == ("Without clips in the run's folder: blurred.",)
    clips = np.stack([Shapes("train", seed=5)[i].frames for i in range(2)])
    np.save(tmp_path / "theirs.npy", clips)
    named = {"blurred": tmp_path / "moved", "theirs": tmp_path / "theirs.npy"}
    gallery = galleries(tmp_path / "runs", **named)["shapes-unconditional"]
    assert gallery.columns == (REAL, "real", "blurred", "theirs")
    assert_same(gallery.rows[1].clips[3], clips[1])
    assert gallery.rows[2].clips[3] is None  # there are two
    assert_same(gallery.rows[0].clips[2], Archive(tmp_path / "moved")[0].frames)
    with pytest.raises(InputError, match="missing does not exist"):
        galleries(tmp_path / "runs", theirs=tmp_path / "missing")


def test_damaged_clips_leave_a_gap_and_a_damaged_archive_is_passed_over(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "shapes-unconditional", tmp_path / "runs")
    shard = tmp_path / "runs" / "real" / "samples" / "shard-000000.npy"
    shard.write_bytes(shard.read_bytes()[: 128 + 3 * 16 * 32 * 32 * 3])
    (tmp_path / "runs" / "blurred" / "samples" / "archive.json").write_text("{}")
    gallery = galleries(tmp_path / "runs")["shapes-unconditional"]
    assert gallery.columns == (REAL, "real")
    assert [row.clips[1] is None for row in gallery.rows] == [False] * 3 + [True] * 3
    assert [note.partition("; ")[0] for note in gallery.notes if "Clip" in note] == [
        f"Clip {index} of real: is truncated" for index in (3, 4, 5)
    ]


def test_rows_are_named_by_what_was_asked_for(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "shapes-unconditional" / "real", tmp_path / "run")
    samples = tmp_path / "run" / "samples"
    clips = [Shapes("test", seed=3)[i].frames for i in range(3)]
    shutil.rmtree(samples)
    asked = [Clip(clips[0], "0", 7), Clip(clips[1], "1", None, "<b>a red ball</b>"), Clip(clips[2], "2")]
    ArchiveWriter(samples, (16, 32, 32), fps=4).write_shard(0, asked)
    gallery = galleries(tmp_path / "run")["shapes-unconditional"]
    assert [row.label for row in gallery.rows][:3] == ["clip 0, class 7", "clip 1: <b>a red ball</b>", "clip 2"]
    assert gallery.fps == 4


def test_another_protocol_of_the_same_name_shows_no_real_clips(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "shapes-unconditional" / "real", tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    assert content["protocol"]["digest"] == get_protocol("shapes-unconditional").digest
    content["protocol"]["digest"] = "0" * 12
    path.write_text(json.dumps(content))
    assert galleries(tmp_path / "run")["shapes-unconditional"].columns == ("real",)


def test_no_more_columns_than_a_browser_plays(runs: Path, tmp_path: Path) -> None:
    for number in range(MOST_COLUMNS + 3):
        shutil.copytree(runs / "shapes-unconditional" / "blurred", tmp_path / str(number))
    gallery = galleries(tmp_path)["shapes-unconditional"]
    assert len(gallery.columns) == MOST_COLUMNS
    assert len(gallery.columns) * len(gallery.rows) <= MOST_VIDEOS
    assert gallery.notes == ("The best 11 of 15 runs are shown.",)
