"""Sampling and training where a tensor that was left on the CPU is refused, as on a GPU; without a GPU."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from other_device import DEVICE
from safetensors.torch import load_file
from tiny_model import TINY
from tiny_training import PRESET, Clips
from torch import Tensor, nn

from vdm_bench.reference_model.conditional import Context, sample_with_context, window_sampler
from vdm_bench.reference_model.config import METHODS, SAMPLER_NAMES, SamplingConfig
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.model import ReferenceModel, build_model
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import RULES, Downsample, Frames, Observation
from vdm_bench.reference_model.rollout import Stage, cascade, predict
from vdm_bench.reference_model.training.devices import Devices
from vdm_bench.reference_model.training.log import LogLine
from vdm_bench.reference_model.training.loop import Hooks, RunConfig, Trainer, TrainingOptions, acquire_run_dir
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.samplers.reference_model import ReferenceSampler
from vdm_bench.training.data import ClipBatches

SAMPLING = SamplingConfig(steps=2, gamma=0.3)


def model(**changes: Any) -> ReferenceModel:
    """On the CPU, with weights of no meaning: those of a new network give zero whatever it is given."""
    config = dataclasses.replace(TINY, **changes)
    torch.manual_seed(0)
    network = build_model(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    return ReferenceModel(network, config, SAMPLING, "tiny")


def request(model: ReferenceModel, *, context: int, frames: int) -> SampleRequest:
    side = model.config.resolution
    given = np.random.default_rng(1).integers(0, 256, (3, context, side, side, 3), np.uint8)
    labels = np.array([0, 2, 1]) if model.config.classes else None
    return SampleRequest((0, 1, 2), (5, 6, 7), frames, side, side, given if context else None, labels)


def same_elsewhere(model: ReferenceModel, device: torch.device, chosen: dict[str, object], **asked: int) -> None:
    settings = SAMPLING.override({"batch": 2, **chosen})
    expected = ReferenceSampler(model, settings).sample(request(model, **asked))
    model.network.to(device)
    found = ReferenceSampler(model, settings).sample(request(model, **asked))
    assert np.abs(found.astype(int) - expected).max() <= 2  # attention sums in another order there


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.parametrize("clip", ["none", "static", "dynamic"])
def test_every_sampler_with_classifier_free_guidance(elsewhere: torch.device, sampler: str, clip: str) -> None:
    chosen = {"sampler": sampler, "clip": clip, "guidance_weight": 1.0, "correct_last": True}
    same_elsewhere(model(), elsewhere, chosen, context=0, frames=4)


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_every_sampler_with_every_kind_of_context(elsewhere: torch.device, sampler: str, method: str) -> None:
    chosen = {"sampler": sampler, "method": method, "reconstruction_weight": 2.0, "corrector_guidance": False}
    same_elsewhere(model(), elsewhere, chosen, context=1, frames=4)


@pytest.mark.parametrize("changes", [{"prediction": "x"}, {"prediction": "eps"}, {"class_factors": (3, 1)}])
def test_every_prediction_and_factors_of_labels(elsewhere: torch.device, changes: dict[str, Any]) -> None:
    same_elsewhere(model(**changes), elsewhere, {"log_snr_shift": -1.0}, context=0, frames=4)


def test_a_longer_clip_block_by_block(elsewhere: torch.device) -> None:
    same_elsewhere(model(), elsewhere, {"reconstruction_weight": 2.0}, context=5, frames=9)


def test_text_and_a_context_of_the_model_itself(elsewhere: torch.device) -> None:
    made = model(classes=0, text_dim=6)
    texts = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    context = torch.randint(0, 256, (2, 2, 8, 8, 3), dtype=torch.uint8)
    found = []
    for device in (torch.device("cpu"), elsewhere):
        made.network.to(device)
        condition = Condition(None, texts, mask).to(device)
        sampling = dataclasses.replace(SAMPLING, guidance_weight=1.0, reconstruction_weight=1.0)
        clips = made.sample([1, 2], condition=condition, context=context, length=6, sampling=sampling)
        assert clips.device == device
        found.append(clips.cpu().int())
    assert (found[0] - found[1]).abs().max() <= 2


@pytest.mark.parametrize("rule", RULES)
def test_prediction_filling_in_between_and_super_resolution(elsewhere: torch.device, rule: Any) -> None:
    small, large = model(classes=0), model(classes=0, resolution=16, attention_resolutions=(8,))
    found = []
    for device in (torch.device("cpu"), elsewhere):
        windows = []
        for made in (small, large):
            made.network.to(device)
            sampling = dataclasses.replace(SAMPLING, reconstruction_weight=1.0)
            windows.append(window_sampler(made.denoiser(), sampling))
        stages = [Stage(window, (3, 4, side, side)) for window, side in zip(windows, (8, 16), strict=True)]
        base, above = stages
        clips = cascade(base, base, above, [3, 4], frames=2, stride=2, rule=rule, device=device)
        noise = NoiseStream([3, 4], (3, 4, 8, 8), device)
        rest = predict(windows[0], torch.zeros(2, 3, 1, 8, 8, device=device), noise)
        assert clips.device == rest.device == device
        found.append((clips.cpu(), rest.cpu()))
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_context_and_observations_may_stay_on_the_cpu(elsewhere: torch.device, method: Any) -> None:
    made = model()
    random = torch.Generator().manual_seed(0)
    frames, small = (torch.rand(2, 3, count, 8, 8, generator=random) * 2 - 1 for count in (1, 4))
    guided = SAMPLING.override({"method": method, "guidance_weight": 0.5})
    known = (Observation(Downsample(2), small[..., ::2, ::2]),) if guided.w_r else ()
    found = []
    for device in (torch.device("cpu"), elsewhere):
        made.network.to(device)
        condition = Condition(torch.tensor([0, 2], device=device))
        clips = sample_with_context(
            made.denoiser(condition),
            Context(Frames((3,)), frames, known),
            [5, 6],
            (3, 4, 8, 8),
            sampling=guided,
            unconditional=made.denoiser(),
            device=device,
        )
        assert clips.device == device
        found.append(clips.cpu())
    assert torch.equal(found[1][:, :, 3:], frames)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-3)


class _Elsewhere(Devices):
    """One process on a device that accelerate does not know."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.shard = device, False
        self.accelerator = self  # type: ignore[assignment]

    is_main, count, process_index = True, 1, 0  # type: ignore[assignment]

    def wait(self) -> None:
        pass

    def wrap(self, network: nn.Module) -> nn.Module:
        return network.to(self.device)

    def no_sync(self, network: nn.Module) -> nullcontext[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def total(self, values: Tensor) -> Tensor:
        return values


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_training_steps_checkpoints_previews_and_going_on(
    elsewhere: torch.device, optimiser: str, tmp_path: Path
) -> None:
    preset = PRESET.override("model", dropout=0.0).override(
        "training", optimiser=optimiser, accumulation=2, clip_norm=1.0
    )

    def trained(name: str, device: torch.device, steps: int) -> list[LogLine]:
        lines: list[LogLine] = []
        chosen = preset.override("training", steps=steps, schedule="constant")
        data = ClipBatches(Clips(), chosen, workers=1)
        options = TrainingOptions(log_every=1, checkpoint_every=1, sample_every=1, checkpointing=True)
        hooks = Hooks(on_log=lines.append, on_sample=lambda network, step: previews.append(network))
        acquire_run_dir(tmp_path / name, RunConfig(chosen, 0, "fp32", data.identity, None))
        trainer = Trainer(chosen, data, tmp_path / name, options, hooks, _Elsewhere(device))
        trainer.resume()
        assert trainer.run() == steps
        return lines

    previews: list[nn.Module] = []
    here = trained("here", torch.device("cpu"), steps=2)
    there = trained("there", elsewhere, steps=1) + trained("there", elsewhere, steps=2)
    assert [line.step for line in there] == [1, 2]
    assert {next(network.parameters()).device.type for network in previews} == {"cpu", DEVICE.type}
    for one, other in zip(here, there, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-3)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-2)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("here", "there")]
    assert weights[0].keys() == weights[1].keys()
