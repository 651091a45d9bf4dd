"""A checkpoint is one safetensors file that is believed in nothing it says of itself."""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_model import TINY

import vdm_bench
from vdm_bench.errors import InputError
from vdm_bench.reference_model import model as pretrained
from vdm_bench.reference_model.checkpoint import CheckpointInfo, load_model, save_model
from vdm_bench.reference_model.config import SamplingConfig
from vdm_bench.reference_model.unet import VideoUNet

INFO = CheckpointInfo(
    "tiny",
    TINY,
    SamplingConfig(sampler="ddim", steps=7, guidance_weight=0.5),
    step=12,
    training={"seed": 3, "loss": 0.5},
)


def network(seed: int = 0) -> VideoUNet:
    torch.manual_seed(seed)
    made = VideoUNet(TINY)
    for parameter in made.parameters():  # none of them at zero, where a wrong order would not be seen
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny.safetensors", network(), INFO)
    return tmp_path / "tiny.safetensors"


def refusal(path: Path, preset: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path, preset=preset)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_network_comes_back_with_the_same_bits_and_says_what_it_is(saved: Path) -> None:
    loaded, info = load_model(saved)
    assert info == INFO
    assert not loaded.training
    for name, tensor in network().state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    z, log_snr = torch.randn(2, 3, 4, 8, 8), torch.zeros(2)
    with torch.no_grad():
        assert torch.equal(loaded(z, log_snr), network()(z, log_snr))


def test_the_layout_in_memory_is_that_of_a_new_network(saved: Path) -> None:
    """Weights that came in another memory format would be slower."""
    loaded, _ = load_model(saved)
    assert loaded.entry.weight.is_contiguous(memory_format=torch.channels_last)


def test_loading_leaves_the_callers_random_state_alone(saved: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(saved)
    assert torch.equal(torch.rand(3), expected)


def test_the_same_weights_give_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, training={"loss": 0.5, "seed": 3})
    save_model(tmp_path / "again.safetensors", dict(reversed(network().state_dict().items())), info)
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(("storage", "mantissa"), [(torch.float16, 11), (torch.bfloat16, 8)])
def test_half_the_bytes_are_float32_in_memory(
    saved: Path, tmp_path: Path, storage: torch.dtype, mantissa: int
) -> None:
    half = tmp_path / "half.safetensors"
    save_model(half, network(), INFO, storage=storage)
    header = 8 + struct.unpack("<Q", half.read_bytes()[:8])[0]
    full_header = 8 + struct.unpack("<Q", saved.read_bytes()[:8])[0]
    assert half.stat().st_size - header == (saved.stat().st_size - full_header) // 2
    loaded, _ = load_model(half)
    for name, tensor in network().state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == torch.float32
        assert torch.equal(found, tensor.to(storage).float()), name
        assert (found - tensor).abs().max() <= tensor.abs().max() * 2.0**-mantissa


def test_sampling_defaults_may_be_left_to_a_later_version(saved: Path) -> None:
    """A setting that a file does not know yet has its default."""
    rewrite(saved, lambda content: content["sampling"].pop("gamma"))
    assert load_model(saved)[1] == INFO


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("entry.weight"), "entry.weight is missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra is not a tensor of its model"),
        (lambda state: state["entry.bias"].fill_(float("nan")), "entry.bias is not finite"),
        (lambda state: state["entry.bias"].fill_(1e6), "entry.bias is not finite"),  # in float16
    ],
)
def test_weights_that_are_not_the_models_are_not_written(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], words: str
) -> None:
    state = network().state_dict()
    change(state)
    with pytest.raises(InputError, match=words):
        save_model(tmp_path / "x.safetensors", state, INFO, storage=torch.float16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 4, 8, 9, 200, -1])
