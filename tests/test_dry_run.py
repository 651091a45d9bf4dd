"""What a run says before it is carried out."""

from pathlib import Path

import miniatures
import pytest
from click.testing import CliRunner, Result
from tiny_model import TINY

from vdm_bench.cli import cli
from vdm_bench.reference_model import build_model
from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model
from vdm_bench.runs.forecast import amount


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def dry(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments), "--dry-run"])


def test_counts_bytes_and_time_are_said_and_nothing_is_written(tmp_path: Path) -> None:
    result = dry("shapes-unconditional", "--sampler", "noise", "--limit", "100")
    assert result.exit_code == 0, result.output
    first, samples, features, time, departure = result.stdout.splitlines()
    assert first == "a dry run: nothing is written"
    assert samples == f"samples: 100 clips of 16x32x32, {amount(100 * 16 * 32 * 32 * 3)}"
    assert features.startswith("features: 100 clips and 1,024 real ones, ")
    assert time.startswith("time: about ")
    assert "s a clip); timed on a few clips" in time
    assert departure == "departs from the protocol: generated 100 of 1024 clips"
    assert list(tmp_path.iterdir()) == []


def test_evaluations_of_the_network_are_counted(tmp_path: Path) -> None:
    network = build_model(TINY, frames=16, resolution=32)
    save_model(tmp_path / "tiny.safetensors", network, CheckpointInfo("tiny", network.config))
    options = [f"checkpoint={tmp_path / 'tiny.safetensors'}", "steps=3", "sampler=predictor-corrector"]
    arguments = [part for option in options for part in ("--option", option)]
    result = dry("shapes-unconditional", "--sampler", "reference", *arguments)
    assert result.exit_code == 0, result.output
    # Three predictor steps, and a correction after each but the last.
    assert "; 5 network evaluations per clip, 5,120 in total" in result.stdout


def test_weights_that_are_not_here_are_named_and_not_fetched(tmp_path: Path) -> None:
    root = miniatures.write_bair(tmp_path / "data")
    result = dry("bair-prediction", "--sampler", "real", "--data-root", root)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "weights to download: i3d-k400" in lines
    assert "departs from the protocol: 3 of 256 conditions" in lines
    assert lines[1].startswith("samples: 300 clips of 16x64x64")


def test_ready_clips_and_bad_input_are_looked_at_as_in_a_run(tmp_path: Path) -> None:
    result = dry("shapes-unconditional", "--clips", tmp_path)
    assert result.exit_code == 0, result.output
    assert "samples: 1,024 clips of 16x32x32, 0 B" in result.stdout
    assert dry("shapes-unconditional").exit_code == 2
    assert "give --data-root" in dry("bair-prediction", "--sampler", "real").stderr


def test_amounts() -> None:
    assert [amount(size) for size in (0, 999, 1000, 5_033_164_800, 10**16)] == [
        "0 B",
        "999 B",
        "1 kB",
        "5.03 GB",
        "1e+04 TB",
    ]
