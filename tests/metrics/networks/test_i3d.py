"""The port of I3D against values of the original graph, run with the same weights."""

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipe_weights import GOLDEN, Weights, i3d_shapes, i3d_weights

from vdm_bench.errors import InputError
from vdm_bench.metrics import frechet_distance
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks import I3D
from vdm_bench.metrics.networks.base import FeatureNetwork, NetworkSettings
from vdm_bench.metrics.networks.i3d import local_max, same_padding
from vdm_bench.metrics.resize import resize

LOGITS = 2e-4  # absolute, on logits with a standard deviation of 0.8
LAYERS = 5e-4  # absolute, on activations with standard deviations of 0.3 to 1.6
GOLD = np.load(GOLDEN / "i3d" / "i3d_golden.npz")
META = json.loads((GOLDEN / "i3d" / "i3d_golden_meta.json").read_text())
STAGES = {
    key.removeprefix("ep_A_").split("__")[0]: key
    for key in GOLD.files
    if key.startswith("ep_A_") and not key.startswith(("ep_A_Logits", "ep_A_Mean"))
}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return i3d_weights(i3d_shapes())


@pytest.fixture(scope="module")
def network(weights: Weights) -> I3D:
    return I3D.from_tensorflow(weights)


@pytest.fixture(scope="module")
def fvd(network: I3D) -> I3D:
    return network.configured(NetworkSettings(layers=("logits",)))


def noise(case: str) -> torch.Tensor:
    about = META["cases"][case]
    clips = np.random.default_rng(about["seed"]).integers(0, 256, size=about["shape"], dtype=np.uint8)
    assert zlib.crc32(clips.tobytes()) == about["crc32"]
    return torch.from_numpy(clips)


def deviation(found: torch.Tensor, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found.numpy() - expected).max())


def test_the_recipe_weights_are_those_behind_the_golden_values(weights: Weights) -> None:
    published = json.loads((GOLDEN / "i3d" / "synthetic_weights_crc32.json").read_text())
    assert {name: zlib.crc32(value.tobytes()) for name, value in weights.items()} == {
        name: crc for name, (crc, _) in published.items()
    }


@pytest.mark.parametrize("case", ["A", "C"])
def test_logits_of_noise_are_those_of_the_original_graph(fvd: I3D, case: str) -> None:
    assert deviation(fvd(noise(case))["logits"], GOLD[f"logits_{case}"]) < LOGITS


def test_logits_of_real_frames_are_those_of_the_original_graph(fvd: I3D) -> None:
    logits = fvd(torch.from_numpy(GOLD["input_F"]))["logits"]
    assert deviation(logits, GOLD["logits_F"]) < LOGITS
    # The control was made with inputs in [0, 1].
    assert deviation(logits, GOLD["logits_F_range01_WRONG"]) > 1


def test_logits_of_a_clip_that_needs_no_resizing(fvd: I3D, shared_data: Path) -> None:
    from vdm_bench.video.decode import read_video

    file = shared_data / "kinetics-i3d" / "data" / "v_CricketShot_g04_c01_rgb.gif"
    frames = np.asarray(read_video(file, list(range(16))))
    assert zlib.crc32(frames.tobytes()) == META["cases"]["G"]["crc32"]
    assert deviation(fvd(torch.from_numpy(frames[None].copy()))["logits"], GOLD["logits_G"]) < LOGITS


@pytest.mark.parametrize(("case", "value"), [("J_minus1", -1.0), ("K_zero", 0.0), ("L_plus1", 1.0)])
def test_constant_input_shows_the_padding(network: I3D, case: str, value: float) -> None:
    with torch.no_grad():
        maps = network.module(torch.full((1, 3, 9, 224, 224), value), ["Logits"], "same")
    assert deviation(maps["Logits"].mean((2, 3, 4)), GOLD[f"logits_{case}"]) < LOGITS


