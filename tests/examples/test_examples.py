"""What stands under examples/ works. (Cutting the GIFs is tested with the command line, on the real ones.)"""

import json
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from paths import ROOT
from PIL import Image
from safetensors.torch import load_file

from vdm_bench import run
from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.embedded import EmbeddedClassifier, EmbeddedNetwork
from vdm_bench.protocols import get_protocol
from vdm_bench.samplers.base import SampleRequest, sample_seed
from vdm_bench.samplers.command import CommandSampler
from vdm_bench.video.archive import Archive

TRAIN = ROOT / "examples" / "embedded_network" / "train.py"
CURVE = ROOT / "examples" / "shapes_model" / "curve.py"


def test_folding_the_normalisation_does_not_change_the_network() -> None:
    model = runpy.run_path(str(TRAIN))["TrainableClassifier"]().eval()
    generator = torch.Generator().manual_seed(0)
    for norm in [*model.norms, model.temporal_norm]:
        for tensor in norm.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    plain = EmbeddedClassifier().eval()
    plain.load_state_dict(model.folded())
    x = torch.rand(2, 3, 8, 32, 32, generator=generator) * 2 - 1
    with torch.inference_mode():
        (features, logits), (expected, expected_logits) = plain(x), model(x)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert all(torch.allclose(logits[name], expected_logits[name], rtol=1e-4, atol=1e-5) for name in logits)


def test_the_training_script_trains_and_saves_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(TRAIN))
    # Its process pool would look the script up as a module; here one process is enough.
    monkeypatch.setitem(script["load_clips"].__globals__, "ProcessPoolExecutor", Serial)
    out = tmp_path / "weights.safetensors"
    arguments = ["--out", str(out), "--train-clips", "256", "--test-clips", "32", "--epochs", "2"]
    result = CliRunner().invoke(script["main"], arguments)
    assert result.exit_code == 0, result.output
    losses = [float(line.split()[3]) for line in result.output.splitlines() if line.startswith("epoch")]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    identity = EmbeddedNetwork(load_file(out)).spec.identity
    assert result.output.splitlines()[-1].startswith(f"saved weights {identity.removeprefix('embedded@')}")


class Serial:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def map(self, function: Callable[[int], object], items: Iterable[int], chunksize: int) -> Iterator[object]:
        return map(function, items)


def test_the_log_is_that_of_the_shipped_weights() -> None:
    lines = (TRAIN.parent / "train.log").read_text().splitlines()
    digest = EmbeddedNetwork().spec.weights_digest
    assert lines[-1].startswith(f"saved weights {digest},")
    shares = dict(zip(lines[-2].split()[5:11:2], map(float, lines[-2].split()[6:11:2]), strict=True))
    assert set(shares) == {"shape", "colour", "motion"}
    assert min(shares.values()) > 0.95


def test_the_learning_curve_is_drawn_from_a_log(tmp_path: Path) -> None:
    log, picture = tmp_path / "log.jsonl", tmp_path / "curve.png"
    names = [("<-8",), ("<-8", ">8")]  # not every noise level is in every line
    lines = [
        {"step": step, "loss": 1 / step, "loss_by_log_snr": dict.fromkeys(names[step % 2], 2 / step)}
        for step in range(1, 2001)
    ]
    log.write_text("\n".join(map(json.dumps, lines)))
    result = CliRunner().invoke(runpy.run_path(str(CURVE))["main"], [str(log), "--out", str(picture)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("2000 lines up to step 2,000: loss 0.0005")
    assert Image.open(picture).size == (1000, 360)


def test_cluster_examples_call_the_command_line_as_it_is() -> None:
    import yaml

    folder = ROOT / "examples" / "cluster"
    script = folder / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    _, job = yaml.safe_load_all((folder / "kubernetes.yaml").read_text("utf-8"))
    in_pods = job["spec"]["template"]["spec"]["containers"][0]["command"]
    in_slurm = shlex.split(script.read_text("utf-8").split("srun ")[1].replace("\\\n", " "))
    for command in (in_pods, in_slurm):
        assert command[0] == "torchrun"
        arguments = command[command.index("vdm_bench") + 1 :]
        protocol, *rest = arguments[1:]
        known = CliRunner().invoke(cli, ["run", "--help"]).stdout
        assert get_protocol(protocol)
        assert all(option.split("=")[0] in known for option in rest if option.startswith("--"))


def test_video_diffusion_pytorch_is_a_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, in a process of its own; a clip depends on its seed alone."""
    found = subprocess.run(
        [sys.executable, "-c", "import video_diffusion_pytorch"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"needs video-diffusion-pytorch: {found.stderr.splitlines()[-1]}")
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    script = ROOT / "examples" / "video_diffusion_pytorch" / "vdp_sampler.py"
    sampler = CommandSampler(shlex.join([sys.executable, str(script)]), {"dim": "8", "timesteps": "2"})
    protocol = get_protocol("shapes-unconditional").model_copy(update={"reference_count": 16})
    run(protocol, out=tmp_path / "run", sampler=sampler, limit=3)
    made = Archive(tmp_path / "run" / "samples")
    assert len({made.fingerprint(index) for index in range(3)}) == 3
    seeds = (sample_seed(0, 2), sample_seed(0, 0))
    again = sampler.sample(SampleRequest(indices=(2, 0), seeds=seeds, frames=16, height=32, width=32))
    sampler.close()
    assert np.array_equal(again, np.stack([made[2].frames, made[0].frames]))
    with pytest.raises(InputError, match="this sampler makes clips from nothing"):
        run("shapes-prediction", out=tmp_path / "other", sampler=sampler)
