"""Stored files rot: what is damaged is computed again to the last bit, or refused by name, and never scored."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rotting import flip
from safetensors.numpy import save

from vdm_bench import run
from vdm_bench.collect import Collected, Collector
from vdm_bench.conditions import Conditions
from vdm_bench.contents import load_clip
from vdm_bench.datasets.base import Clip, clip_digest, digest_of
from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.shapes import Shapes
from vdm_bench.distributed import World
from vdm_bench.errors import BrokenClipsError, DamagedError, InputError
from vdm_bench.feature_files import read_header
from vdm_bench.files import cache_folder
from vdm_bench.frame_scores import FrameMeter
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.evaluation import Evaluation
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.prepare import prepare
from vdm_bench.progress import Console, Silent
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.protocols.data import open_prepared
from vdm_bench.reference_file import collect_reference, note_on, read_reference, write_reference
from vdm_bench.runtime.checksums import checksum, open_arrays, save_arrays, write_json
from vdm_bench.video.archive import Archive, ArchiveWriter
from vdm_bench.video.view import View

COUNT = 70  # a block of 64 clips and one of 6
FRAMES = np.stack([clip.frames for clip in (Shapes("test", seed=5)[i] for i in range(COUNT))])
CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "fuzz"


class Clips:
    """Clips in memory, whose content is remembered."""

    identity = None

    def __init__(self, frames: np.ndarray = FRAMES) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Clip:
        return Clip(self.frames[index], f"clip{index}")

    def fingerprint(self, index: int) -> str:
        return f"clip {index}"


def collect(folder: Path, clips: Clips | None = None, **options: object) -> Collected:
    options = {"networks": [EmbeddedNetwork()], **options}
    made = Collector(workers=2, skip_broken=False, reporter=Console(), **options)  # type: ignore[arg-type]
    return made.collect(clips or Clips(), COUNT, folder, "clips")


def values(collected: Collected) -> bytes:
    """All features of a side, to the last bit."""
    (features,) = collected.features
    return b"".join(
        block.tobytes() for layer in EmbeddedNetwork().spec.layers for block in features.blocks(layer)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder of features, and what is in it."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, values(collect(folder))


@pytest.fixture
def stored(whole: tuple[Path, bytes], tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole[0], tmp_path / "features"))


def block_of(folder: Path, clips: int) -> Path:
    """The file of the block with so many clips."""
    return next(path for path in folder.glob("*.safetensors") if len(read_header(path).digests) == clips)


@pytest.mark.parametrize("seed", range(12))
def test_any_bit_that_flips_in_a_folder_of_features_is_noted_and_changes_nothing(
    seed: int, whole: tuple[Path, bytes], stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(seed)
    path = draw.choice(sorted(stored.iterdir()))
    place = flip(path, draw)
    assert values(collect(stored)) == whole[1], (path, place)
    said = capsys.readouterr().err
    assert str(path) in said, place
    assert "damaged" in said
    capsys.readouterr()
    assert values(collect(stored)) == whole[1]
    assert "damaged" not in capsys.readouterr().err  # it is mended


@pytest.mark.parametrize("seed", range(4))
def test_features_that_rot_while_they_are_scored_are_computed_again(
    seed: int, whole: tuple[Path, bytes], stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By whoever reads them: no other process need take part."""
    found = collect(stored, world=Alone())
    path = block_of(stored, 6)
    flip(path, random.Random(seed))
    assert values(found) == whole[1]
    assert f"features of 6 clips in {path} were damaged and are computed again" in capsys.readouterr().err
    assert path.read_bytes() == block_of(whole[0], 6).read_bytes()


class Alone(World):
    """A process whose peers take part in nothing behind the collecting."""

    def send(self, data: bytes | None, owner: int) -> bytes:
        raise AssertionError("the others are not there")


def rewritten(path: Path, arrays: Callable[[dict[str, np.ndarray]], object] = dict, facts: object = None) -> None:
    """Write a file of features anew, with sound checksums."""
    with open_arrays(path) as old:
        found = {name: old.read(name) for name in old.shapes}
        said = dict(old.facts)
    changed = arrays(found)
    path.write_bytes(save_arrays(changed, said if facts is None else facts))  # type: ignore[arg-type]


def other(path: Path, **facts: object) -> None:
    with open_arrays(path) as old:
        said = {**old.facts, **facts}
    rewritten(path, facts=said)


