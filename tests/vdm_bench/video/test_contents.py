"""What is remembered of clips is true of the bytes that are there."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_data import MemoryClips, folder_protocol, measure_frames

from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.protocols.prepare import prepare
from vdm_bench.runtime import stamps
from vdm_bench.runtime.checksums import read_json, write_json
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Console
from vdm_bench.scoring.features import ExtractedFeatures, FeatureExtractor
from vdm_bench.video import contents
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.arrays import ArrayClips
from vdm_bench.video.clip import Clip, ClipDataset, clip_digest
from vdm_bench.video.contents import digest_of_clips

FRAMES = np.stack([Shapes("test")[i].frames for i in range(130)])
OTHER = 255 - FRAMES
BLIND = SimpleNamespace(st_size=99, st_mtime_ns=1, st_ctime_ns=1, st_ino=7, st_dev=7)

Writer = Callable[[Path, np.ndarray], None]


class Network(EmbeddedNetwork):
    """Counts the clips it looks at."""

    seen = 0

    def __call__(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        type(self).seen += len(clips)
        return super().__call__(clips)


@pytest.fixture(autouse=True)
def _unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "seen", 0)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that tells the same of all files, whatever is in them."""
    monkeypatch.setattr(stamps, "stat_of", lambda path: BLIND)


def collect(dataset: ClipDataset, folder: Path, **options: object) -> ExtractedFeatures:
    made = FeatureExtractor([Network()], 2, True, Console(), **options)  # type: ignore[arg-type]
    return made.collect(dataset, len(dataset), folder, "clips")


def features(collected: ExtractedFeatures) -> np.ndarray:
    return np.concatenate(list(collected.features[0].blocks("features")))


