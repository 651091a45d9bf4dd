"""Reference files that rot are refused by name; a run whose files rot has the same scores in the end."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rotting import (
    CASES,
    COUNT,
    DIGEST,
    FRAMES,
    flip,
    nested,
    values,
    with_facts,
)
from safetensors.numpy import save
from small_data import MemoryClips

from vdm_bench import run
from vdm_bench.errors import BrokenClipsError, DamagedError, InputError
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.evaluation import Evaluation
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.runtime.checksums import open_arrays
from vdm_bench.runtime.files import cache_folder
from vdm_bench.runtime.progress import Console, Silent
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.scoring.reference import note_on, read_reference, write_reference


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Protocol, bytes]:
    folder = tmp_path_factory.mktemp("reference")
    protocol = get_protocol("shapes-unconditional").model_copy(update={"reference_count": COUNT})
    networks = [EmbeddedNetwork()]
    made = FeatureExtractor(networks, 2, False, Silent()).collect(
        MemoryClips(FRAMES), COUNT, folder / "features", "real", "shapes"
    )
    write_reference(folder / "made.safetensors", protocol, networks, made)
    return folder / "made.safetensors", protocol, values(made)


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_in_a_reference_file_is_named_early(
    seed: int, reference: tuple[Path, Protocol, bytes], tmp_path: Path
) -> None:
    made, protocol, _ = reference
    path = Path(shutil.copy(made, tmp_path / "reference.safetensors"))
    place = flip(path, random.Random(seed))
    with pytest.raises(InputError) as caught:
        read_reference(path, protocol, [EmbeddedNetwork()])
    assert str(path) in str(caught.value), place
    assert "create it again with `vdm-bench data export-reference`" in str(caught.value)


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

    made, protocol, expected = reference
    assert note_on(made) is None
    with open_arrays(made) as stored:
        arrays = {name: stored.read(name) for name in stored.shapes}
        facts = {**stored.facts, "version": 1}
    path = tmp_path / "older.safetensors"
    path.write_bytes(save(arrays, {"vdm_bench": json.dumps(facts)}))
    assert values(read_reference(path, protocol, [EmbeddedNetwork()])) == expected
    assert "without checksums, so damage to it cannot be detected" in (note_on(path) or "")
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
    with_facts(path, **facts)
    with pytest.raises(InputError, match=r"reference\.safetensors is not a file of reference features"):
        read_reference(path, reference[1], [EmbeddedNetwork()])


@pytest.mark.parametrize("case", sorted(CASES.glob("reference-stats-*")), ids=lambda path: path.name)
def test_a_reference_file_that_was_found_by_fuzzing_is_refused(
    case: Path, reference: tuple[Path, Protocol, bytes]
) -> None:
    with pytest.raises(InputError, match=rf"{case.name} (is not a file|cannot be read)"):
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
