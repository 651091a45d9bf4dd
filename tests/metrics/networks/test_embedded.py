import numpy as np
import pytest
import torch

from vdm_bench.datasets.shapes.dataset import Shapes, ShapesLabel
from vdm_bench.errors import InputError
from vdm_bench.metrics.extraction import BLOCK_CLIPS, block_bounds, extract_features
from vdm_bench.metrics.networks import ComputeConfig, load_network, network_names
from vdm_bench.metrics.networks.base import FeatureNetwork, NetworkSettings, Preprocessing
from vdm_bench.metrics.networks.embedded import CLASSES, HEADS, EmbeddedNetwork


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return np.stack([Shapes("test", seed=9)[i].frames for i in range(70)])


def test_the_network_classifies_clips_it_has_not_seen() -> None:
    """Above 95 % each on 600 test clips; the training log states it on 8,192."""
    dataset = Shapes("test", seed=9)
    found = [dataset[i] for i in range(600)]
    logits = extract_features(EmbeddedNetwork(), np.stack([clip.frames for clip in found]))["logits"]
    labels = [ShapesLabel.of(clip.label or 0) for clip in found]
    joint = np.exp(logits.astype(np.float64)).reshape(-1, *HEADS.values())
    for axis, name in enumerate(HEADS):
        others = tuple(other for other in (1, 2, 3) if other != axis + 1)
        guesses = joint.sum(axis=others).argmax(axis=1)
        assert np.mean(guesses == [getattr(label, name) for label in labels]) > 0.95, name


def test_the_joint_softmax_is_the_product_of_the_heads(clips: np.ndarray) -> None:
    logits = extract_features(EmbeddedNetwork(), clips[:4])["logits"]
    assert logits.shape == (4, CLASSES)
    np.testing.assert_allclose(np.exp(logits.astype(np.float64)).sum(1), 1, rtol=1e-5)
    p = np.exp(logits).reshape(4, *HEADS.values())
    marginals = [p.sum((2, 3)), p.sum((1, 3)), p.sum((1, 2))]
    np.testing.assert_allclose(p, np.einsum("ni,nj,nk->nijk", *marginals), rtol=1e-4, atol=1e-9)


def test_features_are_the_same_to_the_last_bit_for_any_number_of_threads(clips: np.ndarray) -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(extract_features(EmbeddedNetwork(), clips))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(np.array_equal(found[0][layer], other[layer]) for layer in other)


def test_features_of_a_clip_do_not_depend_on_the_tail_of_its_batch(clips: np.ndarray) -> None:
    network = EmbeddedNetwork(batch_size=32)
    whole, part = extract_features(network, clips[:64]), extract_features(network, clips[:40])
    assert np.array_equal(whole["features"][:40], part["features"])


@pytest.mark.parametrize(("clip_count", "passes"), [(1, 1), (7, 1), (8, 1), (9, 2), (64, 8)])
def test_the_network_is_only_ever_given_whole_batches(clips: np.ndarray, clip_count: int, passes: int) -> None:
    class Watched(EmbeddedNetwork):
        def __call__(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
            shapes.append(tuple(clips.shape))
            return super().__call__(clips)

    shapes: list[tuple[int, ...]] = []
    features = extract_features(Watched(), clips[:clip_count])
    assert shapes == [(8, 16, 32, 32, 3)] * passes
    assert len(features["features"]) == clip_count


def test_compiling_changes_features_by_rounding_only(clips: np.ndarray) -> None:
    compiled = EmbeddedNetwork().configured(NetworkSettings(compiled=True))
    found, usual = (extract_features(network, clips[:8]) for network in (compiled, EmbeddedNetwork()))
    for layer in ("features", "logits"):
        np.testing.assert_allclose(found[layer], usual[layer], rtol=1e-4, atol=1e-4)
    assert compiled.spec.cache_key != EmbeddedNetwork().spec.cache_key


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_features_by_rounding_only(clips: np.ndarray, batch_size: int) -> None:
    usual = extract_features(EmbeddedNetwork(), clips)["features"]
    other = extract_features(EmbeddedNetwork(batch_size=batch_size), clips)["features"]
    np.testing.assert_allclose(other, usual, atol=1e-5 * usual.std())


def test_other_sizes_and_lengths_are_taken(clips: np.ndarray) -> None:
    network = EmbeddedNetwork()
    large = np.repeat(np.repeat(clips[:2], 2, axis=2), 2, axis=3)
    np.testing.assert_allclose(
        extract_features(network, large)["features"], extract_features(network, clips[:2])["features"], atol=0.5
    )
    assert extract_features(network, clips[:2, :5])["features"].shape == (2, 128)


def test_preprocessing_crops_or_stretches_and_scales_to_one() -> None:
    frames = torch.arange(6, dtype=torch.uint8).mul(51).reshape(1, 1, 1, 6, 1).expand(1, 1, 2, 6, 3)
    cropped = Preprocessing(2, "antialias", "center-crop")(frames)
    assert cropped.shape == (1, 3, 1, 2, 2)
    torch.testing.assert_close(cropped[0, 0, 0, 0], torch.tensor([2 * 51, 3 * 51]) * (2 / 255) - 1)
    nearest = Preprocessing(2, "tf1-bilinear")(frames)
    torch.testing.assert_close(nearest[0, 0, 0, 0], torch.tensor([0, 3 * 51]) * (2 / 255) - 1)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.zeros(1, 3, 32, 32, 3, dtype=torch.uint8), "at least 4 frames; these have 3"),
        (torch.zeros(1, 16, 32, 32, 3), "torch.float32"),
        (torch.zeros(16, 32, 32, 3, dtype=torch.uint8), r"\[N, T, H, W, 3\]"),
        (torch.zeros(1, 16, 32, 32, 1, dtype=torch.uint8), r"\[N, T, H, W, 3\]"),
    ],
)
def test_clips_of_the_wrong_form_are_refused(bad: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        EmbeddedNetwork()(bad)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(InputError, match="not those of the embedded network"):
        EmbeddedNetwork({"conv.weight": torch.zeros(3)})


def test_other_weights_have_another_identity() -> None:
    own = EmbeddedNetwork()
    changed = {name: tensor.clone() for name, tensor in own.module.state_dict().items()}
    changed["heads.shape.bias"] += 1e-6
    assert EmbeddedNetwork(changed).spec.identity != own.spec.identity
    assert own.spec.identity == EmbeddedNetwork().spec.identity


def test_size_limits_of_the_shipped_weights() -> None:
    weights = EmbeddedNetwork().module.state_dict()
    assert sum(tensor.numel() for tensor in weights.values()) <= 1_000_000


def test_networks_are_found_through_entry_points() -> None:
    assert "embedded" in network_names()
    assert isinstance(load_network("embedded"), FeatureNetwork)
    with pytest.raises(InputError, match="did you mean 'embedded'"):
        load_network("embeded")
    with pytest.raises(InputError, match="try --device cpu"):
        load_network("embedded", ComputeConfig(device="cuda:99"))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_blocks_cover_every_clip_once(count: int) -> None:
    bounds = block_bounds(count)
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(count))
    assert all(stop - start == BLOCK_CLIPS for start, stop in bounds[:-1])


def test_features_that_are_not_finite_are_refused(clips: np.ndarray) -> None:
    weights = EmbeddedNetwork().module.state_dict()
    broken = {name: torch.full_like(tensor, float("nan")) for name, tensor in weights.items()}
    with pytest.raises(InputError, match="NaN or infinity in its layer"):
        extract_features(EmbeddedNetwork(broken), clips[:2])
