"""Sides that play at unlike rates are marked, and scored at one rate where one is asked for."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.datasets.folder import FolderDataset, ViewedClips
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record
from vdm_bench.scoring.score import ScoreOptions, score_record
from vdm_bench.video.view import View
from vdm_bench.video.write import write_clip

METRIC = "embedded/fvd"


def clips(seed: int, count: int = 6) -> NDArray[np.uint8]:
    return np.stack([Shapes("test", seed=seed, frames=20)[i].frames for i in range(count)])


def write(folder: Path, seed: int, fps: float, *, step: int = 1, repeat: int = 1) -> Path:
    folder.mkdir()
    for number, clip in enumerate(clips(seed)):
        write_clip(folder / f"{number}.mp4", clip[::step].repeat(repeat, axis=0), fps=fps)
    return folder


def marks(record: Record, *words: str) -> list[str]:
    return [mark for mark in record.scores[0].marks if any(word in mark for word in words)]


def run(generated: Path, reference: Path, metric: str = METRIC, out: Path | None = None, **view: Any) -> Record:
    return score_record(generated, reference, ScoreOptions(metrics=(metric,), view=View(**view), out=out))


def test_unlike_rates_are_marked_and_like_ones_are_not(tmp_path: Path) -> None:
    slow, fast = write(tmp_path / "slow", 1, 10), write(tmp_path / "fast", 2, 30)
    expected = ["generated clips play at 10 fps, reference clips at 30 fps"]
    assert marks(run(slow, fast, frames=16), "fps") == expected
    assert marks(run(slow, fast, "embedded/is", frames=16), "fps") == []
    ntsc = write(tmp_path / "ntsc", 3, 30000 / 1001)
    assert marks(run(ntsc, fast, frames=16), "fps") == []
    assert "|fps:" not in run(ntsc, fast, frames=16).scores[0].signature


def test_a_side_of_mixed_rates_is_marked(tmp_path: Path) -> None:
    mixed, fast = write(tmp_path / "mixed", 1, 24), write(tmp_path / "fast", 2, 24)
    write_clip(mixed / "7.mp4", clips(3)[0], fps=12)
    np.save(mixed / "8.npy", clips(4)[1])
    assert marks(run(mixed, fast, frames=16), "fps") == [
        "generated clips play at mixed rates, 12 to 24 fps",
        "generated clips play at 12 to 24 fps, reference clips at 24 fps",
    ]
    assert marks(run(mixed, mixed, frames=16), "fps") == [
        f"{side} clips play at mixed rates, 12 to 24 fps" for side in ("generated", "reference")
    ]


def test_arrays_have_no_rate(tmp_path: Path) -> None:
    np.save(tmp_path / "clips.npy", clips(1))
    fast = write(tmp_path / "fast", 2, 24)
    assert marks(run(tmp_path / "clips.npy", fast, frames=10), "fps") == []
    assert marks(run(tmp_path / "clips.npy", fast, frames=10, fps=12), "fps") == [
        "6 generated clips without a frame rate, taken to play at 12 fps"
    ]


def test_a_view_is_taken_of_clips_in_memory_and_of_datasets(tmp_path: Path) -> None:
    """As of the same clips in files: frames, stride, size, and the rate that they are taken to play at."""
    array, fast = clips(1), write(tmp_path / "fast", 2, 24)
    folder = tmp_path / "arrays"
    folder.mkdir()
    for number, clip in enumerate(array):
        np.save(folder / f"{number}.npy", clip)
    view = View(frames=4, stride=2, size=(24, 28), rule="antialias", fps=12)
    options = ScoreOptions(metrics=METRIC, view=view)
    expected = score_record(folder, fast, options).scores[0]
    assert "6 generated clips without a frame rate, taken to play at 12 fps" in expected.marks
    assert "|in:4x24x28>" in expected.signature
    paths = [folder / f"{number}.npy" for number in range(len(array))]
    for given in (array, torch.from_numpy(array), list(array), paths, FolderDataset(folder)):
        assert score_record(given, fast, options).scores[0] == expected


def test_a_view_of_a_dataset_keeps_its_name_only_where_it_keeps_its_clips() -> None:
    shapes = Shapes("test", frames=20)
    assert ViewedClips(shapes, View(fps=8), "shapes").identity == shapes.identity
    assert ViewedClips(shapes, View(fps=8, frames=10), "shapes").identity is None


def test_a_dataset_whose_clips_play_at_another_rate_is_refused(tmp_path: Path) -> None:
    videos = FolderDataset(write(tmp_path / "videos", 1, 24))
    assert marks(
        score_record(videos, clips(2), ScoreOptions(metrics=METRIC, view=View(fps=24))), "generated", "fps"
    )
    with pytest.raises(InputError, match=r"0\.mp4: plays at 24 fps, not at 12: open its video at that rate"):
        score_record(videos, clips(2), ScoreOptions(metrics=METRIC, view=View(fps=12)))


def test_both_sides_are_brought_to_the_rate_asked_for(tmp_path: Path) -> None:
    """Each frame three times at 30 a second, taken at 10 a second, is the video of 10 a second."""
    slow, fast = write(tmp_path / "slow", 1, 10), write(tmp_path / "fast", 1, 30, repeat=3)
    other = write(tmp_path / "other", 2, 10)
    at_ten = run(fast, other, fps=10).scores[0]
    assert marks(run(fast, other, fps=10), "fps") == []
    plain = run(slow, other).scores[0]
    assert at_ten.value == pytest.approx(plain.value, rel=0.05)  # they were encoded one by one
    assert run(fast, other, frames=16).scores[0].value != pytest.approx(plain.value, rel=0.2)
    assert "|fps:10|" in at_ten.signature
    assert at_ten.digest != plain.digest
    digests = {run(slow, other, fps=fps, frames=8).scores[0].digest for fps in (5, 10, "stored", "30000/1001")}
    assert len(digests) == 4
    by_hand = vdm_bench.score(fast, other, [METRIC], fps=10)[0]
    assert (by_hand.value, by_hand.digest) == (at_ten.value, at_ten.digest)


def test_marks_are_the_same_from_stored_features(tmp_path: Path) -> None:
    slow, fast = write(tmp_path / "slow", 1, 10), write(tmp_path / "fast", 2, 30, repeat=3)
    first = run(slow, fast, out=tmp_path / "out", frames=16)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "features").rglob("*.safetensors")}
    again = run(slow, fast, out=tmp_path / "out", frames=16)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.scores == first.scores
    assert marks(again, "fps")
    run(slow, fast, out=tmp_path / "out", frames=16, fps=10)
    more = [path for path in (tmp_path / "out" / "features").rglob("*.safetensors") if path not in before]
    # Videos of 10 frames a second are the same clips at that rate, and features are found by what clips hold.
    assert [path.parent.name for path in more] == ["reference"]


def test_frames_shown_for_unequal_times_are_marked_if_taken_as_stored(tmp_path: Path) -> None:
    still, other = tmp_path / "still", write(tmp_path / "other", 2, 8)
    still.mkdir()
    for number, clip in enumerate(clips(1)):
        clip[5:12] = clip[5]
        images = [Image.fromarray(frame) for frame in clip]
        images[0].save(
            still / f"{number}.webp", save_all=True, append_images=images[1:], duration=125, lossless=True
        )
    by_time = run(still, other)
    assert marks(by_time, "fps", "uneven") == []
    assert "|in:20x32x32>" in by_time.scores[0].signature
    assert marks(run(still, other, fps="stored", frames=10), "uneven") == [
        "6 generated clips shown at uneven times, read frame by frame"
    ]


@pytest.mark.parametrize("rate", ["0", "-8", "fast", "nan", "1/0"])
def test_the_command_refuses_what_is_no_rate(tmp_path: Path, rate: str) -> None:
    np.save(tmp_path / "a.npy", clips(1))
    result = CliRunner().invoke(
        cli, ["score", str(tmp_path / "a.npy"), "--reference", str(tmp_path / "a.npy"), f"--fps={rate}"]
    )
    assert result.exit_code == 2
    assert "--fps" in result.output
    assert "write 8, 23.976, 30000/1001 or stored" in " ".join(result.output.split())


def test_the_command_takes_rates_of_all_kinds(tmp_path: Path) -> None:
    videos = write(tmp_path / "videos", 1, 10)
    for rate in ("5", "7.5", "30000/1001", "stored"):
        command = [
            "score",
            str(videos),
            "--reference",
            str(videos),
            "--metric",
            METRIC,
            "--frames",
            "9",
            "--fps",
            rate,
        ]
        result = CliRunner().invoke(cli, command)
        assert result.exit_code == 0, result.output
        assert f"|fps:{'15/2' if rate == '7.5' else rate}|" in result.output


def test_views_with_a_rate_that_cannot_be_are_refused() -> None:
    for fps in (0, -1, Fraction(0)):
        with pytest.raises(InputError, match="frames per second"):
            View(fps=fps)
