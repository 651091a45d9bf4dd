"""The original graph, run by TensorFlow, beside the port: the proof that the port computes the same.

The 50 MB of weights of the published module are not in the test data; weights made by recipe stand in for them.
Deviations that were seen stand beside the bounds.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_weights import GOLDEN, Weights, i3d_weights
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics import frechet_distance
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks.base import FeatureNetwork, NetworkSettings
from vdm_bench.metrics.networks.i3d import I3D
from vdm_bench.metrics.networks.tfhub import HANDLE, OriginalI3D
from vdm_bench.metrics.resize import resize
from vdm_bench.metrics.weights.digest import git_blob_id

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: `tox run -e original`")
tensorflow_hub = pytest.importorskip("tensorflow_hub", reason="needs tensorflow-hub: `tox run -e original`")

SCOPE = "RGB/inception_i3d"
DATA_FILE = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def weights(shared_data: Path) -> Weights:
    table = json.loads((shared_data / "i3d" / "real_weights_crc32c.json").read_text())["rgb_scratch"]
    return i3d_weights({name: tuple(entry["shape"]) for name, entry in table.items()})


@pytest.fixture(scope="module")
def module(shared_data: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published graph with the weights made by recipe, as a module folder."""
    folder = tmp_path_factory.mktemp("module")
    for name in ("saved_model.pb", "tfhub_module.pb"):
        shutil.copyfile(shared_data / "i3d" / "i3d-kinetics-tensorflow1-400-v1" / name, folder / name)
    (folder / "variables").mkdir()
    names = sorted(weights)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "variables" / "variables"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[weights[name] for name in names],
    )
    return folder


@pytest.fixture(scope="module")
def original(module: Path) -> OriginalI3D:
    return OriginalI3D.load(module)


@pytest.fixture(scope="module")
def port(weights: Weights) -> I3D:
    return I3D.from_tensorflow(weights, name="i3d-k400", licence="Apache-2.0")


@pytest.fixture(scope="module")
def golden() -> Iterator[dict[str, np.ndarray]]:
    with np.load(GOLDEN / "i3d" / "i3d_golden.npz") as file:
        yield dict(file)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, size=(*shape, 3), dtype=np.uint8))


def logits(network: FeatureNetwork, clips: Tensor) -> np.ndarray:
    return network(clips)["logits"].numpy()


