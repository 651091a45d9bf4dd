"""`vdm-bench reproduce` as users meet it: plans, wrong input, and a table of a tiny model."""

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_model import TINY

from vdm_bench.cli import cli
from vdm_bench.reference_model import build_model
from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def call(text: str) -> Result:
    return CliRunner().invoke(cli, ["reproduce", *text.split()])


@pytest.mark.parametrize("number", range(1, 7))
def test_a_plan_names_runs_and_what_is_missing_and_writes_nothing(number: int, tmp_path: Path) -> None:
    result = call(f"table{number} --dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"table {number} of Ho et al. 2022, ")
    assert "\nmissing\n- data: " in result.stdout
    assert "- a model: train one (`vdm-bench train " in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_plan_on_shapes_says_what_is_trained_and_tested() -> None:
    result = call("table4 --on-shapes --dry-run --limit 32 --training-steps 50")
    assert "- images-4: small model, 4 image frames; shapes-unconditional, 32 of 1,024 clips" in result.stdout
    assert (
        "`vdm-bench train shapes --set training.joint_images=8 --set training.steps=50 --out DIR`"
        in result.stdout
    )
    assert "hours on a CPU" in result.stdout
    assert "- training with 8 images a video beats training with 4: embedded/fvd, embedded/is" in result.stdout


def test_without_data_the_published_table_is_printed_with_what_is_missing() -> None:
    result = call("table2 --format markdown")
    assert result.exit_code == 0, result.output
    assert "| Video Diffusion Langevin 256 steps | 66.92 | - | - | - |" in result.stdout
    assert "not run (ancestral, langevin), missing a model" in result.stdout


def test_a_table_on_shapes_by_a_model_of_ones_own(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, frames=16, resolution=32, attention_resolutions=())
    save_model(tmp_path / "tiny.safetensors", build_model(config), CheckpointInfo("tiny", config))
    command = "table3 --on-shapes --checkpoint tiny.safetensors --steps 2 --limit 10 --option batch=2"
    result = call(f"{command} --out runs -o table.txt")
    assert result.exit_code == 0, result.output
    text = Path("table.txt").read_text()
    assert text.count("claim: the Langevin corrector beats ancestral sampling at equal cost") == 2
    assert Path("runs/langevin/run.json").is_file()
    other = call(f"{command} --out runs --seed 1")
    assert other.exit_code == 2
    assert "holds a run with another" in other.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("table7", "'table7' is not one of"),
        ("table1 --on-shapes", "there is nothing in it to test on shapes"),
        ("table2 --on-shapes --steps 5", "--steps 5 is odd"),
        ("table2 --steps 4", "--steps works only with --on-shapes"),
        ("table5 --on-shapes --training-steps 4", "--training-steps is for table4 with --on-shapes"),
        (
            "table4 --checkpoint a.safetensors",
            "names no model of this table; give NAME=FILE, with NAME one of images-0",
        ),
        ("table2 --checkpoint b=a.safetensors", "give NAME=FILE, with NAME one of bair"),
        ("table2 --checkpoint missing.safetensors", "missing.safetensors does not exist"),
        ("table2 --limit 5", "Invalid value for '--limit'"),
        ("table2 --option x", "--option 'x' is not KEY=VALUE"),
    ],
)
def test_wrong_input_is_one_sentence(command: str, message: str) -> None:
    result = call(command)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_plan_names_a_checkpoint_that_is_not_there() -> None:
    result = call("table5 --on-shapes --dry-run --checkpoint nofile.safetensors")
    assert result.exit_code == 2
    assert "nofile.safetensors" in result.stderr
