"""`vdm-bench train` as its users meet it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from vdm_bench.cli import cli
from vdm_bench.cli.train import peers_named
from vdm_bench.runtime.distributed import PeerError
from vdm_bench.runtime.stopping import Stop

# A network that learns nothing in these few steps, but runs in no time.
SMALL = (
    "base_channels=8",
    "multipliers=[1]",
    "head_dim=8",
    "frames=2",
    "embedding_dim=8",
    "attention_resolutions=[]",
)
TINY = ["--device", "cpu", "--workers", "1", *(word for pair in SMALL for word in ("--set", f"model.{pair}"))]


def train(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["train", *arguments])


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def test_a_preset_is_trained_and_the_folder_has_model_log_and_pictures(out: str) -> None:
    result = train("shapes", "--out", out, "--steps", "3", "--batch", "2", "--sample-every", "2", *TINY)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "3 steps of 2 clips, fp32 on cpu; starting" in result.stderr
    assert "step 3 of 3: loss" in result.stderr
    config = json.loads(Path(out, "config.json").read_text())
    assert (config["training.steps"], config["training.batch"], config["model.multipliers"]) == (3, 2, [1])
    assert Path(out, "model.safetensors").exists()
    picture = Image.open(Path(out, "samples", "step-000000003.png"))
    assert picture.size == (2 * 34, 8 * 34)
    again = train("shapes", "--out", out, "--steps", "3", "--batch", "2", *TINY)
    assert (again.exit_code, again.stderr) == (0, f"{out} is trained already: 3 steps\n")


def test_clips_of_ones_own_are_trained_on(out: str, tmp_path: Path) -> None:
    np.save(tmp_path / "clips.npy", np.zeros((3, 5, 40, 48, 3), np.uint8))
    arguments = ["--set", "model.classes=0", "--set", "training.joint_images=1", "--resize", "antialias"]
    data = ["--data", str(tmp_path / "clips.npy"), "--sample-every", "0"]
    result = train("shapes", "--out", out, "--steps", "1", "--batch", "2", *data, *TINY, *arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(Path(out, "config.json").read_text())["data"] == "3 clips, antialias center-crop"


def test_training_stops_when_its_time_is_over_and_goes_on(out: str) -> None:
    arguments = ["shapes", "--out", out, "--steps", "4", "--batch", "2", "--sample-every", "0", *TINY]
    first = train(*arguments, "--minutes", "1e-9")
    assert first.exit_code == 0
    assert "stopped at step 1; rerun the same command to resume" in first.stderr
    second = train(*arguments)
    assert "going on at step 1" in second.stderr
    assert "step 4 of 4" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_process_leaves_a_checkpoint(number: signal.Signals, out: str) -> None:
    arguments = ["--out", out, "--steps", "100000", "--batch", "1", "--sample-every", "0", *TINY]
    process = subprocess.Popen(
        [sys.executable, "-m", "vdm_bench", "train", "shapes", *arguments], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 128 + number
    assert "rerun the same command to resume" in rest
    assert len(list(Path(out, "checkpoints").iterdir())) == 1


def test_a_second_signal_is_not_held_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stop().on_signals() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes at the next bytecode
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) == before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop().on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("shape", "unknown preset 'shape'; did you mean 'shapes'?"),
        ("ucf101", "ucf101 is trained on clips of yours; give --data PATH, a folder or a clip archive"),
        ("ucf101 --data nowhere", "nowhere does not exist; give a video, an array or a folder of clips"),
        ("text-small", "the model of text-small needs embeddings of the captions; give --text FILE"),
        ("shapes --set model.resolution=48", "shapes has no resolution 48; choose 32 or 64"),
        (
            "shapes --set model.resolution=63",
            "resolution 63 is not divisible by the network's stride",
        ),
        (
            "shapes --set batch=4",
            "--set 'batch=4' is not SECTION.KEY=VALUE with section model, training, sampling",
        ),
        ("shapes --set training.bach=4", "unknown setting 'bach'; did you mean 'batch'?"),
        ("shapes --set training.loss=z", "loss 'z' is none of x, eps, v"),
        (
            "shapes --batch 4 --set training.accumulation=3",
            "a batch of 4 cannot be divided equally among 1 process with 3 micro-batches each",
        ),
        ("shapes --device cuda:99", "there is no device cuda:99 on this machine; give --device cpu"),
    ],
)
def test_bad_input_gets_one_sentence(arguments: str, message: str, out: str) -> None:
    result = train(*arguments.split(), "--out", out)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert not Path(out).exists()


def test_a_process_that_stopped_is_told_from_a_fault() -> None:
    with (
        pytest.raises(PeerError, match="rerun the same command to resume from the last checkpoint"),
        peers_named(),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")
    with pytest.raises(RuntimeError, match="out of memory"), peers_named():
        raise RuntimeError("out of memory")
