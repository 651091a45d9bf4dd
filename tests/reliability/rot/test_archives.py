"""Archives and prepared clips that rot are refused by name, and poison no cache."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rotting import (
    CASES,
    COUNT,
    FRAMES,
    flip,
    values,
)
from small_data import folder_protocol

from vdm_bench.datasets.folder import open_clips
from vdm_bench.errors import BrokenClipsError, InputError
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.protocols.clips import open_prepared
from vdm_bench.protocols.prepare import prepare
from vdm_bench.runtime.files import cache_folder
from vdm_bench.runtime.progress import Silent
from vdm_bench.scoring.feature_files import read_header
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.scoring.reference import collect_reference
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.clip import Clip, clip_digest, digest_of
from vdm_bench.video.contents import load_clip
from vdm_bench.video.view import View


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples") / "archive"
    frames = FRAMES[:, :9, :8, :8]
    ArchiveWriter(folder, (9, 8, 8)).append(
        [Clip(clip, f"clip {n}", n % 3, "a shape") for n, clip in enumerate(frames)]
    )
    return folder


def content(folder: Path) -> list[tuple[object, ...]]:
    """Everything that is read of an archive."""
    clips = open_clips(folder)
    if not len(clips) == COUNT:
        raise InputError(f"{folder} has another number of clips")
    return [
        (clip.frames.tobytes(), clip.key, clip.label, clip.caption, clip.lossy)
        for clip in map(clips.__getitem__, range(len(clips)))
    ]


@pytest.mark.parametrize("seed", range(60))
def test_a_bit_that_flips_in_an_archive_is_named_or_changes_nothing(
    seed: int, samples: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(samples, tmp_path / "archive"))
    draw = random.Random(seed)
    path = draw.choice(sorted(folder.iterdir()))
    place = flip(path, draw)
    found: object
    try:
        found = content(folder)
    except InputError as error:
        found = str(error)
    assert found == content(samples) or str(path) in str(found), (path, place)


def test_a_rotten_clip_says_which_and_the_way_out(samples: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(samples, tmp_path / "archive"))
    path = folder / "shard-000001.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    message = (
        r"shard-000001\.npy: clip 5 \(clip 69\): its pixels are not those that were written \(SHA-256 differs\); "
        "make the shard again: delete its two files and run again, or the folder and prepare it again"
    )
    with pytest.raises(InputError, match=message):
        Archive(folder)[69]
    with pytest.raises(BrokenClipsError, match=message):
        FeatureExtractor([], 2, False, Silent()).collect(open_clips(folder), COUNT, tmp_path / "f", "samples")
    with pytest.raises(InputError, match=message):
        ArchiveWriter(folder, (9, 8, 8)).append([Clip(FRAMES[0, :9, :8, :8], "more")])


def test_an_archive_of_before_is_read_as_it_is(samples: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(samples, tmp_path / "archive"))
    for path in folder.glob("*.json"):
        before = json.loads(path.read_text())
        for key in {"checksum", "shard", "made_by"} & before.keys():
            del before[key]
        path.write_text(json.dumps(before))
    assert content(folder) == content(samples)
    flip(folder / "shard-000000.npy", random.Random(3))
    with pytest.raises(InputError, match=r"shard-000000\.npy"):
        content(folder)


def test_a_clip_is_hashed_once(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counted(frames: np.ndarray) -> str:
        hashed.append(len(frames))
        return clip_digest(frames)

    monkeypatch.setattr("vdm_bench.video.archive.clip_digest", counted)
    monkeypatch.setattr("vdm_bench.video.clip.clip_digest", counted)
    for view, times in ((View(), [9]), (View(frames=9), [9]), (View(frames=4), [9, 4])):
        hashed.clear()
        loaded = load_clip(open_clips(samples, view), 66)
        assert hashed == times
        assert loaded.digest == clip_digest(loaded.clip.frames)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "view",
    [View(frames=4), View(stride=2), View(size=(4, 4), rule="antialias"), View(frames=3, stride=3)],
    ids=str,
)
def test_a_clip_whose_frames_have_changed_has_another_digest(view: View, samples: Path) -> None:
    clip = open_clips(samples, view)[66]
    assert digest_of(clip) == clip_digest(clip.frames) != digest_of(Archive(samples)[66])
    assert Archive(samples)[66].digest is not None
    assert replace(Archive(samples)[66], frames=FRAMES[0]).digest is None


@pytest.mark.parametrize("case", sorted(CASES.glob("archive-*")), ids=lambda path: path.name)
def test_an_archive_that_was_found_by_fuzzing_is_refused(case: Path, samples: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(samples, tmp_path / "archive"))
    name, data = case.read_bytes().split(b"\0", 1)
    (folder / name.decode()).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name.decode()} is damaged"):
        content(folder)


# Prepared clips


def test_rotten_prepared_clips_are_refused_and_poison_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "test").mkdir(parents=True)
    for number, clip in enumerate(FRAMES[:6]):
        np.save(tmp_path / "data" / "test" / f"{number}.npy", clip)
    protocol = folder_protocol(6)
    (made,) = prepare(
        protocol, tmp_path / "data", tmp_path / "data", workers=2, skip_broken=False, reporter=Silent()
    )
    pixels = np.load(made.folder / "shard-000000.npy")
    rotten = pixels.copy()
    rotten[2, 5, 5, 5, 1] ^= 16
    np.save(made.folder / "shard-000000.npy", rotten)
    clips = open_prepared(made.folder)
    assert clips is not None
    collector = FeatureExtractor([EmbeddedNetwork()], 2, False, Silent())
    with pytest.raises(BrokenClipsError, match=r"1 of 6 clips in the reference .*shard-000000\.npy: clip 2 "):
        collect_reference(protocol, clips, collector)
    read = {clip_digest(frames) for number, frames in enumerate(rotten) if number != 2}
    kept = [read_header(path).digests for path in (cache_folder() / "features").glob("*.safetensors")]
    assert {digest for digests in kept for digest in digests} <= read
    np.save(made.folder / "shard-000000.npy", pixels)
    found = collect_reference(protocol, clips, collector)
    assert found.digests == [clip_digest(frames) for frames in pixels]
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "another"))
    assert values(collect_reference(protocol, clips, collector)) == values(found)