def nested(depth: int) -> object:
    found: object = []
    for _ in range(depth):
        found = [found]
    return found


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def stored_with(said: str) -> bytes:
    """A file whose header is of another kind, with a sound checksum."""
    header = {"stored": f"{checksum(said.encode())}\n{said}"}
    return bytes(save({"0.logits": np.zeros((6, 240), np.float32)}, header))


DIGEST = "0" * 64
DAMAGE: dict[str, Callable[[Path], object]] = {
    "a missing layer": lambda path: rewritten(path, lambda a: {"0.logits": a["0.logits"]}),
    "no layer": lambda path: rewritten(path, lambda a: {}),
    "too few rows": lambda path: rewritten(path, lambda a: {name: x[:-1].copy() for name, x in a.items()}),
    "rows of one layer": lambda path: rewritten(
        path, lambda a: a | {"0.logits": np.concatenate([a["0.logits"]] * 2)}
    ),
    "too few dimensions": lambda path: rewritten(
        path, lambda a: {name: x[:, 1:].copy() for name, x in a.items()}
    ),
    "one axis": lambda path: rewritten(path, lambda a: {name: x.ravel() for name, x in a.items()}),
    "float64": lambda path: rewritten(path, lambda a: {name: x.astype(np.float64) for name, x in a.items()}),
    "integers": lambda path: rewritten(path, lambda a: {name: x.view(np.int32) for name, x in a.items()}),
    "no facts": lambda path: rewritten(path, facts={}),
    "facts that are a list": lambda path: rewritten(path, facts=[1]),
    "digests that are true": lambda path: other(path, digests=True),
    "digests that are a number": lambda path: other(path, digests=6),
    "digests of numbers": lambda path: other(path, digests=[1e308] * 6),
    "digests of lists": lambda path: other(path, digests=[[DIGEST]] * 6),
    "digests of words": lambda path: other(path, digests=["NaN"] * 6),
    "digests of other clips": lambda path: other(path, digests=[DIGEST] * 6),
    "too many digests": lambda path: other(path, digests=[DIGEST] * 7),
    "reasons in a list": lambda path: other(path, refused=["0.logits"]),
    "a reason that is a number": lambda path: other(path, refused={"0.logits": 1}),
    "deep nesting": lambda path: other(path, digests=nested(900)),
    "without checksums": lambda path: path.write_bytes(save({"0.logits": np.zeros((6, 240), np.float32)})),
    "facts without checksums": lambda path: path.write_bytes(
        save({"0.logits": np.zeros((6, 240), np.float32)}, {"facts": '{"digests": true, "refused": {}}'})
    ),
    "checksums that are no object": lambda path: path.write_bytes(stored_with("[]\n{}")),
    "checksums nested deeply": lambda path: path.write_bytes(stored_with("[" * 5000 + "]" * 5000)),
    "no bytes": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "half a file": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a byte too many": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a header of no JSON": lambda path: path.write_bytes((10).to_bytes(8, "little") + b"{" * 10),
    "a header without end": lambda path: path.write_bytes(b"\xff" * 8 + b"{}"),
    "a folder": as_folder,
    "a pipe": as_pipe,
    "a link to nothing": as_dangling_link,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_of_features_is_computed_again_in_every_case(
    damage: Callable[[Path], object],
    whole: tuple[Path, bytes],
    stored: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = block_of(stored, 6)
    damage(path)
    assert values(collect(stored)) == whole[1]
    said = capsys.readouterr().err
    assert said.count(f"features of 6 clips in {path} were damaged and are computed again") == 1
    assert path.read_bytes() == block_of(whole[0], 6).read_bytes()


def test_a_folder_with_content_in_the_place_of_features_is_named(stored: Path) -> None:
    path = block_of(stored, 6)
    as_folder(path)
    (path / "mine.txt").write_text("not to be deleted")
    with pytest.raises(InputError, match=rf"{path.name} is damaged and cannot be removed: .*; move it away"):
        collect(stored)
    assert (path / "mine.txt").exists()


@pytest.mark.parametrize("case", sorted(CASES.glob("feature-cache-*")), ids=lambda path: path.name)
def test_damage_that_was_found_by_fuzzing_is_computed_again(
    case: Path, whole: tuple[Path, bytes], stored: Path
) -> None:
    block_of(stored, 6).write_bytes(case.read_bytes())
    assert values(collect(stored)) == whole[1]


def test_a_file_of_another_block_is_not_taken_for_this(whole: tuple[Path, bytes], stored: Path) -> None:
    shutil.copy(block_of(stored, 64), block_of(stored, 6))
    assert values(collect(stored)) == whole[1]


def test_a_file_of_another_network_is_not_taken_for_this(
    whole: tuple[Path, bytes], stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same clips, with layers of the same names and dimensions, as one that computes in batches of 5."""
    collect(tmp_path / "others", networks=[EmbeddedNetwork(batch_size=5)])
    path, other = block_of(stored, 6), block_of(tmp_path / "others", 6)
    assert path.name != other.name
    shutil.copy(other, path)
    assert values(collect(stored)) == whole[1]
    assert f"features of 6 clips in {path} were damaged and are computed again" in capsys.readouterr().err
    assert path.read_bytes() == block_of(whole[0], 6).read_bytes()


def test_features_are_not_computed_again_from_clips_that_have_changed(stored: Path) -> None:
    clips = Clips(FRAMES.copy())
    found = collect(stored, clips)
    clips.frames[66] ^= 1
    flip(block_of(stored, 6), random.Random(1))
    side = found.features[0]
    with pytest.raises(DamagedError, match="the clips of clips that its features are of have changed since they"):
        Evaluation(side, side).score(get_recipe("embedded/fvd"), EmbeddedNetwork().spec)


BAD_MEMORY = [
    {"shape": [16, 32]},
    {"shape": [16, 32, "32"]},
    {"shape": [16, 32, True]},
    {"shape": [0, 32, 32]},
    {"shape": None},
    {"lossy": 0},
    {"fps": [None] * 5},
    {"fps": ["8"] * 6},
    {"uneven": -1},
    {"uneven": 1.0},
    {"clips": ["x"] * 6},
    {"clips": [1] * 6},
    {"clips": [["a", 1]] * 6},
    {"clips": None},
    {"more": 1},
]


@pytest.mark.parametrize("change", BAD_MEMORY, ids=str)
def test_memory_of_another_kind_is_forgotten(
    change: dict[str, object],
    whole: tuple[Path, bytes],
    stored: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Though its checksum is sound."""
    path = min(stored.glob("*.json"), key=lambda path: path.stat().st_size)
    clips = [clip_digest(frames) for frames in FRAMES[64:]]
    sound = {"clips": clips, "shape": [16, 32, 32], "lossy": False, "fps": [None] * 6, "uneven": 0}
    write_json(path, sound)
    collect(stored)
    assert "damaged" not in capsys.readouterr().err
    write_json(path, sound | change)
    assert values(collect(stored)) == whole[1]
    assert f"what {path} remembered of clips was damaged; its clips are read again" in capsys.readouterr().err


def measure(folder: Path) -> bytes:
    protocol = get_protocol("shapes-prediction").model_copy(update={"generated_count": COUNT})
    meter = FrameMeter(("psnr",), Conditions(protocol, None), folder, 2, Console(), World())
    measures = meter.measure(Clips(), COUNT)
    return measures.tables["psnr"].tobytes() + "".join(measures.truths).encode()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("measured")
    return folder, measure(folder)


@pytest.mark.parametrize("seed", range(8))
def test_frame_measures_that_rot_are_computed_again(
    seed: int, measured: tuple[Path, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(measured[0], tmp_path / "frames"))
    draw = random.Random(seed)
    path = draw.choice(sorted(folder.glob("*.json" if seed % 2 else "*.safetensors")))
    place = flip(path, draw)
    assert measure(folder) == measured[1], (path, place)
    assert f"clips in {path} were damaged and are computed again" in capsys.readouterr().err
    assert measure(folder) == measured[1]
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        lambda block: rewritten(block, lambda a: {"psnr": a["psnr"][:, :-1].copy()}),
        lambda block: rewritten(block, lambda a: {"psnr": a["psnr"].astype(np.float32)}),
        lambda block: rewritten(block, lambda a: {"ssim": a["psnr"]}),
        lambda block: other(block, truths=[DIGEST]),
        lambda block: other(block, clips=None),
        lambda block: other(block, lossy="no"),
        as_folder,
        as_pipe,
        Path.unlink,
    ],
)
def test_damaged_frame_measures_are_computed_again(
    damage: Callable[[Path], object], measured: tuple[Path, bytes], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(measured[0], tmp_path / "frames"))
    damage(min(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size))
    assert measure(folder) == measured[1]


@pytest.mark.parametrize("name", ["../frames.safetensors", "/etc/passwd", 3, None, ["x"], "frames-0.safetensors"])
def test_a_block_of_frame_measures_has_a_name_of_ours(
    name: object, measured: tuple[Path, bytes], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(measured[0], tmp_path / "frames"))
    write_json(min(folder.glob("*.json")), {"block": name})
    assert measure(folder) == measured[1]


# Archives


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
        Collector([], 2, False, Silent()).collect(open_clips(folder), COUNT, tmp_path / "f", "samples")
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
    monkeypatch.setattr("vdm_bench.datasets.base.clip_digest", counted)
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


def small_folder_protocol() -> Protocol:
    choice = {"split": "test", "seed": 0, "windows": "first"}
    fields = get_protocol("shapes-unconditional").model_dump() | {
        "dataset": "folder",
        "reference": choice,
        "conditions": choice,
        "reference_count": 6,
        "generated_count": 6,
    }
    return Protocol.model_validate(fields)


def test_rotten_prepared_clips_are_refused_and_poison_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data" / "test").mkdir(parents=True)
    for number, clip in enumerate(FRAMES[:6]):
        np.save(tmp_path / "data" / "test" / f"{number}.npy", clip)
    protocol = small_folder_protocol()
    (made,) = prepare(
        protocol, tmp_path / "data", tmp_path / "data", workers=2, skip_broken=False, reporter=Silent()
    )
    pixels = np.load(made.folder / "shard-000000.npy")
    rotten = pixels.copy()
    rotten[2, 5, 5, 5, 1] ^= 16
    np.save(made.folder / "shard-000000.npy", rotten)
    clips = open_prepared(made.folder)
    assert clips is not None
    collector = Collector([EmbeddedNetwork()], 2, False, Silent())
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


# Reference files


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Protocol, bytes]:
    folder = tmp_path_factory.mktemp("reference")
    protocol = get_protocol("shapes-unconditional").model_copy(update={"reference_count": COUNT})
    networks = [EmbeddedNetwork()]
    made = Collector(networks, 2, False, Silent()).collect(Clips(), COUNT, folder / "features", "real", "shapes")
    write_reference(folder / "made.safetensors", protocol, networks, made)
    return folder / "made.safetensors", protocol, values(made)


@pytest.mark.parametrize("seed", range(40))
def test_a_bit_that_flips_in_a_reference_file_is_named_before_anything_is_made(
    seed: int, reference: tuple[Path, Protocol, bytes], tmp_path: Path
) -> None:
    made, protocol, _ = reference
    path = Path(shutil.copy(made, tmp_path / "reference.safetensors"))
    place = flip(path, random.Random(seed))
    with pytest.raises(InputError) as caught:
        read_reference(path, protocol, [EmbeddedNetwork()])
    assert str(path) in str(caught.value), place
    assert "make it anew by `vdm-bench data export-reference`" in str(caught.value)


def test_a_reference_file_that_rots_later_is_named_as_it_is_scored(
    reference: tuple[Path, Protocol, bytes], tmp_path: Path
) -> None:
    path = Path(shutil.copy(reference[0], tmp_path / "reference.safetensors"))
    side = read_reference(path, reference[1], [EmbeddedNetwork()]).features[0]
    score = Evaluation(side, side).score(get_recipe("embedded/fvd"), EmbeddedNetwork().spec)
    assert score.value == pytest.approx(0, abs=1e-9)
    data = bytearray(path.read_bytes())
    for place in (-1, -4 * COUNT * 240 - 1):  # in the one array, and in the other
        data[place] ^= 64
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"reference\.safetensors is damaged: the checksum of "):
        Evaluation(side, side).score(get_recipe("embedded/fvd"), EmbeddedNetwork().spec)


