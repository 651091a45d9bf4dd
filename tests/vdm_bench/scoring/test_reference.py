"""Scoring by a file of the reference's features, without the dataset."""

import json
import os
from pathlib import Path

import miniatures
import numpy as np
import pytest
from click.testing import CliRunner
from paths import ROOT
from safetensors.numpy import save_file

from vdm_bench import run
from vdm_bench.cli import cli
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.evaluation import FeatureSet
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.runtime.checksums import open_arrays
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.scoring.features import ExtractedFeatures
from vdm_bench.scoring.reference import write_reference


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))


class Noise:
    def sample(self, request: SampleRequest) -> np.ndarray:
        shape = (request.frames, request.height, request.width, 3)
        return np.stack([np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in request.seeds])


def write_protocol(path: Path, **changes: object) -> tuple[Path, Protocol]:
    """UCF101 as a small protocol on the embedded network, in a file."""
    lines = (Path("vdm_bench/protocols/ucf101-unconditional.toml").resolve()).read_text("utf-8").splitlines()
    values = {
        "reference_count": 20,
        "generated_count": 6,
        "metrics": '["embedded/fvd", "embedded/is"]',
        **changes,
    }
    kept = [line for line in lines if line.split(" = ")[0] not in values]
    path.write_text("\n".join([*kept, *(f"{key} = {value}" for key, value in values.items())]))
    return path, get_protocol(str(path))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def export(protocol: Path, root: Path, out: Path) -> str:
    arguments = ["data", "export-reference", str(protocol), "--data-root", str(root), "--out", str(out)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("here")
def test_the_file_scores_as_the_clips_do_and_needs_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = miniatures.write_ucf101(tmp_path / "data")
    path, protocol = write_protocol(tmp_path / "p.toml")
    said = export(path, root, tmp_path / "made.safetensors")
    assert said.startswith(
        f"{tmp_path / 'made.safetensors'}: features of 20 clips of ucf101-1/train/random-seed0-x10@"
    )
    with_clips = run(protocol, out=tmp_path / "a", sampler=Noise(), data_root=root)
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "another cache"))
    with_file = run(protocol, out=tmp_path / "b", sampler=Noise(), reference_stats=tmp_path / "made.safetensors")
    assert with_file.scores == with_clips.scores
    assert with_file.protocol == with_clips.protocol
    assert with_file.reference == with_clips.reference
    assert list((tmp_path / "another cache").glob("**/*.safetensors")) == []  # nothing was computed
    with pytest.raises(InputError, match="needs the dataset ucf101; give --data-root"):
        run(protocol, out=tmp_path / "c", sampler=Noise())
    with pytest.raises(
        InputError, match="needs the dataset ucf101; give --data-root"
    ):  # a baseline is made of clips
        run(protocol, out=tmp_path / "d", sampler="blurred", reference_stats=tmp_path / "made.safetensors")


def write_older(made: Path, older: Path) -> None:
    """Write a file as the first version did: without checksums, and at first without digests of the clips."""
    with open_arrays(made) as stored:
        arrays = {name: stored.read(name) for name in stored.shapes}
        facts = {**stored.facts, "version": 1}
    del facts["digests"]
    save_file(arrays, older, {"vdm_bench": json.dumps(facts)})