def test_a_truncated_file_is_named(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    message = refusal(saved)
    assert ("is truncated" in message) if kept not in (0, 4, 8) else ("is not a safetensors file" in message)


def test_other_files_are_not_read(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pt")
    assert "is not a safetensors file, and others are not read because they may run code" in refusal(
        tmp_path / "model.pt"
    )
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    assert "no checkpoint of vdm-bench" in refusal(tmp_path / "bare.safetensors")
    assert "is a folder" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "missing.safetensors")


def test_a_header_that_claims_a_terabyte_is_refused_early(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    (tmp_path / "bomb.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    assert "is truncated or damaged" in refusal(tmp_path / "bomb.safetensors")
    (tmp_path / "bomb.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{" + bytes(64))
    assert "is not a safetensors file" in refusal(tmp_path / "bomb.safetensors")


def rewrite(path: Path, change: Callable[[Any], Any], **tensors: torch.Tensor) -> None:
    """Write a checkpoint again with another header, or other tensors, as a hand does that knows no checksums."""
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()["vdm_bench"])
    del content["checksum"], content["checksums"]
    changed = change(content)
    text = changed if isinstance(changed, str) else json.dumps(content)
    save_file(load_file(path) | tensors, path, {"vdm_bench": text})


def setting(section: str, **values: object) -> Callable[[Any], Any]:
    return lambda content: content[section].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: "{" * 100_000, "it is not JSON"),
        (lambda content: "[" * 100_000, "nested too deeply"),
        (lambda content: "[1]", "it is not a JSON object"),
        (lambda content: content.update(format=2), "has format 2, this version of vdm-bench reads 1"),
        (lambda content: content.pop("format"), "has format None"),
        (
            lambda content: content.update(optimiser="adam"),
            "it has a field 'optimiser', which this version",
        ),
        (lambda content: content.update(step="12"), "its field 'step' is a text, not a whole number from 0 on"),
        (lambda content: content.update(step=-3), "its field 'step' is -3, not a whole number from 0 on"),
        (lambda content: content.update(step=True), "its field 'step' is true or false, not a whole number"),
        (lambda content: content.pop("training"), "its field 'training' is missing"),
        (lambda content: content.update(checksums=[1]), "its checksums are not a JSON object"),
        (lambda content: content.update(model=[8]), "its field 'model' is a list, not an object"),
        (lambda content: content.update(name=None), "its field 'name' is null, not a text"),
        (lambda content: content.update(training={"loss": float("nan")}), "it holds NaN"),
        (setting("model", base_chanels=8), "unknown setting 'base_chanels'; did you mean 'base_channels'?"),
        (setting("model", base_channels="8"), "base_channels is '8'"),
        (setting("model", base_channels=16), "has shape [8], its model needs [16]"),
        (setting("model", base_channels=10**30), "base_channels is 1000000"),
        (setting("model", base_channels=2**62), "its model cannot be built"),
        (setting("model", head_dim=3), "its model cannot be built"),
        (setting("model", blocks=2), "its model needs"),
        (setting("model", scale_and_shift=True), "its model needs"),
        (setting("model", attention_resolutions=[8, 4]), "is missing"),
        (setting("model", classes=0), "is not a tensor of its model"),
        (setting("model", blocks=10**9), "tensors, its model more"),
        (setting("model", embedding_layers=10**9), "tensors, its model more"),
        (setting("model", frames=10**9), "fit nowhere"),
        (setting("model", classes=-1), "must not be negative"),
        (setting("model", multipliers=[]), "multipliers must be positive"),
        (setting("sampling", steps=0), "steps 0 is out of range"),
        (setting("sampling", reconstruction_weight=-1.0), "reconstruction_weight -1.0 is out of range"),
        (
            lambda content: json.dumps(content).replace('"delta": 0.1', '"delta": 1e999'),
            "it holds 1e999",
        ),
    ],
)
def test_a_hostile_header_is_refused_in_one_sentence(
    saved: Path, change: Callable[[Any], Any], words: str
) -> None:
    rewrite(saved, change)
    assert words in refusal(saved)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(8, dtype=torch.float64), "entry.bias is of type F64"),
        (torch.zeros(9), "entry.bias has shape [9], its model needs [8]"),
        (torch.full((8,), float("inf")), "holds NaN or infinity in entry.bias"),
    ],
)
def test_tensors_that_are_not_the_models_are_refused(saved: Path, tensor: torch.Tensor, words: str) -> None:
    rewrite(saved, lambda content: None, **{"entry.bias": tensor})
    assert words in refusal(saved)


def test_a_checkpoint_of_another_preset_says_what_differs(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vdm_bench.reference_model import checkpoint
    from vdm_bench.reference_model.config import Preset

    presets = {"tiny": TINY, "wide": dataclasses.replace(TINY, base_channels=16, classes=0)}
    monkeypatch.setattr(checkpoint, "get_preset", lambda name: Preset(name, "", presets[name]))
    assert load_model(saved, preset="tiny")[1] == INFO
    message = refusal(saved, preset="wide")
    assert (
        "holds a model 'tiny' and not one of preset 'wide' (base_channels 8, not 16; classes 3, not 0)" in message
    )


def test_a_model_is_loaded_by_its_path_or_by_its_name_in_the_package(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = vdm_bench.load_reference_model(saved, precision="bf16")
    half = dataclasses.replace(INFO.sampling, precision="bf16")
    assert (model.name, model.config, model.sampling) == ("tiny", TINY, half)
    clips = model.sample([1, 2])
    assert clips.shape == (2, 4, 8, 8, 3)
    assert not torch.equal(clips, vdm_bench.load_reference_model(str(saved)).sample([1, 2]))
    monkeypatch.setattr(pretrained, "_packaged_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    assert pretrained.packaged_models() == ["tiny"]
    assert torch.equal(vdm_bench.load_reference_model("tiny", precision="bf16").sample([1, 2]), clips)
    with pytest.raises(InputError, match=r"there is no trained model 'tiney' \(with the package come tiny\)"):
        vdm_bench.load_reference_model("tiney")
    with pytest.raises(InputError, match="unknown precision 'fp8'"):
        vdm_bench.load_reference_model(saved, precision="fp8")
    with pytest.raises(InputError, match="the device 'cuda:99' cannot be used"):
        vdm_bench.load_reference_model(saved, device="cuda:99")
