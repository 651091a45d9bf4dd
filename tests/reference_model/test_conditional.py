"""`sample_with_context`: a user's own denoiser under guidance, reconstruction and replacement, in one call."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gaussian_process import autoregressive, conditional_law, frame_denoiser
from torch import Tensor, nn

from vdm_bench.errors import InputError
from vdm_bench.reference_model.conditional import Context, conditioned, sample_with_context
from vdm_bench.reference_model.config import METHODS, SAMPLER_NAMES, Method, SamplingConfig
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.guidance import classifier_free, replacement
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import Downsample, Frames, Observation
from vdm_bench.reference_model.process import Denoise, Prediction, from_uint8
from vdm_bench.reference_model.samplers import StepState, sample

T = 4
SHAPE = (1, T, 4, 4)
EXACT = frame_denoiser(autoregressive(T, 0.9))
WIDE = frame_denoiser(autoregressive(T, 0.5))
QUICK = SamplingConfig(sampler="ddim", steps=4)


def frames(count: int = 1, examples: int = 2) -> Tensor:
    return torch.rand(examples, 1, count, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_one_call_does_what_its_parts_do_together(sampler: str, method: Method) -> None:
    config = SamplingConfig(
        sampler=sampler, steps=5, method=method, guidance_weight=0.5, reconstruction_weight=1.5
    )
    observation = (Observation(Downsample(2), frames(T)[..., ::2, ::2]),) if config.w_r else ()
    context = Context(Frames((2, 0)), frames(2), observation)
    steps: list[StepState] = []
    clips = sample_with_context(
        EXACT, context, [3, 8], SHAPE, sampling=config, unconditional=WIDE, callback=steps.append
    )
    noise = NoiseStream([3, 8], SHAPE)
    guided = classifier_free(EXACT, WIDE, 0.5)
    whole = conditioned(guided, context, weight=config.w_r, variant=config.variant, noise=noise.fork(0))
    assert torch.equal(clips, context.restore(sample(whole, noise, config)))
    assert len(steps) == 5


@pytest.mark.parametrize("method", METHODS)
def test_the_result_contains_the_context_bit_for_bit(method: Method) -> None:
    context = frames(2)
    clips = sample_with_context(
        EXACT, Context(Frames((3, 1)), context), [1, 2], SHAPE, sampling=replace(QUICK, method=method)
    )
    assert clips.shape == (2, *SHAPE)
    assert torch.equal(clips[:, :, [3, 1]], context)
    [alone] = sample_with_context(
        EXACT, Context(Frames((3, 1)), context[1:]), [2], SHAPE, sampling=replace(QUICK, method=method)
    )
    assert torch.allclose(alone, clips[1], atol=1e-6)


def test_reconstruction_guidance_predicts_better_than_replacement() -> None:
    """E[x^b | x^a] of an AR(1) process, whose one context frame has the value 0.9 at 4,800 pixels."""
    context = Context.first_frames(torch.full((3, 1, 1, 40, 40), 0.9))
    gain, _ = conditional_law(autoregressive(T, 0.9), (0,))
    errors = []
    for method in ("reconstruction", "replacement"):
        config = SamplingConfig(steps=64, clip="none", method=method, reconstruction_weight=5.0)
        clips = sample_with_context(EXACT, context, range(3), (1, T, 40, 40), sampling=config)
        errors.append((clips.mean((0, 1, 3, 4)) - 0.9 * gain[:, 0]).abs().max())
    assert errors[0] < 0.5 * errors[1]


def test_without_context_it_is_the_sampler_alone_and_takes_no_gradient() -> None:
    def blocked(z: Tensor, log_snr: Tensor) -> Prediction:
        with torch.no_grad():
            return EXACT(z, log_snr)

    clips = sample_with_context(blocked, Context(), [5], SHAPE, sampling=QUICK, dtype=torch.float64)
    assert clips.dtype == torch.float64
    assert torch.equal(clips, sample(EXACT, NoiseStream([5], SHAPE, dtype=torch.float64), QUICK))


def test_a_network_of_ones_own_is_guided_by_its_gradient() -> None:
    network = nn.Conv3d(1, 1, 3, padding=1, bias=False)
    nn.init.constant_(network.weight, 0.03)

    def denoise(z: Tensor, log_snr: Tensor) -> Prediction:
        return Prediction.of("x", network(z), z, log_snr)

    context = Context.first_frames(frames())
    guided, plain = (
        sample_with_context(denoise, context, [1, 2], SHAPE, sampling=replace(QUICK, method=method))
        for method in ("reconstruction", "replacement")
    )
    assert torch.equal(guided[:, :, 0], plain[:, :, 0])
    assert not torch.allclose(guided[:, :, 1], plain[:, :, 1], atol=1e-3)
    assert not guided.requires_grad


GOOD: dict[str, Any] = {
    "denoise": EXACT,
    "context": Context(),
    "seeds": [1, 2],
    "shape": SHAPE,
    "sampling": QUICK,
}


def returns(value: object) -> Denoise:
    return lambda z, log_snr: value  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"context": frames()}, r"must be a Context.* not a tensor float32 \[2, 1, 1, 4, 4\]"),
        (
            {"context": Context.first_frames(frames(1, 3))},
            r"\[3, 1, 1, 4, 4\]; for 2 seeds .* be \[2, 1",
        ),
        ({"context": Context.first_frames(frames(5))}, "frame 4 is in the context, but the model's clips have 4"),
        ({"context": Context.first_frames(frames() * 255)}, r"values up to 24\d\S*, but clips are thresholded"),
        ({"context": Context.first_frames(frames() * torch.nan)}, r"not finite; pass floats in \[-1, 1\]"),
        ({"seeds": []}, "there are 0 seeds"),
        ({"seeds": 7}, "seeds are 7; pass a sequence of whole numbers"),
        ({"seeds": [1, 1.5]}, r"seed 1\.5 is not a whole number"),
        ({"shape": (4, 4, 4)}, r"pass seeds, and \(C, T, H, W\)"),
        ({"shape": (1, T, 0, 4)}, r"clips of shape \(1, 4, 0, 4\)"),
        ({"denoise": lambda z, log_snr: EXACT(z * torch.nan, log_snr)}, "the denoiser returns NaN or overflows"),
        ({"shape": (1, T, 4.0, 4)}, r"the shape of an example is \(1, 4, 4\.0, 4\)"),
        ({"sampling": replace(QUICK, guidance_weight=1.0)}, r"guidance_weight 1\.0 needs the model without"),
        (
            {"denoise": returns(torch.zeros(2, *SHAPE))},
            r"must return a Prediction, .* not a tensor float32 \[2, 1",
        ),
        (
            {"denoise": returns(Prediction(*torch.zeros(3, 2, 1)))},
            r"shape \[2, 1\] for z of shape \[2, 1, 4, 4, 4\]",
        ),
    ],
)
def test_a_wrong_argument_is_named_in_one_sentence(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        sample_with_context(**(GOOD | wrong))
    assert "\n" not in str(error.value)


def test_latents_of_any_size_are_taken_without_thresholding() -> None:
    context = frames() * 30
    clips = sample_with_context(
        EXACT, Context.first_frames(context), [1, 2], SHAPE, sampling=replace(QUICK, clip="none")
    )
    assert torch.equal(clips[:, :, :1], context)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Context([0], frames()), "context's frames must be Frames.* not an object of type list"),
        (
            lambda: Context(Frames((0,)), frames()[0]),
            r"data must be a float tensor \[B, C, K, H, W\]",
        ),
        (
            lambda: Context.first_frames(np.zeros((1, 1, 1, 4, 4))),
            "not an object of type ndarray; `process",
        ),
        (lambda: Context.first_frames(frames().byte()), r"not a tensor uint8 \[2, 1, 1, 4, 4\]"),
        (lambda: Context(observations=(frames(),)), r"must be Observation\(operator, data\), not a tensor"),
        (lambda: Frames([0, 1]), r"frames are \[0, 1\]; they must be a tuple"),
        (lambda: Frames((0.0,)), r"frames are \(0\.0,\)"),
        (lambda: Observation(2, frames()), "operator must be a function of clips, .* not an object of type int"),
        (lambda: Observation(Downsample(2), [1.0]), "data must be a float tensor .* not an object of type list"),
        (lambda: Downsample(2.0), r"factor 2\.0 is not a whole number"),
        (lambda: replacement(EXACT, frames().byte(), Frames((0,)), "conditional"), "data of replacement must be"),
        (lambda: replacement(EXACT, frames(), (0,), "conditional"), "known part must be Frames, or a bool mask"),
        (lambda: from_uint8(frames()), r"uint8 \[N, T, H, W, 3\], not a tensor float32 \[2, 1, 1, 4, 4\]"),
        (lambda: Condition(labels=[1, 2]), r"labels must be a tensor, int64 \[B\], not an object of type list"),
        (lambda: Condition(labels=torch.zeros(2)), r"int64 \[B\], not a tensor float32 \[2\]"),
        (lambda: Condition(text=torch.zeros(1, 2, 3)), "not a tensor float32 .* and an object of type NoneType"),
        (lambda: NoiseStream([1], (2,)).fork("a"), "purpose 'a' is not a whole number"),
        (lambda: NoiseStream([1], (2,)).fork(0.5), r"purpose 0\.5 is not a whole number"),
    ],
)
def test_what_takes_arrays_names_what_it_expects(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_mask_that_does_not_broadcast_is_refused() -> None:
    mask = torch.ones(3, 1, dtype=torch.bool)
    masked = replacement(EXACT, frames(T), mask, "conditional")
    with pytest.raises(InputError, match=r"\[3, 1\], which does not broadcast to \[2, 1, 4, 4, 4\]"):
        masked(frames(T), torch.tensor(0.0).double())


def test_whole_numbers_of_any_library_are_seeds_and_purposes() -> None:
    expected = NoiseStream([3, 4], (5,)).fork(2).draw()
    for seeds in (np.array([3, 4]), torch.tensor([3, 4]), range(3, 5)):
        assert torch.equal(NoiseStream(seeds, (5,)).fork(np.int64(2)).draw(), expected)  # type: ignore[arg-type]
