"""What the benchmark of the network rests on, without a clock: equal terms, counted operations, bounds."""

import importlib
import sys
from types import ModuleType

import pytest
import torch
from paths import ROOT
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vdm_bench.reference_model.config import ModelConfig
from vdm_bench.reference_model.unet import VideoUNet

BENCHMARKS = ROOT / "benchmarks"
# Of the peers that are measured: Unet3D(dim=48, dim_mults=(1, 2, 4)) of video-diffusion-pytorch 0.7.0, and
# UNet3DConditionModel of diffusers 0.42.1 as in unet_peers.py.
PEERS = {"video-diffusion-pytorch": 6_342_515, "diffusers": 6_358_531}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return {name: importlib.import_module(name) for name in ("unet", "unet_peers", "unet_preset")}


@pytest.mark.parametrize("resolution", [32, 64])
@pytest.mark.parametrize(("blocks", "most"), [(2, 1.05), (1, 1.25)])
def test_our_networks_are_at_least_as_large_as_each_peer(benchmark, resolution, blocks, most):
    with torch.device("meta"):
        network = VideoUNet(benchmark["unet_peers"].config(resolution, blocks))
    ours = sum(weight.numel() for weight in network.parameters())
    assert all(peer <= ours <= most * peer for peer in PEERS.values())


@pytest.mark.parametrize("images", [0, 2])
def test_operations_are_those_of_a_real_step(benchmark, images):
    config = ModelConfig(
        frames=4,
        resolution=16,
        base_channels=16,
        multipliers=(1, 2),
        blocks=1,
        attention_resolutions=(8,),
        head_dim=16,
        embedding_dim=32,
    )
    network = VideoUNet(config)
    # As plain products, which torch counts one by one.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.randn(1, 3, 4 + images, 16, 16), torch.zeros(1), images=images).sum().backward()
    assert benchmark["unet_preset"].step_flop(config, images) == counter.get_total_flops()


def test_stub_of_torchvision_is_gone_afterwards(benchmark):
    before = {name: module for name, module in sys.modules.items() if name.startswith("torchvision")}
    with benchmark["unet_peers"].torchvision_stub():
        assert importlib.import_module("torchvision").utils is importlib.import_module("torchvision.utils")
    assert before == {name: module for name, module in sys.modules.items() if name.startswith("torchvision")}


@pytest.mark.parametrize(
    ("seconds", "megabytes", "word"), [(2.0, 100.0, "met"), (1.6, 100.0, "MISSED"), (2.0, 80.0, "MISSED")]
)
def test_a_bound_holds_only_for_time_and_memory_together(benchmark, seconds, megabytes, word):
    figures = {
        "step": {"ours": [1.0, 10.0, 1.0], "peer": [seconds, 10 * seconds, 9.0]},
        "step memory": {"ours": [50.0], "peer": [megabytes]},
    }
    verdict = benchmark["unet"].verdict("ours", "peer", 1.7, figures)
    assert verdict.startswith(word)
    assert f"{seconds:.2f} x" in verdict
    assert f"{50 / megabytes:.2f} of its memory" in verdict
