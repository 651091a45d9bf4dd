"""Training: a run's result depends on its settings, and not on interruptions or who computes what."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_training
import torch
from safetensors.torch import load_file
from tiny_training import MODEL, STEADY, Clips, tiny, train_tiny
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.checkpoint import load_model
from vdm_bench.reference_model.training.log import LogLine
from vdm_bench.reference_model.training.loop import Hooks
from vdm_bench.reference_model.training.step import RandomStream, stream_seed
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runtime.locks import hold
from vdm_bench.runtime.process_identity import ProcessIdentity

LAST = "checkpoints/step-000000006.safetensors"


def state(out: Path, name: str = LAST) -> dict[str, Tensor]:
    return load_file(out / name)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def farthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert train_tiny(out) == 6
    return out


def run_program(arguments: Sequence[str], processes: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), tiny_training.__file__, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_the_weights_move_as_adam_says(tmp_path: Path) -> None:
    """Adam's first step moves each weight by the learning rate, or not at all where the gradient is zero."""
    preset = tiny(steps=1, warmup_steps=0, schedule="constant", clip_norm=0.0)
    train_tiny(tmp_path / "run", preset)
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(0, RandomStream.WEIGHTS, 0))
        start = dict(VideoUNet(MODEL).named_parameters())
    after = state(tmp_path / "run", "checkpoints/step-000000001.safetensors")
    moved = after["weights.exit.weight"] - start["exit.weight"].detach()
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 1e-3), rtol=1e-3, atol=0)
    # The average's first decay is 1/10.
    expected = 0.1 * start["exit.weight"].detach() + 0.9 * after["weights.exit.weight"]
    torch.testing.assert_close(after["average.exit.weight"], expected)


def test_the_average_follows_its_recursion(tmp_path: Path) -> None:
    preset = tiny(ema=0.25, steps=4)
    train_tiny(tmp_path / "run", preset, checkpoint_every=1)
    last, before = (state(tmp_path / "run", f"checkpoints/step-00000000{step}.safetensors") for step in (4, 3))
    for name in (name.removeprefix("average.") for name in last if name.startswith("average.")):
        decay = min(0.25, 4 / 13)
        expected = decay * before[f"average.{name}"] + (1 - decay) * last[f"weights.{name}"]
        torch.testing.assert_close(last[f"average.{name}"], expected)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    lines: list[LogLine] = []
    preset = tiny(steps=60, batch=8, learning_rate=2e-3, joint_images=0)
    hooks = Hooks(on_log=lines.append)
    train_tiny(tmp_path / "run", preset, hooks, clips=Clips(flat=True), log_every=10, checkpoint_every=60)
    assert lines[-1].loss < 0.8 * lines[0].loss


def test_clipping_bounds_the_gradient_and_the_log_tells_its_norm(tmp_path: Path) -> None:
    lines: list[LogLine] = []
    preset = tiny(steps=1, clip_norm=1e-3, warmup_steps=0)
    train_tiny(tmp_path / "run", preset, Hooks(on_log=lines.append), log_every=1)
    moments = state(tmp_path / "run", "checkpoints/step-000000001.safetensors")
    # After one step, exp_avg is (1 - 0.9) times the clipped gradient.
    norm = math.sqrt(
        sum(float(v.double().square().sum()) for k, v in moments.items() if k.startswith("exp_avg."))
    )
    assert norm == pytest.approx(0.1 * 1e-3, rel=1e-3)
    assert lines[0].gradient_norm > 1e-3


def test_a_run_ends_with_averaged_weights_that_load(whole: Path) -> None:
    network, info = load_model(whole / "model.safetensors")
    saved = state(whole)
    assert all(torch.equal(value, saved[f"average.{name}"]) for name, value in network.named_parameters())
    assert (info.name, info.step, info.training["seed"]) == ("tiny", 6, 0)


def test_the_folder_holds_two_states_and_nothing_pickled(whole: Path) -> None:
    files = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
    assert files == [
        "checkpoints/step-000000004.safetensors",
        LAST,
        "config.json",
        "log.jsonl",
        "model.safetensors",
    ]


