"""I3D in clips per second, compared with a plain port of it and with the rate of a matrix product, in one run.

    pip download --no-deps cd-fvd==0.1.1
    python benchmarks/i3d.py --peer cd-fvd-0.1.1.tar.gz               # two CPU cores: 10 minutes
    python benchmarks/i3d.py --device cuda --clips 256 --batch 32     # fp32, TF32, bf16, share of the peak

The peer is the port that cd-fvd ships (contiguous, unfused); its one module is loaded alone from the archive.
Weights are random and the same for both, and their logits are compared.
"""

import functools
import math
import statistics
import sys
import tarfile
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vdm_bench.metrics.choices import PRECISIONS, Precision
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks.base import NetworkSettings
from vdm_bench.metrics.networks.i3d import BRANCHES, I3D, MISNAMED, SCOPE
from vdm_bench.metrics.precision import arithmetic
from vdm_bench.metrics.weights import catalogue
from vdm_bench.metrics.weights.entries import Entry
from vdm_bench.runtime.bfloat16 import is_slow

GFLOP = 55.6  # of a clip of 16x224x224, multiply and add counted apart
PEER_MEMBER = "cd-fvd-0.1.1/cdfvd/third_party/i3d/pytorch_i3d.py"

Rates = dict[str, list[float]]


def random_weights(entry: Entry) -> dict[str, Tensor]:
    """Make weights with which activations keep their size."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes(entry).items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("/w"):
            values *= math.sqrt(2 / math.prod(shape[:-1]))
        elif name.endswith("moving_variance"):
            values = values.abs() * 0.1 + 0.9
        else:
            values *= 0.1
        weights[name] = values
    return weights


def load_peer(archive: Path, weights: dict[str, Tensor]) -> nn.Module:
    """Load the peer's module out of its archive, and give it the weights."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(PEER_MEMBER)
        if member is None:
            raise click.ClickException(f"{archive} has no {PEER_MEMBER}; give the archive of cd-fvd 0.1.1")
        source = member.read()
    module = types.ModuleType("peer_i3d")
    exec(compile(source, PEER_MEMBER, "exec"), module.__dict__)  # the peer is what is measured
    network: nn.Module = module.InceptionI3d(400, in_channels=3).eval()
    state = {}
    for key, value in network.state_dict().items():
        name = peer_name(key)
        if name is None:
            state[key] = torch.ones_like(value)  # the gammas and counters the original does not have
        else:
            found = weights[name]
            state[key] = found.permute(4, 3, 0, 1, 2) if found.ndim == 5 else found.reshape(value.shape)
    network.load_state_dict(state)
    return network


def peer_name(key: str) -> str | None:
    """Translate a key of the peer's state dict to the original's name, or None for what the original lacks."""
    scope, _, part = key.rpartition(".")
    parts = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "beta"}
    pieces = scope.split(".")
    if pieces[0] == "logits":
        return f"{SCOPE}/Logits/Conv3d_0c_1x1/conv_3d/{'w' if part == 'weight' else 'b'}"
    branches = dict(zip(("b0", "b1a", "b1b", "b2a", "b2b", "b3b"), BRANCHES.values(), strict=True))
    where = pieces[0] if len(pieces) == 2 else f"{pieces[0]}/{branches[pieces[1]]}"
    where = MISNAMED.get(where, where)
    if pieces[-1] == "conv3d":
        return f"{SCOPE}/{where}/conv_3d/w"
    return f"{SCOPE}/{where}/batch_norm/{parts[part]}" if part in parts else None