def write_files(folder: Path, clips: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for number, clip in enumerate(clips):
        np.save(folder / f"{number:03}.npy", clip)


def write_one_array(folder: Path, clips: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / "all.npy", clips)


def write_archive(folder: Path, clips: np.ndarray) -> None:
    writer = ArchiveWriter(folder, (16, 32, 32))
    for number, start in enumerate(range(0, len(clips), 64)):
        writer.write_shard(number, [Clip(frames, str(n)) for n, frames in enumerate(clips[start : start + 64])])


def write_frames(folder: Path, clips: np.ndarray) -> None:
    from PIL import Image

    for number, clip in enumerate(clips[:12]):
        (folder / f"{number:03}").mkdir(parents=True, exist_ok=True)
        for time, frame in enumerate(clip):
            Image.fromarray(frame).save(folder / f"{number:03}" / f"{time}.png", compress_level=0)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("write", [write_files, write_one_array, write_archive, write_frames])
def test_other_clips_with_the_sizes_and_times_of_the_first_are_read(
    write: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for frames in (FRAMES, OTHER):
        write(tmp_path / "clips", frames)
        for path in (tmp_path / "clips").rglob("*.*"):
            os.utime(path, (315532800, 315532800))
        found.append(collect(open_clips(tmp_path / "clips"), tmp_path / "cache"))
    assert "not what it was" not in capsys.readouterr().err  # the file system tells, no chance is needed
    count = found[0].features[0].count
    for frames, made in zip((FRAMES, OTHER), found, strict=True):
        assert made.digest == digest_of_clips(clip_digest(clip) for clip in frames[:count])
    assert not np.array_equal(features(found[0]), features(found[1]))


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("write", [write_files, write_one_array])
def test_what_no_file_system_tells_a_sample_of_the_clips_does(
    write: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "clips", FRAMES)
    collect(open_clips(tmp_path / "clips"), tmp_path / "cache")
    write(tmp_path / "clips", OTHER)
    capsys.readouterr()
    made = collect(open_clips(tmp_path / "clips"), tmp_path / "cache")
    assert made.digest == digest_of_clips(map(clip_digest, OTHER))
    assert np.array_equal(features(made), features(collect(open_clips(tmp_path / "clips"), tmp_path / "fresh")))
    assert "is not what it was when it was last read, though its file looks the same" in capsys.readouterr().err
    again = collect(open_clips(tmp_path / "clips"), tmp_path / "cache")
    assert again.digest == made.digest
    assert "not what it was" not in capsys.readouterr().err


class Chosen:
    """Chance that always falls on the same rows, as far as there are so many."""

    def __init__(self, *rows: int) -> None:
        self.rows, self.asked = rows, list[int]()

    def sample(self, population: Sequence[int], k: int) -> list[int]:
        self.asked.append(k)
        return [population[min(row, len(population) - 1)] for row in self.rows][:k]


def test_one_clip_of_another_content_throws_all_blocks_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collect(MemoryClips(FRAMES), tmp_path)
    seen = Network.seen
    changed = FRAMES.copy()
    changed[64 + 5] ^= 1
    monkeypatch.setattr(contents, "_RANDOM", Chosen(4, 6))
    missed = collect(MemoryClips(changed), tmp_path)
    assert missed.digest == digest_of_clips(map(clip_digest, FRAMES))  # what a sample cannot see
    monkeypatch.setattr(contents, "_RANDOM", Chosen(5, 9))
    clips = MemoryClips(changed)
    found = collect(clips, tmp_path)
    assert "clips: clip69 is not what it was" in capsys.readouterr().err
    assert set(clips.read) == set(range(130))
    assert found.digest == digest_of_clips(map(clip_digest, changed))
    assert Network.seen == seen + 64  # the blocks of the same content need no network


def test_the_sample_is_another_each_time_and_one_clip_in_32(tmp_path: Path) -> None:
    collect(MemoryClips(FRAMES), tmp_path)
    samples = set()
    for _ in range(3):
        clips = MemoryClips(FRAMES)
        collect(clips, tmp_path)
        samples.add(tuple(sorted(clips.read)))
    assert {len(sample) for sample in samples} == {2 + 2 + 1}
    assert len(samples) == 3


@pytest.mark.parametrize(("count", "read"), [(1, 1), (20, 1), (63, 1), (64, 2), (65, 3), (127, 3), (640, 20)])
def test_the_sample_is_at_most_a_twentieth_of_any_set_of_20(count: int, read: int, tmp_path: Path) -> None:
    frames = np.broadcast_to(FRAMES[0, :4, :8, :8], (count, 4, 8, 8, 3))
    clips = MemoryClips(frames)
    for _ in range(2):
        clips.read = []
        FeatureExtractor([], 2, False, Console()).collect(clips, count, tmp_path, "clips")
    assert len(clips.read) == read
    assert read <= max(1, count / 20)


def test_recheck_reads_every_clip_and_asks_no_network(tmp_path: Path) -> None:
    before = collect(MemoryClips(FRAMES), tmp_path)
    Network.seen, clips = 0, MemoryClips(FRAMES)
    assert collect(clips, tmp_path, recheck=True).digest == before.digest
    assert (sorted(clips.read), Network.seen) == (list(range(130)), 0)
    changed = FRAMES.copy()
    changed[77] ^= 1
    assert collect(MemoryClips(changed), tmp_path, recheck=True).digest == digest_of_clips(
        map(clip_digest, changed)
    )


@pytest.mark.usefixtures("settled")
def test_files_that_only_look_changed_are_read_again_and_need_no_network(tmp_path: Path) -> None:
    """As after a copy, or on a file system that makes inodes anew at each mount."""
    write_files(tmp_path / "clips", FRAMES[:70])
    before = collect(open_clips(tmp_path / "clips"), tmp_path / "cache")
    (tmp_path / "clips").rename(tmp_path / "moved")
    Network.seen = 0
    after = collect(open_clips(tmp_path / "moved"), tmp_path / "cache")
    assert Network.seen == 0
    assert after.digest == before.digest
    assert np.array_equal(features(before), features(after))


def test_clips_of_files_just_written_are_not_remembered(tmp_path: Path) -> None:
    write_files(tmp_path / "clips", FRAMES[:3])
    collect(open_clips(tmp_path / "clips"), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.json"))


@pytest.mark.usefixtures("settled")
def test_clips_that_change_while_they_are_read_are_not_remembered(tmp_path: Path) -> None:
    write_files(tmp_path / "clips", FRAMES[:3])

    class Late(Network):
        def __call__(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
            (tmp_path / "clips" / "001.npy").unlink(missing_ok=True)
            return super().__call__(clips)

    FeatureExtractor([Late()], 1, True, Console()).collect(
        open_clips(tmp_path / "clips"), 3, tmp_path / "cache", "clips"
    )
    assert not list((tmp_path / "cache").glob("*.json"))


def test_a_clip_that_was_broken_is_always_tried_again(tmp_path: Path) -> None:
    """It may have been the disk's fault, or the network's."""

    class Weak(MemoryClips):
        broken = True

        def __getitem__(self, index: int) -> Clip:
            if self.broken and index == 50:
                raise BrokenClipError("clip50", "cannot be opened")
            return super().__getitem__(index)

    clips = Weak(FRAMES)
    assert [error.source for error in collect(clips, tmp_path).broken] == ["clip50"]
    clips.read = []
    assert [error.source for error in collect(clips, tmp_path).broken] == ["clip50"]
    assert len(clips.read) == 1 + 2 + 1  # a sample of those that can be read: one of 63, two of 64, one of 2
    clips.broken = False
    assert collect(clips, tmp_path).digest == digest_of_clips(map(clip_digest, FRAMES))


def test_other_versions_of_what_reads_clips_read_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(MemoryClips(FRAMES), tmp_path)
    monkeypatch.setattr(contents, "readers", lambda: "av 0")
    clips = MemoryClips(FRAMES)
    collect(clips, tmp_path)
    assert len(clips.read) == 130


def test_what_another_process_finds_changed_all_read_anew(tmp_path: Path) -> None:
    class Doubting(ProcessGroup):
        def all_true(self, flags: list[bool]) -> list[bool]:
            return flags if len(flags) > 1 else [False]

    collect(MemoryClips(FRAMES), tmp_path)
    clips = MemoryClips(FRAMES)
    collect(clips, tmp_path, processes=Doubting())
    assert set(clips.read) == set(range(130))


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"clips": [[]], "shape": null, "lossy": false}', b"\xff"])
def test_a_damaged_memory_is_as_good_as_none(damage: bytes, tmp_path: Path) -> None:
    before = collect(MemoryClips(FRAMES[:64]), tmp_path)
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(damage)
    clips = MemoryClips(FRAMES[:64])
    assert collect(clips, tmp_path).digest == before.digest
    assert len(clips.read) == 64


@pytest.mark.usefixtures("settled")
def test_an_array_that_is_replaced_is_opened_anew(tmp_path: Path) -> None:
    """A mapping goes on to show the file that was there."""
    write_one_array(tmp_path / "clips", FRAMES[:5])
    clips = open_clips(tmp_path / "clips")
    assert np.array_equal(clips[4].frames, FRAMES[4])
    np.save(tmp_path / "new.npy", OTHER[:4])
    (tmp_path / "new.npy").replace(tmp_path / "clips" / "all.npy")
    assert np.array_equal(clips[3].frames, OTHER[3])
    with pytest.raises(BrokenClipError, match="has 4 clips now, and had more when it was listed"):
        clips[4]
    assert len(ArrayClips(tmp_path / "clips" / "all.npy")) == 4


def measure(clips: ClipDataset, folder: Path, *, recheck: bool = False) -> np.ndarray:
    return measure_frames(clips, 70, folder, recheck=recheck).tables["psnr"]


def test_frames_that_were_measured_are_held_against_their_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = measure(MemoryClips(FRAMES), tmp_path)
    clips = MemoryClips(FRAMES)
    assert np.array_equal(measure(clips, tmp_path), before)
    assert len(clips.read) == 2 + 1
    changed = FRAMES.copy()
    changed[10] ^= 1
    monkeypatch.setattr(contents, "_RANDOM", Chosen(3, 4))
    assert np.array_equal(measure(MemoryClips(changed), tmp_path), before)  # what a sample cannot see
    capsys.readouterr()
    monkeypatch.setattr(contents, "_RANDOM", Chosen(10, 4))
    after = measure(MemoryClips(changed), tmp_path)
    assert "all are measured again" in capsys.readouterr().err
    assert np.flatnonzero((after != before).any(axis=1)).tolist() == [10]
    changed[60] ^= 1
    assert np.flatnonzero(
        (measure(MemoryClips(changed), tmp_path, recheck=True) != after).any(axis=1)
    ).tolist() == [60]


@pytest.mark.parametrize("whole", [True, False])
def test_prepared_clips_are_held_against_the_data_they_are_of(whole: bool, tmp_path: Path) -> None:
    def prepared() -> str | None:
        options = {"workers": 2, "skip_broken": True, "reporter": Console()}
        (made,) = prepare(folder_protocol(70), tmp_path / "data", tmp_path / "out", **options)  # type: ignore[arg-type]
        assert made.clips == 70
        return collect(open_clips(made.folder), tmp_path / "cache").digest

    (tmp_path / "data").mkdir()
    write_files(tmp_path / "data" / "test", FRAMES[:70])
    first = prepared()
    assert prepared() == first == digest_of_clips(map(clip_digest, FRAMES[:70]))
    if not whole:
        (state,) = (tmp_path / "out").glob("*/prepared.json")
        write_json(state, read_json(state) | {"whole": False})
    write_files(tmp_path / "data" / "test", OTHER[:70])
    with pytest.raises(InputError, match="holds other clips than those of the videos that are there now; delete"):
        prepared()
    (tmp_path / "data" / "test").rename(tmp_path / "gone")
    if whole:
        assert prepared() == first
