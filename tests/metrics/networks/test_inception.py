import json
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipe_weights import GOLDEN, Weights, inception_weights
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks import inception as inception_layers
from vdm_bench.metrics.networks.base import FeatureNetwork, NetworkSettings
from vdm_bench.metrics.networks.inception import Inception

CASES = {"A": (0, (4, 3, 64, 64)), "B": (1, (2, 3, 299, 299))}  # seed, shape
VECTORS = ("64", "192", "768", "2048", "logits_unbiased", "logits")
BOUND = 2e-3


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "inception" / "inception_golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return inception_weights()


@pytest.fixture(scope="module")
def network(weights: Weights) -> Inception:
    """Four frames a pass, so that few tests compute frames that are dropped."""
    return Inception.from_torch_fidelity(weights, batch_size=4)


@pytest.fixture(scope="module")
def video(network: Inception) -> tuple[Tensor, dict[str, Tensor]]:
    """Two clips of three frames, which fill no whole number of passes, and all layers of theirs."""
    frames = np.random.default_rng(5).integers(0, 256, size=(2, 3, 24, 32, 3), dtype=np.uint8)
    clips = torch.from_numpy(frames)
    return clips, network(clips)


@pytest.fixture
def passes(network: Inception) -> Iterator[list[tuple[tuple[int, ...], str]]]:
    """Shape and deepest vector of each forward pass."""
    seen: list[tuple[tuple[int, ...], str]] = []
    handle = network.module.register_forward_pre_hook(
        lambda _, args: seen.append((tuple(args[0].shape), args[1]))
    )
    yield seen
    handle.remove()


def _clips(case: str) -> Tensor:
    """Pictures as clips of one frame."""
    seed, shape = CASES[case]
    pictures = np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)))[:, None]


def _off(layers: dict[str, Tensor], golden: dict[str, np.ndarray], case: str) -> dict[str, float]:
    return {
        name: float(np.abs(layer.numpy() - golden[f"{case}_{name.removesuffix('-first')}"]).max())
        for name, layer in layers.items()
        if name.endswith("-first")
    }


def test_weights_and_inputs_are_those_behind_the_golden_values(weights: Weights) -> None:
    meta = json.loads((GOLDEN / "inception" / "inception_golden_meta.json").read_text())
    wanted = {name: crc for name, (_, crc) in meta["weights"].items()}
    assert {name: zlib.crc32(value.tobytes()) for name, value in weights.items()} == wanted
    for case, described in meta["cases"].items():
        pictures = np.ascontiguousarray(_clips(case)[:, 0].numpy().transpose(0, 3, 1, 2))
        assert zlib.crc32(pictures.tobytes()) == described["crc32"]


@pytest.mark.parametrize("case", CASES)
def test_all_layers_are_those_of_the_original(
    case: str, network: Inception, golden: dict[str, np.ndarray]
) -> None:
    assert isinstance(network, FeatureNetwork)
    layers = network(_clips(case))
    off = _off(layers, golden, case)
    assert tuple(off) == tuple(f"{vector}-first" for vector in VECTORS)
    assert max(off.values()) < BOUND, off
    assert {name: layer.shape[1] for name, layer in layers.items()} == network.spec.layers


def test_another_resize_does_not_match(network: Inception, golden: dict[str, np.ndarray]) -> None:
    for rule in ("half-pixel", "align-corners", "antialias"):
        other = network.configured(NetworkSettings(layers=("192-first",), rule=rule))
        assert _off(other(_clips("A")), golden, "A")["192-first"] > 10 * BOUND, rule


def test_bgr_frames_do_not_match(network: Inception, golden: dict[str, np.ndarray]) -> None:
    off = _off(network(_clips("A").flip(-1)), golden, "A")
    assert min(off.values()) > 10 * BOUND