def test_every_stage_is_that_of_the_original_graph(network: I3D) -> None:
    maps = network.activations(noise("A")[:1], list(STAGES))
    assert list(maps) == list(network.module.stages)
    for stage, key in STAGES.items():
        values = maps[stage].movedim(1, -1).contiguous().numpy().ravel()
        found = values[(np.arange(64) * values.size) // 64]
        assert np.abs(found - GOLD[key]).max() < LAYERS, stage


def test_every_stage_is_a_layer_and_the_pool_too(network: I3D) -> None:
    clips = noise("A")[:1]
    layers = network(clips)
    assert deviation(layers["pool"], GOLD["pooled_A"].reshape(1, 1024)) < LAYERS
    assert {name: value.shape[1] for name, value in layers.items()} == dict(network.spec.layers)
    some = network.configured(NetworkSettings(layers=("Mixed_4b", "MaxPool3d_4a_3x3")))(clips)
    assert list(some) == ["Mixed_4b", "MaxPool3d_4a_3x3"]
    assert all(torch.equal(some[name], layers[name]) for name in some)
    whole = network.activations(clips, ["Mixed_4b"])["Mixed_4b"]
    torch.testing.assert_close(whole.mean((2, 3, 4)), layers["Mixed_4b"])


def test_resized_frames_are_those_of_the_original() -> None:
    for case in ("A", "C"):
        frame = noise(case)[0, 0].movedim(-1, 0)
        found = resize(frame, (224, 224), "tf1-bilinear").movedim(0, -1)[::16, ::16].numpy()
        scaled = np.float32(2) * found / np.float32(255) - np.float32(1)
        expected = GOLD[f"resized_{case}"]
        assert np.array_equal(found, expected) or np.abs(scaled - expected).max() <= 2.4e-7


def test_the_distance_is_that_of_the_original_graph(fvd: I3D) -> None:
    golden = np.load(GOLDEN / "i3d" / "fvd_golden.npz")
    features = {side: extract_features(fvd, golden[side])["logits"] for side in "PQ"}
    for side in "PQ":
        assert np.abs(features[side] - golden[f"feat_{side}"]).max() < LOGITS
    expected = json.loads((GOLDEN / "i3d" / "fvd_golden.json").read_text())["P_Q"]["nuclear"]["fvd"]
    assert frechet_distance(features["P"], features["Q"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("settings", [NetworkSettings(rule="half-pixel"), NetworkSettings(rule="align-corners")])
def test_another_resize_rule_does_not_match(fvd: I3D, settings: NetworkSettings) -> None:
    other = fvd.configured(settings)
    assert deviation(other(torch.from_numpy(GOLD["input_F"]))["logits"], GOLD["logits_F"]) > 0.05


def test_static_padding_is_the_same_only_for_multiples_of_four_frames(fvd: I3D) -> None:
    """At other lengths the ports that pad statically are off by several per cent of the logits."""
    static = fvd.configured(NetworkSettings(padding="static", layers=("logits",)))
    assert static.spec.identity == f"{fvd.spec.identity}:static-padding"
    pixels = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (1, 30, 64, 64, 3), dtype=np.uint8))
    shares = {}
    for frames in (15, 16, 17, 30):
        dynamic, other = (n(pixels[:, :frames])["logits"] for n in (fvd, static))
        shares[frames] = float((other - dynamic).norm() / dynamic.norm())
    assert shares[16] == 0
    assert min(shares[15], shares[17], shares[30]) > 0.02


def test_another_epsilon_is_another_number_and_says_so(fvd: I3D, weights: Weights) -> None:
    """Ports that go back to VideoGPT's take 1e-5, which moves these logits by 1.5e-2."""
    clips = torch.from_numpy(GOLD["input_F"])
    other = fvd.configured(NetworkSettings(layers=("logits",), epsilon=1e-5))
    assert other.spec.identity == f"{fvd.spec.identity}:epsilon-1e-05"
    assert 5e-3 < deviation(other(clips)["logits"], GOLD["logits_F"]) < 5e-2
    back = other.configured(NetworkSettings(layers=("logits",), epsilon=1e-3))
    assert torch.equal(back(clips)["logits"], fvd(clips)["logits"])
    assert back.spec == fvd.spec


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "expected"),
    [
        (224, 7, 2, (2, 3)),
        (16, 7, 2, (2, 3)),
        (17, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (9, 3, 2, (1, 1)),
        (28, 3, 1, (1, 1)),
        (3, 2, 2, (0, 1)),
        (14, 2, 2, (0, 0)),
        (5, 1, 2, (0, 0)),
    ],
)
def test_padding_is_tensorflows(length: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    """Values worked out by hand from ceil(length / stride) outputs."""
    assert same_padding(length, kernel, stride, "same") == expected


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 7, 7), (3, 1, 2), (5, 6, 4)])
def test_the_local_maximum_is_a_pool_of_stride_one(size: tuple[int, int, int]) -> None:
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(local_max(x), F.max_pool3d(x, 3, 1, 1))


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.slow
def test_compiling_changes_logits_by_rounding_only(fvd: I3D) -> None:
    compiled = fvd.configured(NetworkSettings(layers=("logits",), compiled=True))
    assert deviation(compiled(noise("A"))["logits"], GOLD["logits_A"]) < LOGITS
    assert compiled.spec.identity == fvd.spec.identity
    assert compiled.spec.cache_key != fvd.spec.cache_key


