"""Features and measures of frames that rot are computed again to the last bit, and never scored."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rotting import (
    CASES,
    COUNT,
    DIGEST,
    FRAMES,
    as_dangling_link,
    as_folder,
    as_pipe,
    collect,
    flip,
    nested,
    rewrite,
    values,
    with_facts,
)
from safetensors.numpy import save
from small_data import MemoryClips, measure_frames

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.metrics.evaluation import Evaluation
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.runtime.checksums import checksum, write_json
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.scoring.feature_files import read_header
from vdm_bench.video.clip import clip_digest


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
def test_a_flipped_bit_in_a_folder_of_features_changes_nothing(
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
    found = collect(stored, processes=Alone())
    path = block_of(stored, 6)
    flip(path, random.Random(seed))
    assert values(found) == whole[1]
    assert f"features of 6 clips in {path} were damaged and are computed again" in capsys.readouterr().err
    assert path.read_bytes() == block_of(whole[0], 6).read_bytes()


class Alone(ProcessGroup):
    """A process whose peers take part in nothing behind the collecting."""

    def send(self, data: bytes | None, owner: int) -> bytes:
        raise AssertionError("the others are not there")


def stored_with(said: str) -> bytes:
    """A file whose header is of another kind, with a sound checksum."""
    header = {"stored": f"{checksum(said.encode())}\n{said}"}
    return bytes(save({"0.logits": np.zeros((6, 240), np.float32)}, header))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a missing layer": lambda path: rewrite(path, lambda a: {"0.logits": a["0.logits"]}),
    "no layer": lambda path: rewrite(path, lambda a: {}),
    "too few rows": lambda path: rewrite(path, lambda a: {name: x[:-1].copy() for name, x in a.items()}),
    "rows of one layer": lambda path: rewrite(
        path, lambda a: a | {"0.logits": np.concatenate([a["0.logits"]] * 2)}
    ),
    "too few dimensions": lambda path: rewrite(path, lambda a: {name: x[:, 1:].copy() for name, x in a.items()}),
    "one axis": lambda path: rewrite(path, lambda a: {name: x.ravel() for name, x in a.items()}),
    "float64": lambda path: rewrite(path, lambda a: {name: x.astype(np.float64) for name, x in a.items()}),
    "integers": lambda path: rewrite(path, lambda a: {name: x.view(np.int32) for name, x in a.items()}),
    "no facts": lambda path: rewrite(path, facts={}),
    "facts that are a list": lambda path: rewrite(path, facts=[1]),
    "digests that are true": lambda path: with_facts(path, digests=True),
    "digests that are a number": lambda path: with_facts(path, digests=6),
    "digests of numbers": lambda path: with_facts(path, digests=[1e308] * 6),
    "digests of lists": lambda path: with_facts(path, digests=[[DIGEST]] * 6),
    "digests of words": lambda path: with_facts(path, digests=["NaN"] * 6),
    "digests of other clips": lambda path: with_facts(path, digests=[DIGEST] * 6),
    "too many digests": lambda path: with_facts(path, digests=[DIGEST] * 7),
    "reasons in a list": lambda path: with_facts(path, refused=["0.logits"]),
    "a reason that is a number": lambda path: with_facts(path, refused={"0.logits": 1}),
    "deep nesting": lambda path: with_facts(path, digests=nested(900)),
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
    clips = MemoryClips(FRAMES.copy())
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
    measures = measure_frames(MemoryClips(FRAMES), COUNT, folder)
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
        lambda block: rewrite(block, lambda a: {"psnr": a["psnr"][:, :-1].copy()}),
        lambda block: rewrite(block, lambda a: {"psnr": a["psnr"].astype(np.float32)}),
        lambda block: rewrite(block, lambda a: {"ssim": a["psnr"]}),
        lambda block: with_facts(block, truths=[DIGEST]),
        lambda block: with_facts(block, clips=None),
        lambda block: with_facts(block, lossy="no"),
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