def test_the_log_has_loss_by_noise_level(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    for line in lines:
        assert line["loss"] > 0
        assert min(line["loss_by_log_snr"].values()) <= line["loss"] <= max(line["loss_by_log_snr"].values())


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_tiny(tmp_path / "run", tiny(steps=1))
    assert torch.equal(torch.rand(3), expected)


# --- interrupted


def test_a_run_that_stopped_goes_on_to_the_same_weights_bit_for_bit(whole: Path, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    assert train_tiny(tmp_path / "run", hooks=Hooks(should_stop=lambda: next(asked))) == 3
    assert train_tiny(tmp_path / "run") == 6
    assert same(state(tmp_path / "run"), state(whole))
    assert (tmp_path / "run/model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_run_whose_files_an_editor_saved_goes_on(tmp_path: Path) -> None:
    """With a byte order mark and ends of lines of Windows; the log's last line is half."""
    train_tiny(tmp_path, tiny(steps=2, schedule="constant"))
    config, log = tmp_path / "config.json", tmp_path / "log.jsonl"
    config.write_text(config.read_text("utf-8"), "utf-8-sig")
    log.write_text(log.read_text("utf-8").replace("\n", "\r\n") + '{"step": 2, "lo', "utf-8-sig")
    assert train_tiny(tmp_path, tiny(steps=4, schedule="constant")) == 4
    assert [json.loads(line)["step"] for line in log.read_text("utf-8").split("\n")[:-1]] == [2, 4]


def test_a_killed_process_goes_on_to_the_same_weights_bit_for_bit(whole: Path, tmp_path: Path) -> None:
    """SIGKILL comes after line 4 of the log and before its checkpoint: the run goes on from step 2."""
    out = tmp_path / "run"
    killed = run_program(["killed", str(out), "4"])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-000000002.safetensors"]
    notes: list[str] = []
    assert train_tiny(out, hooks=Hooks(on_note=notes.append)) == 6
    assert "going on at step 2" in notes[0]
    assert same(state(out), state(whole))
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]


def test_what_a_killed_writer_left_is_removed(whole: Path, tmp_path: Path) -> None:
    dead = dataclasses.replace(ProcessIdentity.current(), process=2**31 - 7)
    half = tmp_path / f"run/checkpoints/.step-000000002.part-{dead}-0a1b2c3d.safetensors"
    train_tiny(tmp_path / "run", tiny(steps=1))
    half.write_bytes(b"half")
    train_tiny(tmp_path / "run", tiny(steps=1))
    assert not half.exists()


def test_all_ranks_end_if_another_job_is_training_in_their_folder(tmp_path: Path) -> None:
    with hold(tmp_path / "ddp", "train"):
        ran = run_program(["shared", str(tmp_path)], processes=2)
        assert ran.returncode != 0
        assert f"ddp is being written by process {os.getpid()} on " in ran.stderr
        assert "PeerError: another process of this job has stopped" in ran.stderr
    assert not (tmp_path / "ddp").exists()


def test_a_finished_run_says_so_and_does_nothing(whole: Path) -> None:
    before, notes = (whole / LAST).stat().st_mtime_ns, list[str]()
    assert train_tiny(whole, hooks=Hooks(on_note=notes.append)) == 6
    assert notes == [f"{whole} is trained already: 6 steps"]
    assert (whole / LAST).stat().st_mtime_ns == before


# --- several processes

# Sums in another order differ by float32 rounding, 6e-8 of a gradient's size. Adam divides by that size, so a
# weight moves by up to the learning rate, 1e-3, times the relative error: where the gradient itself is near zero
# that can be of order 1e-2, over six steps.
ROUNDING = 6 * 1e-3 * 1e-2


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes; starting them takes longer than the runs."""
    out = tmp_path_factory.mktemp("two")
    ran = run_program(["shared", str(out)], processes=2)
    assert ran.returncode == 0, ran.stderr
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in one process."""
    out = tmp_path_factory.mktemp("one")
    train_tiny(out, STEADY)
    return out


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_train_what_one_does_up_to_rounding(kind: str, two_processes: Path, alone: Path) -> None:
    assert farthest(state(two_processes / kind), state(alone)) < ROUNDING


def test_a_batch_in_pieces_gives_the_same_weights_up_to_rounding(alone: Path, tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", STEADY.override("training", accumulation=2))
    assert 0 < farthest(state(tmp_path / "run"), state(alone)) < ROUNDING


def test_tensorboard_of_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"run\xff")
    with pytest.raises(InputError, match=r"whose name is not UTF-8; choose another --out"):
        train_tiny(out, tensorboard=True)
    assert train_tiny(out) > 0