@pytest.mark.parametrize("frames", [1, 8])
def test_clips_too_short_are_refused(fvd: I3D, frames: int) -> None:
    with pytest.raises(InputError, match=rf"at least 9 frames; these have {frames}"):
        fvd(torch.zeros(1, frames, 32, 32, 3, dtype=torch.uint8))


@pytest.mark.bfloat16
def test_bf16_is_another_number_and_says_so(fvd: I3D) -> None:
    other = fvd.configured(NetworkSettings(precision="bf16", layers=("logits",)))
    off = deviation(other(noise("A")[:1])["logits"], GOLD["logits_A"][:1])
    assert 1e-3 < off < 0.5
    assert other.spec.precision == "bf16"
    assert other.spec.cache_key != fvd.spec.cache_key


def test_tf32_is_refused_where_there_is_none(fvd: I3D) -> None:
    with pytest.raises(InputError, match=r"tf32 is a mode of NVIDIA GPUs.*--precision fp32 or bf16"):
        fvd.configured(NetworkSettings(precision="tf32"))


def test_a_layer_that_is_not_there_is_refused(network: I3D) -> None:
    with pytest.raises(InputError, match=r"i3d has no layer 'Mixed_6a'; it has logits, pool"):
        network.configured(NetworkSettings(layers=("Mixed_6a",)))
    with pytest.raises(InputError, match="no stage 'pool'"):
        network.activations(noise("A")[:1], ["pool"])


def test_settings_leave_the_network_itself_alone(network: I3D) -> None:
    before = network.spec
    other = network.configured(NetworkSettings(rule="antialias", aspect="center-crop"))
    assert network.spec == before
    assert str(other.spec.preprocessing) == "224:antialias:center-crop"
    assert other.module is network.module
    assert isinstance(other, FeatureNetwork)


def test_weights_of_another_network_are_refused_by_name(weights: Weights) -> None:
    name = "RGB/inception_i3d/Mixed_4c/Branch_1/Conv3d_0b_3x3/conv_3d/w"
    with pytest.raises(InputError, match=f"I3D needs the tensor {name}"):
        I3D.from_tensorflow({k: v for k, v in weights.items() if k != name})
    with pytest.raises(InputError, match=f"{name} has the shape"):
        I3D.from_tensorflow({**weights, name: weights[name][:1]})
    with pytest.raises(InputError, match="I3D has no tensor Flow/w"):
        I3D.from_tensorflow({**weights, "Flow/w": weights[name]})
    with pytest.raises(InputError, match="I3D needs the tensor"):
        I3D.from_tensorflow({})


def as_in_tf_hub(weights: Weights, shared_data: Path) -> Weights:
    """The same values in the shapes that TF-Hub's module gives its variables."""
    table = json.loads((shared_data / "i3d" / "real_weights_crc32c.json").read_text())
    shapes = {name: about["shape"] for name, about in table["tfhub_i3d_kinetics_400_v1"].items()}
    return {name: value.reshape(shapes[name]) for name, value in weights.items()}


def test_variables_in_the_shapes_of_tf_hub_are_the_same_network(
    weights: Weights, network: I3D, shared_data: Path
) -> None:
    variables = as_in_tf_hub(weights, shared_data)
    assert variables["RGB/inception_i3d/Conv3d_2b_1x1/batch_norm/beta"].shape == (1, 1, 1, 1, 64)
    for suffix in ("", ":0"):
        found = I3D.from_tensorflow({f"{name}{suffix}": value for name, value in variables.items()})
        assert found.spec == network.spec
        pairs = zip(found.module.parameters(), network.module.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert found.configured(NetworkSettings(epsilon=1e-5)).spec.epsilon == 1e-5


@pytest.mark.parametrize("shape", [(1, 1, 64), (1, 1, 1, 64, 1), (1, 1, 1, 1, 32), (64, 1)])
def test_statistics_of_other_shapes_are_refused_by_name(weights: Weights, shape: tuple[int, ...]) -> None:
    name = "RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/moving_mean"
    with pytest.raises(InputError, match=f"{name} has the shape {'x'.join(map(str, shape))}"):
        I3D.from_tensorflow({**weights, name: np.zeros(shape, np.float32)})


def test_other_weights_have_another_identity(weights: Weights, network: I3D) -> None:
    name = "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/b"
    other = I3D.from_tensorflow({**weights, name: weights[name] + np.float32(1e-3)})
    assert other.spec.identity != network.spec.identity


def test_features_are_the_same_to_the_last_bit_for_any_number_of_threads(fvd: I3D) -> None:
    """In a forward pass on all threads, as `fvd(clips)` makes it, they are not: kernels differ by threads."""
    clips, threads = np.load(GOLDEN / "i3d" / "fvd_golden.npz")["P"][:3], torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(extract_features(fvd, clips)["logits"])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
