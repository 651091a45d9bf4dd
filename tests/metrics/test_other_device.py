"""Networks and metric objects where a tensor that was left on the CPU is refused, as on a GPU; without a GPU."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from recipe_weights import GOLDEN, i3d_shapes

from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.modules import FrechetVideoDistance, KernelVideoDistance, VideoInceptionScore
from vdm_bench.metrics.networks import C3D, I3D, Inception
from vdm_bench.metrics.networks.base import NetworkSettings, TorchNetwork
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.resize import RESIZE_RULES


def arrays(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    """Weights of no meaning; variances are positive."""
    values = np.random.default_rng(0).normal(0, 0.02, 9973).astype(np.float32)
    made = {name: np.resize(values, shape) for name, shape in shapes.items()}
    return {name: np.abs(value) + 1 if "var" in name else value for name, value in made.items()}


def i3d() -> TorchNetwork:
    return I3D.from_tensorflow(arrays(i3d_shapes()))


def c3d() -> TorchNetwork:
    meta = json.loads((GOLDEN / "c3d" / "c3d_golden_meta.json").read_text())
    shapes = {key: tuple(shape) for key, (_, shape) in meta["weights_crc32"].items()}
    return C3D.from_chainer(arrays({**shapes, "mean": (3, 16, 128, 171)}))


def inception() -> TorchNetwork:
    meta = json.loads((GOLDEN / "inception" / "inception_golden_meta.json").read_text())
    return Inception.from_torch_fidelity(
        arrays({key: tuple(shape) for key, (shape, _) in meta["weights"].items()})
    )


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (EmbeddedNetwork, (3, 16, 32, 32, 3)),
        (i3d, (1, 9, 20, 24, 3)),
        (c3d, (1, 16, 20, 24, 3)),
        (inception, (1, 1, 20, 24, 3)),
    ],
)
def test_every_network(
    elsewhere: torch.device, build: Callable[[], TorchNetwork], shape: tuple[int, ...]
) -> None:
    network = build()
    clips = np.random.default_rng(4).integers(0, 256, shape, np.uint8)
    expected = extract_features(network, clips)
    found = extract_features(network.to(elsewhere), clips)
    assert network.device == elsewhere
    assert found.keys() == expected.keys()
    for layer, values in expected.items():
        np.testing.assert_allclose(found[layer], values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("aspect", ["stretch", "center-crop"])
def test_every_rule_of_resizing(elsewhere: torch.device, rule: Any, aspect: Any) -> None:
    network = EmbeddedNetwork().configured(NetworkSettings(("features",), rule=rule, aspect=aspect))
    clips = np.random.default_rng(4).integers(0, 256, (1, 16, 40, 48, 3), np.uint8)
    expected = extract_features(network, clips)["features"]
    np.testing.assert_allclose(
        extract_features(network.to(elsewhere), clips)["features"], expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("kind", [FrechetVideoDistance, KernelVideoDistance, VideoInceptionScore])
def test_every_metric_object(elsewhere: torch.device, kind: Any) -> None:
    bytes_, floats = torch.randint(0, 256, (4, 16, 32, 32, 3), dtype=torch.uint8), torch.rand(3, 3, 16, 32, 32)
    values = []
    for device in (torch.device("cpu"), elsewhere):
        metric = kind(EmbeddedNetwork()).to(device)
        for clips in (bytes_.to(device), floats.to(device), bytes_):  # those of a data loader may be anywhere
            if kind is VideoInceptionScore:
                metric.update(clips)
            else:
                metric.update(clips, real=True)
                metric.update(clips.flip(1), real=False)
        # All of them: NCCL gathers none that was left on the CPU, though one process gets by with it.
        states = [getattr(metric, name) for name in metric._defaults]
        assert {x.device for state in states for x in (state if isinstance(state, list) else [state])} == {device}
        value = metric.compute()
        assert value.device == device
        values.append(float(value))
        metric.reset()
    assert values[1] == pytest.approx(values[0], rel=1e-4)