def deviation(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    """Largest difference, in standard deviations of the second."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / b.std())


# Seen: 2.1e-5 to 2.9e-5.
@pytest.mark.parametrize(
    "shape",
    [
        (9, 32, 32),
        (10, 90, 120),
        (15, 64, 64),
        (16, 64, 48),
        (17, 33, 57),
        (23, 300, 240),
        (30, 64, 64),
        (16, 224, 224),
    ],
    ids=str,
)
def test_the_port_has_the_originals_logits_at_every_length_and_size(
    original: OriginalI3D, port: I3D, shape: tuple[int, int, int]
) -> None:
    clips = noise(1, *shape, seed=shape[0])
    found = deviation(logits(port, clips), logits(original, clips))
    print(f"deviation of the logits at {shape}: {found:.1e}")
    assert found < 5e-5


# Seen: up to 2e-4, in the root mean square 3e-5: half of it is the port's and half the original's, which in this
# are equally far from the same network in float64.
@pytest.mark.parametrize("length", [15, 16])
def test_the_port_gives_the_inner_layers_of_the_original(original: OriginalI3D, port: I3D, length: int) -> None:
    stages = {
        "MaxPool3d_2a_3x3": "MaxPool3d_2a_3x3:0",
        "Mixed_4b": "Mixed_4b/concat:0",
        "Mixed_5c": "Mixed_5c/concat:0",
        "AvgPool3D": "Logits/AvgPool3D:0",
        "Logits": "Logits/Conv3d_0c_1x1/conv_3d/add:0",
    }
    clips = noise(1, length, 64, 64, seed=7)
    theirs = original.tensors(clips, [f"{SCOPE}/{tensor}" for tensor in stages.values()])
    ours = port.activations(clips, list(stages))
    for stage, tensor in stages.items():
        a, b = ours[stage].movedim(1, -1), theirs[f"{SCOPE}/{tensor}"]
        largest, typical = deviation(a, b), float((a - b).square().mean().sqrt() / b.std())
        print(f"deviation of {stage} at T={length}: {largest:.1e}, in the root mean square {typical:.1e}")
        assert largest < 5e-4, stage
        assert typical < 5e-5, stage


def test_the_original_gives_the_golden_logits(original: OriginalI3D, golden: dict[str, np.ndarray]) -> None:
    """They were made by this graph in another TensorFlow, 2.15.1."""
    inputs = {
        "A": noise(2, 16, 32, 32),
        "C": noise(1, 10, 90, 120, seed=2),
        "F": torch.from_numpy(golden["input_F"]),
    }
    for name, clips in inputs.items():
        np.testing.assert_allclose(logits(original, clips), golden[f"logits_{name}"], rtol=0, atol=2e-4)


def test_the_original_gives_the_golden_distance(original: OriginalI3D) -> None:
    with np.load(GOLDEN / "i3d" / "fvd_golden.npz") as file:
        p, q = (extract_features(original, file[name])["logits"] for name in "PQ")
    value = frechet_distance(p, q)
    print(f"relative deviation of the distance: {value / 97.38115705436496 - 1:.1e}")
    assert value == pytest.approx(97.38115705436496, rel=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (33, 57), (120, 90), (300, 240), (224, 224)], ids=str)
def test_the_resize_is_tensorflow_s_to_the_last_bit(original: OriginalI3D, size: tuple[int, int]) -> None:
    frames = noise(9, *size)
    ours = resize(frames.movedim(-1, 1), (224, 224), "tf1-bilinear").movedim(1, -1)
    theirs = tf.compat.v1.image.resize_bilinear(frames.numpy(), (224, 224), align_corners=False).numpy()
    assert np.array_equal(ours.numpy(), theirs)
    assert np.array_equal(original.frames(frames[None])[0].numpy(), np.float32(2) * theirs / np.float32(255) - 1)


def test_another_resize_padding_or_channel_order_is_another_network(original: OriginalI3D, port: I3D) -> None:
    """The bounds above would see it: these deviations are about 1."""
    clips = noise(1, 15, 64, 64, seed=3)
    reference = logits(original, clips)
    wrong = {
        "half-pixel": (port.configured(NetworkSettings(rule="half-pixel")), clips),
        "static": (port.configured(NetworkSettings(padding="static")), clips),
        "BGR": (port, clips.flip(-1)),
    }
    for name, (network, given) in wrong.items():
        assert deviation(logits(network, given), reference) > 0.5, name


def test_values_in_0_to_1_are_another_network(original: OriginalI3D, golden: dict[str, np.ndarray]) -> None:
    assert (
        deviation(logits(original, torch.from_numpy(golden["input_F"])), golden["logits_F_range01_WRONG"]) > 0.5
    )


def test_both_backends_have_one_signature_and_two_caches(original: OriginalI3D, port: I3D, module: Path) -> None:
    ours, theirs = port.spec, original.spec
    assert theirs.identity == ours.identity
    assert theirs.weights_digest == git_blob_id(module / DATA_FILE)[:8]
    for part in ("preprocessing", "min_frames", "max_frames", "licence", "padding", "epsilon", "precision"):
        assert getattr(theirs, part) == getattr(ours, part), part
    assert theirs.layers["logits"] == ours.layers["logits"]
    assert theirs.cache_key != ours.cache_key
    assert isinstance(original, FeatureNetwork)


def test_settings_of_other_recipes_are_refused(original: OriginalI3D) -> None:
    own = NetworkSettings(layers=("logits",), rule="tf1-bilinear", aspect="stretch", padding="same")
    assert original.configured(own) is original
    assert original.configured(NetworkSettings()) is original
    for other in (
        NetworkSettings(layers=("logits", "pool")),
        NetworkSettings(rule="half-pixel"),
        NetworkSettings(aspect="center-crop"),
        NetworkSettings(padding="static"),
        NetworkSettings(epsilon=1e-5),
        NetworkSettings(precision="bf16"),
        NetworkSettings(compiled=True),
    ):
        with pytest.raises(InputError, match="computes fvd only"):
            original.configured(other)


def test_another_device_and_short_clips_and_unknown_tensors_are_refused(original: OriginalI3D) -> None:
    assert original.to(torch.device("cpu")) is original
    with pytest.raises(InputError, match="choose --device cpu"):
        original.to(torch.device("cuda:1"))
    with pytest.raises(InputError, match="at least 9 frames"):
        original(noise(1, 8, 32, 32))
    with pytest.raises(InputError, match=r"no such tensor.*Mixed_9z"):
        original.tensors(noise(1, 9, 32, 32), [f"{SCOPE}/Mixed_9z/concat:0"])


def test_a_folder_that_is_not_the_module_is_refused(module: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no saved_model\.pb; give the folder"):
        OriginalI3D.load(tmp_path)
    copy = shutil.copytree(module, tmp_path / "module")
    (copy / DATA_FILE).unlink()
    with pytest.raises(InputError, match=r"has no variables/variables\.data"):
        OriginalI3D.load(copy)


def test_weights_that_are_damaged_are_refused(module: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(module, tmp_path / "module")
    data = bytearray((copy / DATA_FILE).read_bytes())
    data[1000] ^= 1
    (copy / DATA_FILE).write_bytes(data)
    with pytest.raises(InputError, match=r"the weights in .* cannot be read \(.*Checksum does not match"):
        OriginalI3D.load(copy)


def test_another_graph_is_not_run(module: Path, tmp_path: Path) -> None:
    """A graph can read and write files; this one would, if it were called."""

    class Writer(tf.Module):
        @tf.function(input_signature=[])
        def __call__(self) -> tf.Tensor:
            tf.io.write_file(str(tmp_path / "written"), "by the graph")
            return tf.constant(0)

    tf.saved_model.save(Writer(), str(tmp_path / "other"))
    shutil.copytree(module / "variables", tmp_path / "other" / "variables", dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"is not the graph of .* and is not run"):
        OriginalI3D.load(tmp_path / "other")
    assert not (tmp_path / "written").exists()


def test_the_module_is_found_in_the_cache_of_tensorflow_hub(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / hashlib.sha1(HANDLE.encode()).hexdigest()).symlink_to(module)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    assert OriginalI3D.load().spec.weights_digest == git_blob_id(module / DATA_FILE)[:8]


def test_without_a_network_the_error_says_which_folder_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: str) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr(tensorflow_hub, "resolve", fail)
    with pytest.raises(InputError, match=r"cannot download .*not known.*--backend tensorflow:FOLDER"):
        OriginalI3D.load()


@pytest.mark.parametrize("package", ["tensorflow", "tensorflow_hub"])
def test_without_tensorflow_the_error_says_how_to_install_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"needs TensorFlow \(.*: pip install 'vdm-bench\[tensorflow\]'"):
        OriginalI3D.load()


def test_loading_is_quiet_and_takes_no_more_threads_than_torch(module: Path) -> None:
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from vdm_bench.metrics.networks.tfhub import OriginalI3D\n"
        "network = OriginalI3D.load(Path(sys.argv[1]))\n"
        "network(torch.zeros(1, 9, 16, 16, 3, dtype=torch.uint8))\n"
        "import tensorflow\n"
        "assert tensorflow.config.threading.get_intra_op_parallelism_threads() == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(module)],
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
