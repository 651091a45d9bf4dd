"""BAIR in its own format, from real robot videos of published pages."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tfrecord_files import encoded, trajectory, write_records

from vdm_bench.datasets.bair import FRAMES, Bair
from vdm_bench.datasets.windows import WindowChoice, WindowedClips
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.view import View

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 2, FRAMES, 64, 64, 3), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five trajectories in two files; the names sort otherwise than the numbers."""
    folder = tmp_path / "softmotion30_44k" / "test"
    records = [trajectory(*pair, number=number) for number, pair in enumerate(PIXELS)]
    write_records(folder / "traj_0_to_2.tfrecords", records[:3])
    write_records(folder / "traj_10_to_11.tfrecords", records[4:])
    write_records(folder / "traj_3_to_3.tfrecords", records[3:4])
    (folder / "notes.txt").write_text("no records")
    return tmp_path


def test_trajectories_come_in_the_order_of_their_numbers(root: Path) -> None:
    videos = Bair(root, "test")
    assert [videos.info(index).key for index in range(len(videos))] == [
        "test/0",
        "test/1",
        "test/2",
        "test/3",
        "test/10",
    ]
    for index in range(5):
        frames, lossy = videos.read(index, range(FRAMES))
        assert np.array_equal(frames, PIXELS[index, 0])
        assert not lossy


@pytest.mark.usefixtures("settled")
def test_both_cameras_actions_and_positions_are_there(root: Path) -> None:
    side = Bair(root / "softmotion30_44k", "test", "aux1")
    frames, _ = side.read(2, [29, 0])
    assert np.array_equal(frames, PIXELS[2, 1, [29, 0]])
    assert side.actions(2).shape == (30, 4)
    assert side.actions(2)[7].tolist() == [0.0, 2.0, 7.0, -1.5]
    assert side.positions(4)[5].tolist() == [4.5, 0.5, -0.25]
    assert side.fingerprint(2) != Bair(root, "test", "main").fingerprint(2)


def test_the_trajectories_of_a_link_to_nothing_are_missing(root: Path) -> None:
    folder = root / "softmotion30_44k" / "test"
    (folder / "traj_4_to_9.tfrecords").symlink_to("nowhere")
    (folder / ".traj_12_to_12.tfrecords").write_text("hidden, and no records")
    assert len(Bair(root, "test")) == 5
    assert "test/4" in Bair(root, "test").missing


def test_a_file_that_vanishes_makes_broken_clips(root: Path) -> None:
    videos = Bair(root, "test")
    (root / "softmotion30_44k" / "test" / "traj_3_to_3.tfrecords").unlink()
    assert "is not there" in (videos.fingerprint(3) or "")
    with pytest.raises(BrokenClipError, match=r"traj_3_to_3.*: cannot be read: no such file"):
        videos.read(3, [0])


def test_a_protocols_windows_are_the_first_or_all(root: Path) -> None:
    first = WindowedClips(Bair(root, "test"), WindowChoice("first"), View(frames=16))
    assert len(first) == 5
    assert np.array_equal(first[3].frames, PIXELS[3, 0, :16])
    every = WindowedClips(Bair(root, "test"), WindowChoice("every"), View(frames=16))
    assert len(every) == 5 * 15
    clip = every[15 + 14]
    assert (clip.key, np.array_equal(clip.frames, PIXELS[1, 0, 14:])) == ("test/1@14", True)


def test_a_damaged_record_is_a_broken_clip(root: Path) -> None:
    path = root / "softmotion30_44k/test/traj_3_to_3.tfrecords"
    data = bytearray(path.read_bytes())
    data[1000] ^= 4
    path.write_bytes(data)
    videos = Bair(root, "test")
    with pytest.raises(BrokenClipError, match=r"traj_3_to_3.tfrecords, trajectory 3: does not fit its checksum"):
        videos.read(3, [0])
    videos.read(4, [0])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "has no 0/image_main/encoded"),
        ({"0/image_main/encoded": [b"\x89PNG"]}, "is not the raw bytes of one picture of 64x64x3"),
        ({"0/image_main/encoded": [1.0]}, "is not the raw bytes of one picture of 64x64x3"),
    ],
)
def test_records_of_something_else_are_broken_clips(
    tmp_path: Path, features: dict[str, list[bytes] | list[float]], message: str
) -> None:
    write_records(tmp_path / "test/traj_0_to_0.tfrecords", [encoded(features)])
    videos = Bair(tmp_path, "test")
    with pytest.raises(BrokenClipError, match=message):
        videos.read(0, [0])
    with pytest.raises(BrokenClipError, match="has not 4 floats of action in each frame"):
        videos.actions(0)


def test_a_wrong_folder_is_refused_with_what_was_expected(tmp_path: Path, root: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds no BAIR: expected softmotion30_44k/test/traj_..._to_....tfrecords"
    ):
        Bair(tmp_path / "elsewhere", "test")
    with pytest.raises(InputError, match="holds no BAIR: expected softmotion30_44k/train/"):
        Bair(root, "train")
    with pytest.raises(InputError, match="BAIR has no split 'val'; choose train or test"):
        Bair(root, "val")


def real_pushing(shared_data: Path) -> NDArray[np.uint8]:
    """Frames of a real robot video, uint8 [30, 64, 64, 3], from a published page of predictions."""
    from vdm_bench.video.decode import read_video

    found = sorted((shared_data / "bair_kth_gifs").rglob("*.gif"))
    return read_video(found[0])[:30, :64, :64]


def test_what_tensorflow_wrote_is_read(shared_data: Path, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: `tox run -e original`")
    pixels = real_pushing(shared_data)
    features = {}
    for time, frame in enumerate(pixels):
        raw = tf.train.BytesList(value=[frame.tobytes()])
        features[f"{time}/image_main/encoded"] = tf.train.Feature(bytes_list=raw)
        action = tf.train.FloatList(value=[time / 8, 0.0, 1.0, -1.0])
        features[f"{time}/action"] = tf.train.Feature(float_list=action)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    (tmp_path / "test").mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / "test/traj_0_to_0.tfrecords")) as writer:
        writer.write(example.SerializeToString())
    videos = Bair(tmp_path, "test")
    assert np.array_equal(videos.read(0, range(30))[0], pixels)
    assert videos.actions(0)[:, 0].tolist() == [time / 8 for time in range(30)]
