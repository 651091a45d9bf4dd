"""The table of datasets: every row opens, names stay as they were, and a new dataset takes one new row."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from paths import ROOT

from vdm_bench import run
from vdm_bench.datasets import kinetics, ucf101
from vdm_bench.datasets.registry import DATASETS, DatasetEntry, DatasetOption
from vdm_bench.datasets.shapes.dataset import CLASS_COUNT
from vdm_bench.datasets.windows import VideoSet, WindowChoice, WindowedClips
from vdm_bench.errors import InputError
from vdm_bench.protocols import Protocol, get_protocol, protocol_names
from vdm_bench.protocols.clips import prepared_name, source_of, task_signature
from vdm_bench.protocols.prepare import check_data, prepare
from vdm_bench.reference_model.config import get_preset
from vdm_bench.runtime.progress import Silent
from vdm_bench.training.data import open_batches
from vdm_bench.video.clip import Clip, ClipInfo, DescribedClips
from vdm_bench.video.view import FrameTransform, View, unchanged

NAMES = json.loads((ROOT / "tests/golden/protocols/names.json").read_text("utf-8"))


@pytest.mark.parametrize("name", protocol_names())
def test_digests_and_names_of_protocols_stay_as_they_were(name: str) -> None:
    protocol = get_protocol(name)
    assert {
        "digest": protocol.digest,
        "task": task_signature(protocol),
        "reference": source_of(protocol, protocol.reference),
        "conditions": source_of(protocol, protocol.conditions),
        "prepared_reference": prepared_name(protocol, protocol.reference, protocol.resolution),
        "prepared_conditions": prepared_name(protocol, protocol.conditions, protocol.sample_size),
    } == NAMES[name]


@pytest.mark.parametrize("name", DATASETS)
def test_each_row_names_one_opener_that_is_there(name: str) -> None:
    entry = DATASETS[name]
    assert bool(entry.videos) != bool(entry.clips)
    module, _, opener = (entry.videos or entry.clips).partition(":")
    assert callable(getattr(importlib.import_module(f"vdm_bench.datasets.{module}"), opener))


def test_classes_of_the_rows_are_those_of_the_readers() -> None:
    found = {name: entry.classes for name, entry in DATASETS.items() if entry.classes}
    assert found == {"shapes": CLASS_COUNT, "ucf101": ucf101.CLASSES, "kinetics600": kinetics.CLASSES}


def test_the_table_is_read_without_loading_a_reader() -> None:
    code = (
        "import sys, vdm_bench.datasets.registry\n"
        "print(*[name for name in sys.modules if 'datasets' in name], 'numpy' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == ["vdm_bench.datasets", "vdm_bench.datasets.registry", "False"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("shapes-class", {"dataset": "shape"}, "there is no dataset 'shape'; choose one of shapes, bair, "),
        ("shapes-class", {"camera": "main"}, "shapes has no field camera, which is of bair"),
        ("shapes-class", {"colour": "red"}, "shapes has no field colour"),
        ("bair-prediction", {"camera": "top"}, "bair needs camera, one of main, aux1"),
        ("ucf101-class", {"split_list": 4}, "ucf101 needs split_list, one of 1, 2, 3"),
        ("ucf101-class", {"split_list": "1"}, "ucf101 needs split_list, one of 1, 2, 3"),
        ("ucf101-class", {"split_list": True}, "ucf101 needs split_list, one of 1, 2, 3"),
    ],
)
def test_fields_that_are_not_those_of_the_dataset_are_refused(
    name: str, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Protocol.model_validate({**get_protocol(name).model_dump(), **change})


class Waves(VideoSet):
    """Two videos of 20 frames, and one that is missing."""

    missing = ("gone",)
    notes = ("the sea is calm",)

    def __init__(self, root: Path, split: str, tide: str) -> None:
        self.place = f"{root.name} {split} {tide}"

    def __len__(self) -> int:
        return 2

    def info(self, index: int) -> ClipInfo:
        return ClipInfo(f"{self.place} {index}")

    def length(self, index: int) -> int:
        return 20

    def read(
        self, index: int, frames: Sequence[int], transform: FrameTransform = unchanged
    ) -> tuple[np.ndarray, bool]:
        return np.stack([transform(np.full((32, 32, 3), frame, np.uint8)) for frame in frames]), False


class Noise(DescribedClips):
    """Computed clips."""

    def __init__(self, split: str, *, seed: int, resolution: int, frames: int) -> None:
        self.shape, self.seed = (frames, resolution, resolution, 3), seed
        self.name = f"noise-v1/{split}/seed{seed}"

    @property
    def identity(self) -> str:
        return self.name

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> Clip:
        frames = np.random.default_rng([self.seed, index]).integers(0, 256, self.shape, np.uint8)
        return Clip(frames, str(index))

    def info(self, index: int) -> ClipInfo:
        return ClipInfo(str(index))

    def fingerprint(self, index: int) -> str:
        return f"{self.name} {index} {self.shape}"


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows of two more datasets."""
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    module = ModuleType("vdm_bench.datasets.toys")
    module.Waves, module.Noise = Waves, Noise  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tide = DatasetOption(("low", "high"), "Of waves: the tide.")
    waves = DatasetEntry("Waves", "the sea", "none", "nothing", videos="toys:Waves", options={"tide": tide})
    monkeypatch.setitem(DATASETS, "waves", waves)
    monkeypatch.setitem(DATASETS, "noise", DatasetEntry("Noise", "here", "none", "nothing", clips="toys:Noise"))