def shapes(entry: Entry) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the variables of a catalogue entry."""
    return {name: info.shape for name, info in entry.tensors.items()}


def clips_per_second(function: Callable[[], Any], count: int, device: torch.device) -> float:
    """Time one call that computes `count` clips."""
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def is_fast(precision: Precision, device: torch.device) -> bool:
    """Say whether the device has the precision."""
    return device.type == "cuda" or precision == "fp32" or (precision == "bf16" and not is_slow(device))


@torch.no_grad()
def product_rate(precision: Precision, device: torch.device) -> float:
    """Return the GFLOP/s of a matrix product in a precision.

    On a CPU, torch's own product is MKL's, which gives up half of the speed on CPUs that are not Intel's. A 1x1
    convolution of 16 images is the same product by oneDNN, so the faster of the two is taken.
    """
    size = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.rand(size, size, device=device, dtype=dtype)
    products: list[Callable[[], Tensor]] = [lambda: a @ a]
    if device.type == "cpu":
        images = a.view(16, size // 16, 1, size).permute(0, 3, 1, 2)
        products.append(lambda: F.conv2d(images, a[:, :, None, None]))
    with arithmetic(precision if precision != "bf16" else "fp32", device):
        times = [1 / clips_per_second(product, 1, device) for product in products for _ in range(6)]
    return 2 * size**3 / min(times) / 1e9


@click.command()
@click.option("--peer", type=click.Path(path_type=Path, exists=True), help="Archive of cd-fvd 0.1.1.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--clips", "count", default=16, show_default=True, help="Clips a measurement computes.")
@click.option("--batch", default=2, show_default=True, help="Clips a forward pass takes.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--compile/--no-compile", "compiled", default=True, show_default=True)
def main(peer: Path | None, device: str, count: int, batch: int, rounds: int, compiled: bool) -> None:
    """Measure and print."""
    where = torch.device(device)
    weights = random_weights(catalogue()["i3d-k400"])
    network = I3D.from_tensorflow(weights).to(where)
    clips = np.random.default_rng(0).integers(0, 256, (count, 16, 224, 224, 3), dtype=np.uint8)
    pixels = torch.from_numpy(clips).to(where)
    runs: dict[str, Callable[[Tensor], Tensor]] = {}
    precisions = [precision for precision in PRECISIONS if is_fast(precision, where)]
    for precision in precisions:
        for fast in (False, True)[: 1 + compiled]:
            settings = NetworkSettings(("logits",), precision=precision, compiled=fast)
            name = f"{precision}{' compiled' if fast else ''}"
            runs[name] = functional(network.configured(settings))
    if peer is not None:
        runs = {"plain port": functional_peer(load_peer(peer, weights), where), **runs}
    scored = network.configured(NetworkSettings(("logits",)))
    runs["fp32 as scored"] = lambda clips: torch.from_numpy(extract_features(scored, clips)["logits"])
    rates = measure(runs, pixels, batch, rounds)
    report(rates, {precision: product_rate(precision, where) for precision in precisions})
    if peer is not None:
        compare(runs["plain port"](pixels[:2]), network, pixels[:2])


def compare(logits: Tensor, network: I3D, clips: Tensor) -> None:
    """Say how far the peer's logits are from ours, with the epsilon of the original and with the peer's."""
    for epsilon in (1e-3, 1e-5):
        own = network.configured(NetworkSettings(("logits",), epsilon=epsilon))(clips)["logits"]
        off = float((logits - own).abs().max())
        print(f"plain port v epsilon {epsilon:g}: logits off by up to {off:.1e}, their deviation {own.std():.2f}")


def functional(network: I3D) -> Callable[[Tensor], Tensor]:
    """Return the network as a function from clips to logits."""
    return lambda clips: network(clips)["logits"]


def functional_peer(peer: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the peer as a function from clips of 224x224 to logits; its weights move to the device."""
    peer.to(device)

    @torch.no_grad()
    def run(clips: Tensor) -> Tensor:
        with arithmetic("fp32", device):
            logits: Tensor = peer(clips.movedim(-1, 1).float().contiguous() * (2 / 255) - 1)
            return logits

    return run


def in_batches(run: Callable[[Tensor], Tensor], pixels: Tensor, batch: int) -> None:
    """Compute all clips."""
    for part in torch.split(pixels, batch):
        run(part)


def measure(runs: dict[str, Callable[[Tensor], Tensor]], pixels: Tensor, batch: int, rounds: int) -> Rates:
    """Run all in turn, several rounds, after one that warms up: noise of the machine meets all alike."""
    rates: Rates = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            # What scores clips cuts batches itself, and computes them side by side.
            size = len(pixels) if name.endswith("as scored") else batch
            rate = clips_per_second(functools.partial(in_batches, run, pixels, size), len(pixels), pixels.device)
            if number:
                rates[name].append(rate)
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return rates


def report(rates: Rates, products: Mapping[str, float]) -> None:
    """Print the medians, the ratios to the first in the same rounds, and the shares of a product's rate."""
    first = next(iter(rates))
    for name, values in rates.items():
        ratio = statistics.median(mine / other for mine, other in zip(values, rates[first], strict=True))
        precision = name.split()[0]
        product = products.get(precision, products["fp32"])
        rate = statistics.median(values)
        share = 100 * rate * GFLOP / product
        print(f"{name:<16} {rate:9.2f} clips/s  {ratio:5.2f} x {first}  {share:4.0f} % of {product:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
