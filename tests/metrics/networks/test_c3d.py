import json
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipe_weights import GOLDEN, Weights, c3d_weights
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.base import FeatureNetwork, NetworkSettings
from vdm_bench.metrics.networks.c3d import C3D

CASES = {"N64": (0, 64), "N112": (2, 112)}  # seed, side
FC7_BOUND, PROBABILITIES_BOUND = 2e-3, 1e-4
ORIGINAL_NAMES = {"logits": "fc8", "probabilities": "prob"}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "c3d" / "c3d_golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return c3d_weights()


@pytest.fixture(scope="module")
def network(weights: Weights) -> C3D:
    return C3D.from_chainer(weights)


@pytest.fixture(scope="module")
def found(network: C3D) -> dict[str, dict[str, Tensor]]:
    return {case: network.activations(_clips(case), network.module.stages) for case in CASES}


def _clips(case: str) -> Tensor:
    seed, side = CASES[case]
    clips = np.random.default_rng(seed).integers(0, 256, size=(1, 3, 16, side, side), dtype=np.uint8)
    return torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 2, 3, 4, 1)))


def _samples(values: Tensor) -> np.ndarray:
    flat = values.numpy().ravel()
    return flat[(np.arange(64) * flat.size) // 64]


def _off(values: Tensor, wanted: np.ndarray) -> float:
    return float(np.abs(values.numpy() - wanted).max())


def test_weights_and_inputs_are_those_behind_the_golden_values(weights: Weights) -> None:
    meta = json.loads((GOLDEN / "c3d" / "c3d_golden_meta.json").read_text())
    wanted = {key: crc for key, (crc, _) in meta["weights_crc32"].items()} | {"mean": meta["mean_crc32"]}
    assert {key: zlib.crc32(value.tobytes()) for key, value in weights.items()} == wanted
    for case, described in meta["cases"].items():
        clips = _clips(case).numpy().transpose(0, 4, 1, 2, 3)
        assert zlib.crc32(np.ascontiguousarray(clips).tobytes()) == described["crc32"]


@pytest.mark.parametrize("case", CASES)
def test_features_and_probabilities_are_those_of_the_original(
    case: str, found: dict[str, dict[str, Tensor]], golden: dict[str, np.ndarray]
) -> None:
    assert _off(found[case]["fc7"], golden[f"{case}_fc7"]) < FC7_BOUND
    assert _off(found[case]["logits"], golden[f"{case}_fc8"]) < FC7_BOUND
    assert _off(found[case]["probabilities"], golden[f"{case}_prob"]) < PROBABILITIES_BOUND


@pytest.mark.parametrize("case", CASES)
def test_every_stage_is_that_of_the_original(
    case: str, found: dict[str, dict[str, Tensor]], golden: dict[str, np.ndarray]
) -> None:
    for name, values in found[case].items():
        wanted = golden[f"{case}_ep_{ORIGINAL_NAMES.get(name, name)}"]
        assert np.abs(_samples(values) - wanted).max() < FC7_BOUND, name


def test_the_network_gives_what_its_stages_give(network: C3D, found: dict[str, dict[str, Tensor]]) -> None:
    assert isinstance(network, FeatureNetwork)
    layers = network(_clips("N64"))
    assert {name: tuple(layer.shape) for name, layer in layers.items()} == {
        name: (1, size) for name, size in network.spec.layers.items()
    }
    assert all(torch.equal(layers[name], found["N64"][name]) for name in layers)


def test_another_resize_does_not_match(network: C3D, golden: dict[str, np.ndarray]) -> None:
    for rule in ("half-pixel", "tf1-bilinear"):
        other = network.configured(NetworkSettings(layers=("fc7",), rule=rule))
        assert _off(other(_clips("N64"))["fc7"], golden["N64_fc7"]) > 100 * FC7_BOUND, rule


def test_bgr_clips_do_not_match(network: C3D, golden: dict[str, np.ndarray]) -> None:
    assert _off(network(_clips("N64").flip(-1))["fc7"], golden["N64_fc7"]) > 100 * FC7_BOUND


def test_a_mean_clip_in_rgb_order_does_not_match(weights: Weights, golden: dict[str, np.ndarray]) -> None:
    other = C3D.from_chainer(weights, mean=weights["mean"][::-1].copy())
    assert _off(other.activations(_clips("N64"), ["pre"])["pre"].flatten()[:1], golden["N64_ep_pre"][:1]) > 1
    assert _off(other(_clips("N64"))["fc7"], golden["N64_fc7"]) > 10 * FC7_BOUND


def test_a_padded_last_pool_does_not_match(
    found: dict[str, dict[str, Tensor]], golden: dict[str, np.ndarray]
) -> None:
    """PyTorch ports pad 7 rows to 8 at both ends, which has the same size but other windows."""
    padded = F.max_pool3d(found["N64"]["conv5b"], 2, 2, (0, 1, 1))
    assert padded.shape == found["N64"]["pool5"].shape
    assert np.abs(_samples(padded) - golden["N64_ep_pool5"]).max() > 0.1


def test_batch_size_changes_features_by_rounding_only(network: C3D) -> None:
    clips = torch.cat([_clips("N64"), _clips("N64").flip(1)])
    together, alone = network(clips), [network(clip[None]) for clip in clips]
    for name, layer in together.items():
        apart = torch.cat([layers[name] for layers in alone])
        torch.testing.assert_close(layer, apart, rtol=0, atol=1e-4 * float(layer.std()))


def test_fewer_layers_have_equal_values(network: C3D, found: dict[str, dict[str, Tensor]]) -> None:
    layers = network.configured(NetworkSettings(layers=("fc6",)))(_clips("N64"))
    assert list(layers) == ["fc6"]
    assert torch.equal(layers["fc6"], found["N64"]["fc6"])


def test_nothing_is_computed_after_the_last_stage_wanted(network: C3D) -> None:
    seen: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, module in network.module.maps.items()
    ]
    try:
        network.activations(_clips("N64"), ["pool1"])
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["conv1a", "pool1"]