def test_averages_that_count_the_padding_do_not_match(
    network: Inception, golden: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    average = F.avg_pool2d
    monkeypatch.setattr(
        inception_layers.F, "avg_pool2d", lambda x, size, stride, pad, **_: average(x, size, stride, pad)
    )
    off = _off(network(_clips("A")), golden, "A")
    assert off["192-first"] < BOUND
    assert off["768-first"] > 10 * BOUND


def test_an_average_in_the_last_block_does_not_match(
    network: Inception, golden: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network.module.stages["Mixed_7c"], "pool", "average")
    off = _off(network(_clips("A")), golden, "A")
    assert off["768-first"] < BOUND
    assert off["2048-first"] > 10 * BOUND


def test_the_epsilon_of_pytorch_does_not_match(
    weights: Weights, golden: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdm_bench.metrics.networks.inception.EPSILON", 1e-5)
    off = _off(Inception.from_torch_fidelity(weights, batch_size=4)(_clips("A")), golden, "A")
    assert off["2048-first"] > BOUND


def test_averages_are_those_of_the_frames(network: Inception, video: tuple[Tensor, dict[str, Tensor]]) -> None:
    clips, layers = video
    frames = network(clips.flatten(0, 1)[:, None])
    for name in VECTORS:
        by_frame = frames[f"{name}-first"].unflatten(0, (2, 3))
        tolerance = 1e-4 * float(by_frame.std())
        torch.testing.assert_close(layers[f"{name}-avg"], by_frame.mean(1), rtol=0, atol=tolerance)
        torch.testing.assert_close(layers[f"{name}-first"], by_frame[:, 0], rtol=0, atol=tolerance)
        assert not torch.allclose(layers[f"{name}-avg"], layers[f"{name}-first"], atol=10 * tolerance)


def test_a_still_clip_has_the_average_of_its_first_frame(network: Inception) -> None:
    layers = network(_clips("A")[:1].expand(-1, 3, -1, -1, -1))
    for name in VECTORS:
        tolerance = 1e-5 * float(layers[f"{name}-first"].std())
        torch.testing.assert_close(layers[f"{name}-avg"], layers[f"{name}-first"], rtol=0, atol=tolerance)


def test_first_layers_alone_compute_first_frames_alone(
    network: Inception, video: tuple[Tensor, dict[str, Tensor]], passes: list[tuple[tuple[int, ...], str]]
) -> None:
    clips, layers = video
    first = network.configured(NetworkSettings(layers=("192-first", "64-first")))(clips)
    assert passes == [((4, 3, 299, 299), "192")]
    assert list(first) == ["192-first", "64-first"]
    assert all(torch.equal(first[name], layers[name]) for name in first)


def test_passes_are_of_one_size_and_as_deep_as_needed(
    network: Inception, video: tuple[Tensor, dict[str, Tensor]], passes: list[tuple[tuple[int, ...], str]]
) -> None:
    clips, layers = video
    both = network.configured(NetworkSettings(layers=("768-avg", "64-first")))(clips)
    assert passes == [((4, 3, 299, 299), "768")] * 2
    assert all(torch.equal(both[name], layers[name]) for name in both)


def test_nothing_is_computed_after_the_deepest_layer(network: Inception) -> None:
    seen: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, module in network.module.stages.items()
    ]
    try:
        network.configured(NetworkSettings(layers=("192-avg",)))(_clips("A"))
    finally:
        for handle in handles:
            handle.remove()
    assert seen[-1] == "MaxPool_2"


def test_batch_size_changes_features_by_rounding_only(
    weights: Weights, video: tuple[Tensor, dict[str, Tensor]]
) -> None:
    clips, layers = video
    other = Inception.from_torch_fidelity(weights, batch_size=2)
    for name, layer in other.configured(NetworkSettings(layers=("768-avg", "768-first")))(clips).items():
        torch.testing.assert_close(layer, layers[name], rtol=0, atol=1e-4 * float(layer.std()))


def test_a_clip_has_the_same_features_whatever_its_neighbour_is(
    network: Inception, video: tuple[Tensor, dict[str, Tensor]]
) -> None:
    clips, layers = video
    shallow = network.configured(NetworkSettings(layers=("768-avg",)))
    other = shallow(torch.stack([clips[0], 255 - clips[1]]))["768-avg"]
    assert torch.equal(other[0], layers["768-avg"][0])
    assert not torch.equal(other[1], layers["768-avg"][1])


def test_clips_without_frames_are_refused(network: Inception) -> None:
    with pytest.raises(InputError, match="at least 1 frames; these have 0"):
        network(torch.zeros(1, 0, 8, 8, 3, dtype=torch.uint8))


def test_counters_of_training_do_not_matter(weights: Weights, network: Inception) -> None:
    counters = {"Conv2d_1a_3x3.bn.num_batches_tracked": np.zeros((), np.float32)}
    assert Inception.from_torch_fidelity(weights | counters, batch_size=4).spec == network.spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fc.weight": np.zeros((1000, 2048), np.float32)}, "fc.weight has the shape 1000x2048, Inception needs"),
        ({"AuxLogits.fc.bias": np.zeros(1000, np.float32)}, "Inception has no tensor AuxLogits.fc.bias"),
    ],
)
def test_other_tensors_are_refused_by_name(weights: Weights, change: Weights, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}.*another network$"):
        Inception.from_torch_fidelity(weights | change)


def test_weights_of_another_network_are_refused() -> None:
    words = "^Inception needs the tensor Conv2d_1a_3x3.conv.weight; these are weights of another network$"
    with pytest.raises(InputError, match=words):
        Inception.from_torch_fidelity({"conv1a/W": np.zeros((64, 3, 3, 3, 3), np.float32)})
