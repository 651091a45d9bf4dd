"""Installed packages add samplers, datasets and protocols by entry points."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vdm_bench
from vdm_bench.cli import cli
from vdm_bench.datasets.registry import dataset_entry, dataset_names
from vdm_bench.errors import InputError
from vdm_bench.protocols import builtin_names, get_protocol, protocol_names
from vdm_bench.protocols.eligibility import why_unranked
from vdm_bench.samplers import describe_samplers, make_sampler, sampler_kind
from vdm_bench.samplers.base import SamplerSetup

MODULE = """
import numpy as np

from vdm_bench.datasets.registry import DatasetEntry
from vdm_bench.datasets.windows import VideoSet
from vdm_bench.video.clip import ClipInfo
from vdm_bench.video.view import unchanged


class Ramps(VideoSet):
    def __init__(self, root, split):
        self.split = split

    def __len__(self):
        return 12

    def info(self, index):
        return ClipInfo(str(index))

    def length(self, index):
        return 16

    def read(self, index, frames, each=unchanged):
        random = np.random.default_rng(index + 100 * (self.split == "test"))
        video = random.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
        return np.stack([each(video[frame]) for frame in frames]), False


RAMPS = DatasetEntry("Ramps", "nowhere", "none", "nothing", videos=Ramps)
WRONG = "not an entry"


def gray(request, level="7"):
    return np.full((len(request), request.frames, request.height, request.width, 3), int(level), np.uint8)
"""

PROTOCOL = """
name = "ramps"
title = "Ramps"
task = "unconditional"
dataset = "ramps"
frames = 16
resolution = 32
context_frames = 0
reference = { split = "test" }
reference_count = 8
conditions = { split = "train" }
generated_count = 8
metrics = ["embedded/fvd", "own.toml"]
"""

RECIPE = 'base = "embedded/fvd"\nname = "ramps/fvd"\n'

POINTS = """
[vdm_bench.samplers]
gray = ramps_plugin:gray
noise = ramps_plugin:gray
gone = ramps_plugin:missing

[vdm_bench.datasets]
ramps = ramps_plugin:RAMPS
wrong = ramps_plugin:WRONG

[vdm_bench.protocols]
ramps = ramps_plugin
unwritten = ramps_plugin
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip installs it, found on the path."""
    site = tmp_path / "site"
    package, info = site / "ramps_plugin", site / "ramps_plugin-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text(MODULE)
    (package / "ramps.toml").write_text(PROTOCOL)
    (package / "own.toml").write_text(RECIPE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ramps-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "ramps_plugin", raising=False)
    return package


@pytest.mark.usefixtures("plugin")
def test_all_three_are_listed_without_importing_samplers() -> None:
    assert describe_samplers()["gray"] == "ramps_plugin:gray, of an installed package"
    assert {"ramps", "bair"} <= set(dataset_names())
    assert "ramps" in protocol_names()
    assert "ramps" not in builtin_names()
    assert "ramps_plugin" not in sys.modules


def test_one_package_brings_dataset_protocol_and_sampler(plugin: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    line = ["run", "ramps", "--sampler", "gray", "--option", "level=9", "--data-root", str(root)]
    result = CliRunner().invoke(cli, [*line, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    record = vdm_bench.run("ramps", out=tmp_path / "run", sampler="gray", options={"level": "9"}, data_root=root)
    assert (record.sampler.kind, record.sampler.spec, record.sampler.settings) == (
        "callable",
        "gray",
        {"level": "9"},
    )
    assert [score.metric for score in record.scores] == ["embedded/fvd", "ramps/fvd"]
    assert record.scores[0].value == record.scores[1].value
    assert record.protocol is not None
    assert why_unranked({"protocol": record.protocol.name}) == "it follows no protocol of this package"
    checked = CliRunner().invoke(cli, ["data", "check", "ramps", "--data-root", str(root)])
    assert "8 of 8 clips" in checked.output


@pytest.mark.usefixtures("plugin")
def test_names_of_the_package_come_first() -> None:
    assert sampler_kind("noise") == "baseline"
    assert "installed" not in describe_samplers()["noise"]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: dataset_entry("wrong"), r"entry point wrong of vdm_bench\.datasets is not .*DatasetEntry"),
        (lambda: get_protocol("unwritten"), r"package ramps_plugin holds no unwritten\.toml"),
        (
            lambda: make_sampler("gone", SamplerSetup([], {})),
            r"sampler gone of the package ramps-plugin cannot be im",
        ),  # type: ignore[arg-type]
        (lambda: make_sampler("grey", SamplerSetup([], {})), "unknown sampler 'grey'; did you mean 'gray'"),  # type: ignore[arg-type]
        (lambda: get_protocol("ramp"), "unknown protocol 'ramp'; did you mean 'ramps'"),
        (lambda: dataset_entry("ramp"), "unknown dataset 'ramp'; did you mean 'ramps'"),
    ],
)
def test_what_is_wrong_with_a_package_is_one_sentence(use: object, message: str) -> None:
    assert callable(use)
    with pytest.raises(InputError, match=message):
        use()


def test_a_protocol_of_another_name_is_refused(plugin: Path) -> None:
    (plugin / "ramps.toml").write_text(PROTOCOL.replace('name = "ramps"', 'name = "slopes"'))
    with pytest.raises(InputError, match=r"ramps\.toml in ramps_plugin names its protocol 'slopes'"):
        get_protocol("ramps")


def test_paths_in_a_protocol_are_relative_to_its_file(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plugin)
    here = get_protocol("ramps.toml")
    monkeypatch.chdir(tmp_path)
    there = get_protocol(str(plugin / "ramps.toml"))
    assert there.metrics == ("embedded/fvd", str(plugin / "own.toml"))
    assert get_protocol("ramps").metrics == there.metrics
    assert here.digest == there.digest == get_protocol("ramps").digest
    assert there.model_copy(update={"metrics": ("embedded/fvd",)}).digest != there.digest


@pytest.mark.parametrize(
    ("metric", "message"),
    [("embeded/fvd", "unknown metric 'embeded/fvd'; did you mean 'embedded/fvd'"), ("no.toml", "no.toml")],
)
def test_data_check_reads_the_metrics(plugin: Path, tmp_path: Path, metric: str, message: str) -> None:
    (plugin / "ramps.toml").write_text(PROTOCOL.replace("own.toml", metric))
    result = CliRunner().invoke(cli, ["data", "check", "ramps", "--data-root", str(tmp_path)])
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_clips_of_an_installed_sampler_are_those_of_its_module(plugin: Path, tmp_path: Path) -> None:
    protocol = get_protocol("shapes-unconditional").model_copy(
        update={"generated_count": 4, "reference_count": 4, "metrics": ("embedded/fvd",)}
    )
    named, spelled = (
        vdm_bench.run(protocol, out=tmp_path / name.replace(":", "."), sampler=name)
        for name in ("gray", "ramps_plugin:gray")
    )
    assert named.generated.digest == spelled.generated.digest
    assert np.isfinite(named.scores[0].value or 0.0)
