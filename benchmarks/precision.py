"""Numerical error by stage, against values of the original graph: the tables of docs/numerical-error.md.

    python benchmarks/precision.py        # CPU, 5 minutes

`tf32-like` rounds the inputs and weights of every convolution to the 10 bits of TensorFloat-32 and computes in
float32, as the hardware does; so the column can be measured without it.
"""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from recipe_weights import GOLDEN, i3d_shapes, i3d_weights

from vdm_bench.metrics import frechet_distance
from vdm_bench.metrics.choices import Precision
from vdm_bench.metrics.networks import I3D
from vdm_bench.metrics.networks.base import NetworkSettings
from vdm_bench.metrics.resize import resize
from vdm_bench.runtime.bfloat16 import cpu_computes_bfloat16

GOLD = np.load(GOLDEN / "i3d" / "i3d_golden.npz")
SETS = np.load(GOLDEN / "i3d" / "fvd_golden.npz")
STAGES = {"Conv3d_1a_7x7": "Relu", "Mixed_3c": "concat", "Mixed_4f": "concat", "Mixed_5c": "concat"}
MODES = ("fp32", "tf32-like", *(["bf16"] if cpu_computes_bfloat16() else []))


class Tf32Like(TorchFunctionMode):
    """Rounds what goes into convolutions to 10 bits of mantissa."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in (F.conv3d, F.conv2d, F.linear):
            args = [*(rounded(x) for x in args[:2]), *args[2:]]
        return func(*args, **(kwargs or {}))


def rounded(x: Tensor) -> Tensor:
    """Round float32 to 10 bits of mantissa, to nearest even."""
    bits = x.contiguous().view(torch.int32)
    odd = (bits >> 13) & 1
    values = ((bits + 0xFFF + odd) & ~0x1FFF).view(torch.float32).view(x.shape)
    return values.contiguous(memory_format=torch.channels_last_3d)


def row(title: str, values: Sequence[float | None]) -> None:
    """Print a row of the table."""
    cells = ["-" if value is None else f"{value:.1e}" for value in values]
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def resize_error() -> float:
    """Return the largest deviation of resized pixels from the original's, in units of [-1, 1]."""
    frame = torch.from_numpy(GOLD["input_F"][0, 0]).movedim(-1, 0)
    found = resize(frame, (224, 224), "tf1-bilinear").movedim(0, -1)[::16, ::16] * (2 / 255) - 1
    expected = GOLD["resized_F"]
    expected = expected if np.abs(expected).max() <= 1.001 else expected * (2 / 255) - 1
    return float(np.abs(found.numpy() - expected).max())


def stage_errors(network: I3D) -> list[float]:
    """Return the largest deviation of each stage, as a share of the stage's standard deviation."""
    clips = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 16, 32, 32, 3), dtype=np.uint8))
    maps = network.activations(clips[:1], list(STAGES))
    errors = []
    for stage, end in STAGES.items():
        values = maps[stage].movedim(1, -1).contiguous().numpy().ravel()
        expected = GOLD[f"ep_A_{stage}__{end}"]
        found = values[(np.arange(64) * values.size) // 64]
        errors.append(float(np.abs(found - expected).max() / values.std()))
    return errors


def features_of(network: I3D) -> dict[str, np.ndarray]:
    """Return the logits of both golden sets."""
    return {
        side: torch.cat([network(torch.from_numpy(part))["logits"] for part in np.split(SETS[side], 3)]).numpy()
        for side in "PQ"
    }


def main() -> None:
    """Measure and print."""
    weights = i3d_weights(i3d_shapes())
    plain = I3D.from_tensorflow(weights)
    expected = json.loads((GOLDEN / "i3d" / "fvd_golden.json").read_text())["P_Q"]["nuclear"]["fvd"]
    table: dict[str, list[float | None]] = {}

    def put(title: str, value: float) -> None:
        table.setdefault(title, []).append(value)

    for mode in MODES:
        precision: Precision = "bf16" if mode == "bf16" else "fp32"
        network = plain.configured(NetworkSettings(precision=precision))
        logits = plain.configured(NetworkSettings(layers=("logits",), precision=precision))
        with Tf32Like() if mode == "tf32-like" else nullcontext():
            put("resize: pixels in [-1, 1], largest", resize_error())
            for stage, share in zip(STAGES, stage_errors(network), strict=True):
                put(f"{stage}: largest / standard deviation", share)
            found = features_of(logits)
        spread = np.concatenate([SETS["feat_P"], SETS["feat_Q"]]).std(axis=0).mean()
        error = np.concatenate([found[side] - SETS[f"feat_{side}"] for side in "PQ"])
        put("logits: largest, absolute", float(np.abs(error).max()))
        put("logits: root mean square / spread between clips", float(np.sqrt((error**2).mean()) / spread))
        put("score (FVD of P and Q): relative", abs(frechet_distance(found["P"], found["Q"]) / expected - 1))
    print(f"| stage | {' | '.join(MODES)} |\n| --- |{' --- |' * len(MODES)}")
    for title, values in table.items():
        row(title, values)
    print("\n| statistic on the same features | relative to the original's float64 |\n| --- | --- |")
    golden = SETS["feat_P"], SETS["feat_Q"]
    row("factor form, float64", [abs(frechet_distance(*golden) / expected - 1)])
    for root in ("tf-gan", "tf-gan-fp32"):
        row(f"root:{root}", [abs(frechet_distance(*golden, root=root) / expected - 1)])


if __name__ == "__main__":
    main()