@pytest.mark.usefixtures("here")
def test_clips_of_the_reference_among_the_generated_ones_are_marked(tmp_path: Path) -> None:
    """Whether the reference's clips are read, found in the cache, or known by a file of features alone."""
    root = miniatures.write_ucf101(tmp_path / "data")
    path, protocol = write_protocol(tmp_path / "p.toml")
    export(path, root, tmp_path / "made.safetensors")
    real = open_dataset(protocol, protocol.reference, root)
    copied = np.stack([real[index].frames for index in (3, 19, 3)])
    changed = copied.copy()
    changed[:, 0, 0, 0, 0] ^= 1
    np.save(tmp_path / "clips.npy", np.concatenate([changed, copied]))

    def marks(out: str, **source: Path) -> list[tuple[str, ...]]:
        record = run(protocol, out=tmp_path / out, clips=tmp_path / "clips.npy", **source)
        return [tuple(mark for mark in score.marks if "of the reference" in mark) for score in record.scores]

    expected = [("3 generated clips are clips of the reference",), ()]  # an inception score has no reference
    assert marks("read", data_root=root) == marks("cached", data_root=root) == expected
    assert marks("file", reference_stats=tmp_path / "made.safetensors") == expected
    write_older(tmp_path / "made.safetensors", tmp_path / "older.safetensors")
    assert marks("older", reference_stats=tmp_path / "older.safetensors") == [(), ()]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "change",
    [
        {"reference_count": 10},
        {"reference": '{ split = "train", seed = 1, windows = "random", per_video = 10 }'},
        {"resolution": 32},
        {"aspect": '"stretch"'},
    ],
)
def test_the_file_of_another_reference_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    root = miniatures.write_ucf101(tmp_path / "data")
    path, _ = write_protocol(tmp_path / "p.toml")
    export(path, root, tmp_path / "made.safetensors")
    _, other = write_protocol(tmp_path / "other.toml", **change)
    with pytest.raises(InputError, match="holds the reference of ucf101-unconditional, which is not that of"):
        run(other, out=tmp_path / "a", sampler=Noise(), reference_stats=tmp_path / "made.safetensors")
    assert not (tmp_path / "a" / "samples").exists()  # it shows before anything is made


@pytest.mark.usefixtures("here")
def test_a_file_without_a_network_of_the_protocol_is_refused(tmp_path: Path) -> None:
    root = miniatures.write_ucf101(tmp_path / "data")
    path, _ = write_protocol(tmp_path / "p.toml", metrics='["embedded/is"]')
    export(path, root, tmp_path / "made.safetensors")
    _, other = write_protocol(tmp_path / "other.toml")
    with pytest.raises(
        InputError, match=r"has no features of embedded@\w+, layer features, as this run computes"
    ):
        run(other, out=tmp_path / "a", sampler=Noise(), reference_stats=tmp_path / "made.safetensors")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("content", ["nothing", "garbage", "bare", "wrong"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    _, protocol = write_protocol(tmp_path / "p.toml")
    path = tmp_path / "some.safetensors"
    if content == "garbage":
        path.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    elif content != "nothing":
        metadata = {"vdm_bench": '{"format": "other"}'} if content == "wrong" else None
        save_file({"x": np.zeros(3)}, path, metadata)
    with pytest.raises(InputError, match=r"some.safetensors is not a file of reference features"):
        run(protocol, out=tmp_path / "a", sampler=Noise(), reference_stats=path)


@pytest.mark.usefixtures("here")
def test_features_that_a_network_does_not_give_are_not_exported(tmp_path: Path) -> None:
    _, protocol = write_protocol(tmp_path / "p.toml")
    network = EmbeddedNetwork()
    refused = {"logits": "embedded gives NaN or infinity in its layer 'logits' for the clip 3"}
    features = FeatureSet(
        "data", (16, 64, 64), 2, lambda layer: [np.zeros((2, 128), np.float32)], refused=refused
    )
    with pytest.raises(InputError, match=r"the features of the reference are not complete: embedded gives NaN"):
        write_reference(tmp_path / "out.safetensors", protocol, [network], ExtractedFeatures([features], []))
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.usefixtures("here")
def test_names_that_utf_8_cannot_hold_cost_no_file(tmp_path: Path) -> None:
    _, protocol = write_protocol(tmp_path / "p.toml")
    features = FeatureSet("data", (16, 64, 64), 2, lambda layer: [np.zeros((2, 128), np.float32)])
    broken = [BrokenClipError("a\udcff\x1b/\ud800.mp4", "cut \udce9")]
    path = tmp_path / os.fsdecode(b"out\xff\n.safetensors")
    write_reference(path, protocol, [EmbeddedNetwork()], ExtractedFeatures([features], broken), ["lacks a\udcff"])
    with open_arrays(path) as file:
        facts = file.facts
    assert facts["broken"] == [["a\\udcff\x1b/\\ud800.mp4", "cut \\udce9"]]
    assert facts["departures"] == ["lacks a\\udcff"]