def test_a_reference_file_without_checksums_is_read_with_a_note(
    reference: tuple[Path, Protocol, bytes], tmp_path: Path
) -> None:
    import json

    made, protocol, expected = reference
    assert note_on(made) is None
    with open_arrays(made) as stored:
        arrays = {name: stored.read(name) for name in stored.shapes}
        facts = {**stored.facts, "version": 1}
    path = tmp_path / "older.safetensors"
    path.write_bytes(save(arrays, {"vdm_bench": json.dumps(facts)}))
    assert values(read_reference(path, protocol, [EmbeddedNetwork()])) == expected
    assert "carries no checksums, so damage to it cannot be seen" in (note_on(path) or "")
    # A version that has them cannot be passed off as one that has none.
    path.write_bytes(save(arrays, {"vdm_bench": json.dumps(facts | {"version": 2})}))
    with pytest.raises(InputError, match="that this version reads"):
        read_reference(path, protocol, [EmbeddedNetwork()])


@pytest.mark.parametrize(
    "facts",
    [
        {"count": 0},
        {"count": 2.0},
        {"clip_shape": [16, 32]},
        {"clip_shape": [16, 32, -32]},
        {"broken": [["a"]]},
        {"digests": [DIGEST]},
        {"digest": "x"},
        {"lossy": "no"},
        {"protocol": nested(900)},
        {"unknown": 1},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_facts_of_a_reference_file_that_make_no_sense_are_refused(
    facts: dict[str, object], reference: tuple[Path, Protocol, bytes], tmp_path: Path
) -> None:
    path = Path(shutil.copy(reference[0], tmp_path / "reference.safetensors"))
    other(path, **facts)
    with pytest.raises(InputError, match=r"reference\.safetensors is no file of reference features"):
        read_reference(path, reference[1], [EmbeddedNetwork()])


@pytest.mark.parametrize("case", sorted(CASES.glob("reference-stats-*")), ids=lambda path: path.name)
def test_a_reference_file_that_was_found_by_fuzzing_is_refused(
    case: Path, reference: tuple[Path, Protocol, bytes]
) -> None:
    with pytest.raises(InputError, match=rf"{case.name} (is no file|cannot be read)"):
        read_reference(case, reference[1], [EmbeddedNetwork()])


# Runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Record]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("finished") / "run"
        yield folder, again(folder)


def again(folder: Path) -> Record:
    protocol = get_protocol("shapes-unconditional").model_copy(update={"reference_count": 64})
    return run(protocol, out=folder, sampler="blurred", limit=COUNT, reporter=Console())


@pytest.mark.parametrize("part", ["features", "reference"])
def test_a_run_whose_features_rot_ends_with_the_same_scores(
    part: str, finished: tuple[Path, Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "run"))
    (folder / "run.json").unlink()
    place = folder / "features" if part == "features" else cache_folder() / "features"
    for path in place.glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        for at in range(len(data) - 2000, 8000, -2000):  # in all layers; the header is left whole
            data[at] ^= 64
        path.write_bytes(data)
    assert again(folder).scores == finished[1].scores
    assert "were damaged and are computed again" in capsys.readouterr().err


def test_samples_of_another_run_are_not_scored_as_this_ones(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    folder, other = Path(shutil.copytree(finished[0], tmp_path / "run")), tmp_path / "other"
    protocol = get_protocol("shapes-unconditional").model_copy(update={"reference_count": 64})
    run(protocol, out=other, sampler="real", limit=COUNT, reporter=Console())
    (folder / "run.json").unlink()
    for suffix in ("npy", "json"):
        name = f"shard-000001.{suffix}"
        (folder / "samples" / name).write_bytes((other / "samples" / name).read_bytes())
    with pytest.raises(InputError, match=r"shard-000001\.json: .*it is of another archive; .*run again"):
        again(folder)
    shutil.rmtree(folder / "samples")
    shutil.copytree(other / "samples", folder / "samples")
    with pytest.raises(InputError, match="holds clips that were made otherwise"):
        again(folder)


def test_a_run_whose_samples_rot_names_the_shard_and_goes_on_without_it(
    finished: tuple[Path, Record], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "run"))
    (folder / "run.json").unlink()
    path = folder / "samples" / "shard-000001.npy"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(BrokenClipsError, match=rf"{path}: clip 0 \(64\): .* delete its two files and run again"):
        again(folder)
    assert not (folder / "run.json").exists()
    path.unlink()  # without its pixels it is sampled again
    assert again(folder).scores == finished[1].scores
    (folder / "run.json").unlink()
    path.unlink()
    path.with_suffix(".json").unlink()
    assert again(folder).scores == finished[1].scores