def toy_protocol(dataset: str, **fields: object) -> Protocol:
    counts = {"reference_count": 2, "generated_count": 2, "metrics": ["embedded/fvd"]}
    content = get_protocol("shapes-unconditional").model_dump() | {"dataset": dataset, **counts, **fields}
    return Protocol.model_validate(content)


@pytest.mark.usefixtures("toys")
def test_a_row_of_videos_is_all_that_a_run_needs(tmp_path: Path) -> None:
    (tmp_path / "sea").mkdir()
    protocol = toy_protocol("waves", tide="low")
    record = run(protocol, out=tmp_path / "run", sampler="real", data_root=tmp_path / "sea")
    assert record.reference.source.startswith("waves-low/test/first@")
    assert record.protocol.departures == ["1 of 3 videos of waves/test are missing"]
    assert protocol.digest != toy_protocol("waves", tide="high").digest
    assert prepared_name(protocol, protocol.reference, 32) != prepared_name(
        toy_protocol("waves", tide="high"), protocol.reference, 32
    )


@pytest.mark.usefixtures("toys")
def test_clips_of_a_new_dataset_are_prepared_like_those_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "sea").mkdir()
    protocol, made = toy_protocol("waves", tide="low"), tmp_path / "made"
    prepare(protocol, tmp_path / "sea", made, workers=1, skip_broken=False, reporter=Silent())
    again = run(protocol, out=tmp_path / "again", sampler="real", data_root=made)
    direct = run(protocol, out=tmp_path / "run", sampler="real", data_root=tmp_path / "sea")
    assert (again.scores, again.protocol) == (direct.scores, direct.protocol)
    for root, notes in ((tmp_path / "sea", ["the sea is calm"]), (made, [])):
        for side in check_data(protocol, root, decode=False, workers=1, reporter=Silent()):
            assert (side.videos, side.missing, side.notes) == (2, ["gone"], notes)


@pytest.mark.usefixtures("toys")
def test_a_row_of_computed_clips_needs_no_data(tmp_path: Path) -> None:
    record = run(toy_protocol("noise"), out=tmp_path / "run", sampler="real")
    assert record.reference.source == "noise-v1/test/seed0"
    preset = get_preset("shapes").override("training", dataset="noise").override("model", classes=0)
    assert open_batches(preset).identity == "noise-v1/train/seed0"
    with pytest.raises(InputError, match="needs no preparation: the clips of noise are computed when needed"):
        prepare(toy_protocol("noise"), tmp_path, tmp_path, workers=1, skip_broken=False, reporter=Silent())
    with pytest.raises(InputError, match=r"noise has no classes; set model\.classes to 0"):
        open_batches(get_preset("shapes").override("training", dataset="noise"))


def test_what_is_known_of_videos_is_known_of_their_clips(tmp_path: Path) -> None:
    clips = WindowedClips(Waves(tmp_path, "test", "low"), WindowChoice(), View(frames=4))
    assert (list(clips.notes), list(clips.missing), clips.video_count) == (["the sea is calm"], ["gone"], 2)
    computed = Noise("test", seed=0, resolution=32, frames=4)
    assert (list(computed.notes), list(computed.missing), computed.video_count) == ([], [], None)


def test_the_example_of_the_docs_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    text = (ROOT / "docs/adding-a-dataset.md").read_text("utf-8")
    found = re.findall(r"^```(python|py|toml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks = dict(reversed(found))  # the first of each
    module = ModuleType("vdm_bench.datasets.rolling_digits")
    exec(compile(blocks["python"], "adding-a-dataset.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name, entry in eval(f"{{{blocks['py']}}}", {"DatasetEntry": DatasetEntry}).items():
        monkeypatch.setitem(DATASETS, name, entry)
    (tmp_path / "own.toml").write_text(blocks["toml"])
    protocol = get_protocol(str(tmp_path / "own.toml"))
    with pytest.raises(InputError, match=r"holds no rolling digits: expected train\.npy in it"):
        run(protocol, out=tmp_path / "run", sampler="real", data_root=tmp_path)
    pixels = np.random.default_rng(0)
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}.npy", pixels.integers(0, 256, (8, 20, 32, 32, 3), np.uint8))
    record = run(protocol, out=tmp_path / "run", sampler="real", data_root=tmp_path)
    assert record.reference.scored == 8
    assert record.reference.source.startswith("rolling-digits/test/random-seed0@")
    assert record.protocol.departures == []
