"""Training: what is refused, in one sentence that names the way out; what is written beside the weights."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import PRESET, Clips, tiny, train_tiny

from vdm_bench.errors import InputError
from vdm_bench.reference_model.checkpoint import load_model
from vdm_bench.reference_model.model import source_of
from vdm_bench.reference_model.training.log import LogLine
from vdm_bench.reference_model.training.loop import Hooks
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.video.clip import Clip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    train_tiny(out, tiny(steps=2))
    return out


def test_a_folder_with_another_run_is_refused(trained: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds a run with another training\.batch \(4 and not 8\); restore the settings"
    ):
        train_tiny(trained, tiny(steps=2, batch=8))
    with pytest.raises(InputError, match=r"another seed \(0 and not 1\)"):
        train_tiny(trained, tiny(steps=2), seed=1)
    with pytest.raises(InputError, match=r"another precision \('fp32' and not 'bf16'\)"):
        train_tiny(trained, tiny(steps=2), precision="bf16")
    with pytest.raises(InputError, match=r"another data \('noise 20 .*' and not 'noise 19.*'\)"):
        train_tiny(trained, tiny(steps=2), clips=Clips(19))


def test_settings_that_do_not_change_the_result_may_change(trained: Path) -> None:
    weights = (trained / "model.safetensors").read_bytes()
    train_tiny(trained, tiny(steps=2), log_every=1, checkpoint_every=5, checkpointing=True)
    assert (trained / "model.safetensors").read_bytes() == weights


def test_a_run_may_be_made_longer_under_a_constant_learning_rate_alone(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"another training\.steps \(2 and not 4\)"):
        train_tiny(trained, tiny(steps=4))
    constant = {"schedule": "constant"}
    train_tiny(tmp_path / "grown", tiny(steps=2, **constant))
    assert train_tiny(tmp_path / "grown", tiny(steps=4, **constant)) == 4
    assert json.loads((tmp_path / "grown/config.json").read_text())["training.steps"] == 4
    train_tiny(tmp_path / "long", tiny(steps=4, **constant))
    grown, long = (load_file(tmp_path / name / "model.safetensors") for name in ("grown", "long"))
    assert all(torch.equal(value, long[name]) for name, value in grown.items())


def test_settings_may_change_until_there_is_a_state_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the loss is"):
        train_tiny(tmp_path / "run", tiny(steps=4, learning_rate=1e30, warmup_steps=0, clip_norm=0.0))
    assert train_tiny(tmp_path / "run", tiny(steps=4)) == 4
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="is not a run of `vdm-bench train` and not empty; choose another --out"):
        train_tiny(tmp_path)
    with pytest.raises(InputError, match=r"photo\.jpg is not a run"):
        train_tiny(tmp_path / "photo.jpg")


def test_a_damaged_config_or_state_is_refused(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", tiny(steps=2))
    newest = tmp_path / "run/checkpoints/step-000000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(
        InputError,
        match=r"step-000000002\.safetensors is damaged: .*; remove it, and training starts from the beginning",
    ):
        train_tiny(tmp_path / "run", tiny(steps=2))
    newest.unlink()
    assert train_tiny(tmp_path / "run", tiny(steps=2)) == 2
    (tmp_path / "run/config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        train_tiny(tmp_path / "run", tiny(steps=2))


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be divided equally among 1 process with 3 micro-batches each"):
        train_tiny(tmp_path / "run", tiny(accumulation=3))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "unknown device 'gpu'; give auto, cpu, cuda or cuda:1"),
        ("meta", "training runs on cpu and cuda, not on meta"),
        ("cuda:99", "there is no device cuda:99 on this machine; give --device cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train_tiny(tmp_path / "run", device=device)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"tensorboard is not installed; .* or train without --tensorboard"):
        train_tiny(tmp_path / "run", tensorboard=True)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"training needs accelerate, .* `pip install 'vdm-bench\[train\]'`"):
        train_tiny(tmp_path / "run")


def test_training_that_has_diverged_stops_before_it_saves(tmp_path: Path) -> None:
    preset = tiny(steps=20, learning_rate=1e30, warmup_steps=0, clip_norm=0.0)
    with pytest.raises(InputError, match=r"the loss is .* at step \d+; .* lower training\.learning_rate"):
        train_tiny(tmp_path / "run", preset, log_every=50, checkpoint_every=5)
    assert not list((tmp_path / "run").glob("checkpoints/*"))


class Cut(Clips):
    """A dataset with one clip that is too short."""

    def __getitem__(self, index: int) -> Clip:
        clip = super().__getitem__(index)
        return Clip(clip.frames[:1], clip.key, clip.label) if index == 7 else clip


def test_a_clip_that_cannot_be_used_ends_the_run_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="clip-7: has 1 frames, the model needs 3"):
        train_tiny(tmp_path / "run", clips=Cut())


def test_bfloat16_keeps_weights_and_average_in_float32(tmp_path: Path) -> None:
    lines: dict[str, list[LogLine]] = {"fp32": [], "bf16": []}
    for precision, seen in lines.items():
        train_tiny(tmp_path / precision, tiny(steps=2), Hooks(on_log=seen.append), precision=precision)
    tensors = load_file(tmp_path / "bf16/checkpoints/step-000000002.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    full, half = lines["fp32"][0], lines["bf16"][0]
    assert full.loss != half.loss
    assert half.loss == pytest.approx(full.loss, rel=0.02)  # bfloat16 has 8 bits
    assert half.gradient_norm == pytest.approx(full.gradient_norm, rel=0.1)


def test_gradient_checkpointing_changes_nothing(trained: Path, tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", tiny(steps=2), checkpointing=True)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_samples_come_from_the_average_and_change_nothing(trained: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, torch.Tensor], bool]] = []

    def look(network: VideoUNet, step: int) -> None:
        torch.rand(7)
        seen.append((step, dict(network.state_dict()), network.training))

    train_tiny(tmp_path / "run", tiny(steps=2), Hooks(on_sample=look), sample_every=1)
    assert [(step, training) for step, _, training in seen] == [(1, False), (2, False)]
    model = load_file(trained / "model.safetensors")
    assert all(torch.equal(value, model[name]) for name, value in seen[1][1].items())
    assert (tmp_path / "run/model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_tensorboard_gets_what_the_log_gets(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", tiny(steps=4), tensorboard=True)
    board = EventAccumulator(str(tmp_path / "run/tensorboard"))
    board.Reload()
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    for name in ("loss", "gradient_norm", "learning_rate", "clips_per_second"):
        points = [(event.step, event.value) for event in board.Scalars(name)]
        assert points == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]
    assert any(tag.startswith("loss_by_log_snr/") for tag in board.Tags()["scalars"])


def test_the_config_says_what_was_trained(trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["preset"] == PRESET.name
    assert config["model.multipliers"] == [1, 2]
    assert config["training.betas"] == [0.9, 0.99]
    assert config["data"] == "noise 20 (5, 8, 8)"


def test_a_run_may_start_from_the_weights_of_another_and_says_so(trained: Path, tmp_path: Path) -> None:
    """At a learning rate of nearly nothing, they are what it ends with; clips may be of another length."""
    init = trained / "model.safetensors"
    longer = tiny(steps=1, learning_rate=1e-30).override("model", frames=5)
    train_tiny(tmp_path / "run", longer, init=init)
    before, after = load_file(init), load_file(tmp_path / "run/model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.allclose(after[name], value, rtol=0, atol=1e-20) for name, value in before.items())
    info = load_model(tmp_path / "run/model.safetensors")[1]
    assert (info.model.frames, info.training["init"]) == (5, source_of(init))
    with pytest.raises(
        InputError, match=r"holds a run with another init \('model.safetensors@\w{12}' and not None\)"
    ):
        train_tiny(tmp_path / "run", longer)


def test_weights_of_another_architecture_are_no_start(trained: Path, tmp_path: Path) -> None:
    wider = tiny().override("model", base_channels=16)
    with pytest.raises(InputError, match=r"another architecture .* is \S+ there and \S+ here; only frames and"):
        train_tiny(tmp_path / "run", wider, init=trained / "model.safetensors")
    with pytest.raises(InputError, match="does not exist"):
        train_tiny(tmp_path / "run", init=tmp_path / "none.safetensors")
    assert not (tmp_path / "run").exists()