@pytest.mark.parametrize("frames", [15, 17, 64])
def test_clips_of_another_length_are_refused(network: C3D, frames: int) -> None:
    with pytest.raises(InputError, match=f"exactly 16 frames; these have {frames}; choose --frames 16"):
        network(torch.zeros(1, frames, 8, 8, 3, dtype=torch.uint8))


def test_an_unknown_stage_is_refused(network: C3D) -> None:
    with pytest.raises(InputError, match="C3D has no stage 'conv6a'; it has pre, conv1a"):
        network.activations(_clips("N64"), ["conv6a"])


def test_a_mean_file_next_to_the_weights_is_part_of_their_identity(weights: Weights, network: C3D) -> None:
    kernels = {key: value for key, value in weights.items() if key != "mean"}
    assert C3D.from_chainer(kernels, mean=weights["mean"]).spec == network.spec
    assert C3D.from_chainer(kernels, mean=weights["mean"] + 1).spec.identity != network.spec.identity
    with pytest.raises(InputError, match="needs the mean clip"):
        C3D.from_chainer(kernels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"conv3b/W": np.zeros((256, 128, 3, 3, 3), np.float32)},
            "conv3b/W has the shape 256x128x3x3x3",
        ),
        ({"fc8/b": np.zeros(487, np.float32)}, "fc8/W has the shape 101x4096, C3D needs 487x4096"),
        ({"fc9/W": np.zeros((1, 1), np.float32)}, "C3D has no tensor fc9/W"),
        ({"mean": np.zeros((3, 16, 112, 112), np.float32)}, "mean has the shape 3x16x112x112"),
    ],
)
def test_other_arrays_are_refused_by_name(weights: Weights, change: Weights, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}.*another network$"):
        C3D.from_chainer(weights | change)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^C3D needs the tensor conv1a/W; these are weights of another network$"
    ):
        C3D.from_chainer({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 3, 3), np.float32)})
