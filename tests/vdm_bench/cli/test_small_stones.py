"""Help in groups, sources and rules that are asked for, run folders in the place of files, exact plurals."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from tiny_model import TINY

from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.metrics.networks import PACKAGED, load_network
from vdm_bench.reference_model import build_model
from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model
from vdm_bench.reference_model.config import SamplingConfig, get_preset
from vdm_bench.reference_model.model import checkpoint_path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def call(text: str) -> Result:
    return CliRunner().invoke(cli, text.split())


def test_every_verb_is_in_one_group_of_the_help() -> None:
    text = call("--help").stdout
    titles = ["Measure:", "Compare:", "Reference model:", "Data, weights and samplers:"]
    places = [text.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places)
    listed = [line.split()[0] for line in text[places[0] :].splitlines() if line[:2] == "  " and line[2] != " "]
    assert sorted(listed) == sorted(cli.commands)


@pytest.mark.parametrize("verb", ["score a --reference b", "explain a --reference b --to fvd", "sample shapes"])
def test_bilinear_is_asked_about(verb: str) -> None:
    result = call(f"{verb} --resize bilinear")
    assert result.exit_code == 2
    for rule in ("antialias (Pillow)", "half-pixel (PyTorch", "align-corners", "tf1-bilinear (TensorFlow 1"):
        assert rule in result.stderr


def test_a_run_without_clips_names_all_three_sources() -> None:
    result = call("run shapes-unconditional")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: no clips to score: give --sampler NAME, --sampler-command CMD, or --clips PATH of existing ones\n"
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("stps=3", "unknown option 'stps'; did you mean 'steps'?"),
        ("nope=3", "unknown option 'nope'"),
        ("steps=0", "steps 0 is out of range"),
    ],
)
def test_a_dry_run_of_a_table_refuses_wrong_options(option: str, message: str) -> None:
    result = call(f"reproduce table5 --on-shapes --dry-run --option {option}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert call("reproduce table5 --on-shapes --dry-run --option text=a.safetensors").exit_code == 0


def write_model(path: Path) -> None:
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, build_model(TINY), CheckpointInfo("tiny", TINY, SamplingConfig(sampler="ddim", steps=1)))


def test_a_training_run_stands_for_its_model() -> None:
    write_model(Path("runs/mine/model.safetensors"))
    assert checkpoint_path("runs/mine") == Path("runs/mine/model.safetensors")
    result = call("sample runs/mine --count 1 --out a.gif")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(" as gif; 1 network evaluation per clip\n")
    assert result.stderr.startswith("sampling: 1 evaluation in ")


def test_a_folder_without_a_model_does_not_hide_a_packaged_one() -> None:
    Path("runs").mkdir()
    assert checkpoint_path("runs") == Path("runs")


@pytest.mark.parametrize("name", ["s4.avi", "s4.MOV", "clips.npy", "a.webp"])
def test_files_that_are_not_written_are_refused(name: str) -> None:
    result = call(f"sample shapes --out {name}")
    assert (result.exit_code, list(Path().iterdir())) == (2, [])
    assert "files cannot be written; choose .mp4, .webm, .gif, .png, or a name without a suffix" in result.stderr


def test_an_unknown_section_of_a_preset_proposes() -> None:
    with pytest.raises(InputError, match="unknown section of a preset 'trainin'; did you mean 'training'"):
        get_preset("shapes").override("trainin", steps=1)


def test_verify_takes_the_clips_of_the_run_folder() -> None:
    assert call("run shapes-unconditional --sampler noise --limit 4 --out run --workers 1").exit_code == 0
    for record in ("run", "run/run.json"):
        result = call(f"verify {record} --workers 1")
        assert result.exit_code == 0, result.output
        words = [line.split()[1] for line in result.stdout.splitlines()[:-1]]
        assert words[0] == "valid,"
        assert words.count("equal:") + words.count("equal;") == 4
    np.save("elsewhere.npy", np.zeros((4, 16, 32, 32, 3), np.uint8))
    Path("run/samples").rename("moved")
    lost = call("verify run")
    assert (
        lost.exit_code,
        "there are no clips in run/samples; name them with --samples PATH" in lost.stderr,
    ) == (
        2,
        True,
    )
    assert call("verify run --samples moved --workers 1").exit_code == 0


def test_lists_load_no_torch_and_agree_with_the_packaged_network() -> None:
    verbs = ["protocols", "metrics", "networks", "weights", "datasets", "samplers"]
    code = f"""
import sys
from click.testing import CliRunner
from vdm_bench.cli import cli
for verb in {verbs}:
    assert CliRunner().invoke(cli, ["list", verb]).exit_code == 0, verb
    assert "torch" not in sys.modules, verb
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    spec = load_network("embedded").spec
    layers = ", ".join(f"{layer} [{d}]" for layer, d in spec.layers.items())
    assert f"layers {layers}; from {spec.min_frames} frames;" in PACKAGED["embedded"]
