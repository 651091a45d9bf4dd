from dataclasses import replace

import pytest
import torch
from gaussian_process import autoregressive, exact_window, frame_denoiser, regression
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.conditional import Context, WindowSampler, window_sampler
from vdm_bench.reference_model.config import METHODS, SAMPLER_NAMES, Method, SamplingConfig
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import RULES, Downsample, DownsamplingRule, Frames
from vdm_bench.reference_model.process import Denoise, Prediction
from vdm_bench.reference_model.rollout import (
    Stage,
    autoregressive_loop,
    cascade,
    extend,
    interpolate,
    predict,
    schedule_windows,
    super_resolve,
)

T = 8
COVARIANCE = autoregressive(T, 0.9)
EXACT = exact_window(COVARIANCE)


def noise(seeds: range | list[int] = range(3), shape: tuple[int, ...] = (2, T, 3, 4)) -> NoiseStream:
    return NoiseStream(list(seeds), shape)


def frames(count: int, examples: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(examples, 2, count, 3, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Recorder:
    """A window sampler that remembers its contexts, and the noise it would have drawn first."""

    def __init__(self, window: WindowSampler) -> None:
        self.window = window
        self.contexts: list[Context] = []
        self.noises: list[Tensor] = []

    def __call__(self, context: Context, noise: NoiseStream) -> Tensor:
        self.contexts.append(context)
        self.noises.append(noise.fork(0).draw())
        return self.window(context, noise)

    @property
    def indices(self) -> list[tuple[int, ...]]:
        return [context.frames.indices if context.frames else () for context in self.contexts]


def white(context: Context, noise: NoiseStream) -> Tensor:
    """A model that heeds nothing."""
    return noise.draw().clamp(-1, 1)


# Prediction.


@pytest.mark.parametrize("count", [0, 1, 5, T - 1])
def test_prediction_begins_with_its_context_bit_for_bit(count: int) -> None:
    context, window = frames(count), Recorder(EXACT)
    clips = predict(window, context, noise())
    assert clips.shape == (3, 2, T, 3, 4)
    assert torch.equal(clips[:, :, :count], context)
    assert window.indices == [tuple(range(count))]


@pytest.mark.parametrize("count", [T, T + 3])
def test_a_context_that_leaves_nothing_to_predict_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"^the context has {count} frames, .* pass at most 7, or extend[^.]*$"):
        predict(EXACT, frames(count), noise())


# Extension.


@pytest.mark.parametrize("length", [1, T - 1, T, T + 1, 2 * T, 37])
@pytest.mark.parametrize("overlap", [1, 4, T - 1])
def test_extension_has_the_length_asked_for_and_a_stable_beginning(length: int, overlap: int) -> None:
    clips = extend(EXACT, noise(), length=length, overlap=overlap)
    longer = extend(EXACT, noise(), length=40, overlap=overlap)
    assert clips.shape == (3, 2, length, 3, 4)
    assert torch.equal(longer[:, :, :length], clips)


def test_each_block_continues_the_one_before_with_noise_of_its_own() -> None:
    window = Recorder(EXACT)
    clips = extend(window, noise(), length=T + 3 * 5 + 1, overlap=3)
    assert window.indices == [(), *[(0, 1, 2)] * 4]
    for block, context in enumerate(window.contexts[1:]):
        start = T - 3 + 5 * block
        assert context.data is not None
        assert torch.equal(context.data, clips[:, :, start : start + 3])
    assert not any(torch.equal(a, b) for i, a in enumerate(window.noises) for b in window.noises[:i])


@pytest.mark.parametrize(
    ("count", "first"), [(2, (0, 1)), (T - 1, tuple(range(T - 1))), (T, (0, 1, 2)), (20, (0, 1, 2))]
)
def test_a_context_of_any_length_is_kept_and_the_first_block_sees_its_end(
    count: int, first: tuple[int, ...]
) -> None:
    context, window = frames(count), Recorder(EXACT)
    clips = extend(window, noise(), length=25, overlap=3, context=context)
    assert torch.equal(clips[:, :, :count], context)
    assert window.indices[0] == first
    assert window.contexts[0].data is not None
    assert torch.equal(window.contexts[0].data, context[:, :, -len(first) :])
    again = extend(EXACT, noise(), length=25, overlap=3, context=clips)
    assert torch.equal(again, clips)  # nothing left to do


def test_extension_of_a_markov_process_has_its_law() -> None:
    """AR(1) needs one frame of context: covariance .9^|i - j| over any length."""
    clips = extend(EXACT, noise(range(2), (1, T, 60, 60)), length=20, overlap=1)
    covariance = torch.cov(clips.movedim(2, 0).flatten(1).double())  # 7200 values: standard errors below .017
    torch.testing.assert_close(covariance, autoregressive(20, 0.9), atol=0.06, rtol=0)


@pytest.mark.parametrize("overlap", [0, T])
def test_an_overlap_that_cannot_be_is_refused(overlap: int) -> None:
    with pytest.raises(
        InputError, match=f"overlap of {overlap} frames does not go with windows of 8; take 1 to 7"
    ):
        extend(EXACT, noise(), length=30, overlap=overlap)


def test_given_frames_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \[2, 2, 1, 3, 4\]; this model needs \[3, 2, 1, 3, 4\]"):
        predict(EXACT, frames(1, examples=2), noise())
    with pytest.raises(
        InputError, match=r"context must be a float tensor .* not a tensor uint8 \[3, 2, 1, 3, 4\]"
    ):
        predict(EXACT, frames(1).to(torch.uint8), noise())
    with pytest.raises(InputError, match="a clip of 4 frames is requested, but frame 5 is in the context"):
        extend(EXACT, noise(), length=4, overlap=1, context=frames(6))


# Filling in between.


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_filling_in_keeps_the_given_frames_bit_for_bit(stride: int, count: int) -> None:
    context = frames(count)
    clips = interpolate(EXACT, context, noise(), stride=stride)
    assert clips.shape[2] == (count - 1) * stride + 1
    assert torch.equal(clips[:, :, ::stride], context)
    longer = interpolate(EXACT, context, noise(), stride=stride, length=count * stride + 5)
    assert longer.shape[2] == count * stride + 5
    assert torch.equal(longer[:, :, : (count - 1) * stride + 1 : stride], context)


def test_filling_in_is_given_the_frames_ahead_and_behind() -> None:
    """Windows of 8, one frame in 3: each window ends with a given frame, and shares two with the one before."""
    window = Recorder(EXACT)
    interpolate(window, frames(6), noise(), stride=3)
    assert window.indices == [(0, 3, 6), (0, 1, 4, 7), (0, 1, 4)]
    assert list(schedule_windows(8, 2, 16, anchors=range(0, 16, 3))) == [(0, 7), (5, 13), (11, 16)]
    assert list(schedule_windows(16, 4, 64, anchors=range(0, 61, 4))) == [
        (0, 13),
        (9, 25),
        (21, 37),
        (33, 49),
        (45, 61),
        (57, 64),
    ]
    assert list(schedule_windows(9, 1, 64, anchors=range(0, 61, 4))) == [(8 * i, 8 * i + 9) for i in range(7)] + [
        (56, 64)
    ]


@pytest.mark.parametrize("overlap", [None, 1, 3])
def test_filling_in_a_markov_process_has_its_law(overlap: int | None) -> None:
    """Every third frame of AR(1), filled in, is AR(1): no seam where windows meet."""
    coarse = extend(exact_window(autoregressive(T, 0.9**3)), noise(range(2), (1, T, 60, 60)), length=7, overlap=1)
    clips = interpolate(EXACT, coarse, noise(range(2, 4), (1, T, 60, 60)), stride=3, overlap=overlap)
    covariance = torch.cov(clips.movedim(2, 0).flatten(1).double())
    torch.testing.assert_close(covariance, autoregressive(19, 0.9), atol=0.06, rtol=0)


def test_windows_that_do_not_reach_the_next_given_frame_are_refused() -> None:
    with pytest.raises(InputError, match="do not reach the next context frame; take a smaller overlap"):
        interpolate(EXACT, frames(3), noise(), stride=4, overlap=6)
    with pytest.raises(InputError, match="do not reach the next context frame"):
        interpolate(EXACT, frames(3), noise(), stride=T)
    with pytest.raises(InputError, match="a clip of 5 frames is requested, but frame 8 is in the context"):
        interpolate(EXACT, frames(3), noise(), length=5)
    with pytest.raises(InputError, match="at a stride of 1 or more"):
        interpolate(EXACT, frames(3), noise(), stride=0)


# Real samplers with the exact denoiser.


@pytest.mark.parametrize("method", ["reconstruction", "reconstruction-conditional"])
@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_examples_are_independent_of_batch_and_prefixes_of_length(sampler: str, method: Method) -> None:
    config = SamplingConfig(sampler=sampler, steps=6, method=method)
    window = window_sampler(frame_denoiser(COVARIANCE), config)
    context = frames(2)
    clips = extend(window, noise(), length=19, overlap=3, context=context)
    assert torch.equal(clips[:, :, :2], context)
    shorter = extend(window, noise(), length=11, overlap=3, context=context)
    assert torch.equal(shorter, clips[:, :, :11])
    for row in range(3):
        one = extend(window, noise([row]), length=19, overlap=3, context=context[row : row + 1])
        torch.testing.assert_close(one, clips[row : row + 1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_a_window_gives_back_its_given_frames_bit_for_bit(weight: float) -> None:
    data = frames(3)
    config = SamplingConfig(sampler="ddim", steps=3, reconstruction_weight=weight)
    clips = window_sampler(frame_denoiser(COVARIANCE), config)(Context(Frames((5, 0, 6)), data), noise())
    assert torch.equal(clips[:, :, [5, 0, 6]], data)


def test_noise_for_given_frames_is_not_taken_from_the_sampler() -> None:
    """Where frames are independent, how the given ones are replaced changes nothing for the others."""
    independent = frame_denoiser(torch.eye(T).double())
    first, second, unguided = (
        predict(window_sampler(independent, config), frames(2), noise())
        for config in (
            SamplingConfig(steps=5, method="replacement"),
            SamplingConfig(steps=5, method="replacement-conditional"),
            SamplingConfig(steps=5, reconstruction_weight=0.0),
        )
    )
    assert torch.equal(first, second)
    assert torch.equal(first, unguided)


def test_guidance_keeps_blocks_coherent_and_replacement_does_not() -> None:
    """Correlation of AR(1) across the seam of two blocks: .9 in truth."""

    def seam(weight: float) -> float:
        config = SamplingConfig(steps=50, clip="none", reconstruction_weight=weight)
        window = window_sampler(frame_denoiser(COVARIANCE), config)
        clips = extend(window, noise(range(2), (1, T, 40, 40)), length=T + 2, overlap=2)
        before, after = clips[:, :, T - 1].flatten(), clips[:, :, T].flatten()
        return float(torch.corrcoef(torch.stack([before, after]))[0, 1])

    assert seam(3.0) > 0.85
    assert seam(0.0) < 0.75


@pytest.mark.parametrize("corrector_guidance", [True, False])
def test_an_unguided_corrector_still_has_the_context_frames(corrector_guidance: bool) -> None:
    seen: list[Tensor] = []
    exact = frame_denoiser(COVARIANCE)

    def watched(z: Tensor, log_snr: Tensor) -> Prediction:
        if not z.requires_grad:
            seen.append(z)
        return exact(z, log_snr)

    config = SamplingConfig(sampler="predictor-corrector", steps=30, corrector_guidance=corrector_guidance)
    context = torch.full((1, 2, 1, 3, 4), 0.8)
    clips = predict(window_sampler(watched, config), context, noise([0]))
    assert torch.equal(clips[:, :, :1], context)
    assert len(seen) == (0 if corrector_guidance else 29)
    # Without any w_r a corrector without guidance is the same as one with it.
    replaced = [
        predict(
            window_sampler(exact, replace(config, corrector_guidance=on, method="replacement-conditional")),
            context,
            noise([0]),
        )
        for on in (True, False)
    ]
    assert torch.equal(*replaced)


def test_rolling_leaves_its_input_alone() -> None:
    clips = torch.zeros(3, 2, T, 3, 4)
    assert autoregressive_loop(EXACT, clips, (), [(0, T)], noise()).abs().sum() > 0
    assert clips.abs().sum() == 0


# Spatial super-resolution.

LARGE = (1, 4, 6, 6)


def pixel_denoiser() -> Denoise:
    """Exact for frames of smooth, correlated pixels that move by AR(1)."""
    pixels = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0)).double()
    distance = torch.cdist(pixels, pixels)
    covariance = (
        torch.kron(autoregressive(4, 0.9), torch.exp(-(distance**2) / 8) + 1e-3 * torch.eye(36).double()) / 4
    )

    def denoise(z: Tensor, log_snr: Tensor) -> Prediction:
        x = z.flatten(1) @ regression(covariance, log_snr).to(z).T
        return Prediction.of("x", x.reshape(z.shape), z, log_snr)

    return denoise


@pytest.fixture(scope="module")
def large_model() -> Denoise:
    return pixel_denoiser()


def test_super_resolution_agrees_with_small_frames_and_across_blocks(large_model: Denoise) -> None:
    """Both conditions at once: the small picture (eq. 8) and the large frames already there (eq. 7)."""
    config = SamplingConfig(steps=40, clip="none", reconstruction_weight=4.0)
    window = Recorder(window_sampler(large_model, config))
    small = 0.5 * torch.ones(2, 1, 7, 3, 3) * torch.linspace(-1, 1, 7)[:, None, None]
    streams = NoiseStream([0, 1], LARGE)
    clips = super_resolve(window, small, streams, rule="area")
    assert clips.shape == (2, 1, 7, 6, 6)
    free = window_sampler(large_model, config)(Context(), streams.fork(0))
    agreement = (Downsample(2, "area")(clips) - small).square().mean().sqrt()
    chance = (Downsample(2, "area")(free) - small[:, :, :4]).square().mean().sqrt()
    assert agreement < 0.15
    assert agreement < chance / 3
    assert (clips[:, :, 3] - clips[:, :, 4]).square().mean() < 3 * (
        clips[:, :, 1] - clips[:, :, 2]
    ).square().mean()
    assert window.indices == [(), (0,)]
    first, second = (context.observations[0] for context in window.contexts)
    assert torch.equal(first.data, small[:, :, :4])
    assert torch.equal(second.data, small[:, :, 4:7])  # the frame given large is not observed small as well
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 6, 6)
    assert torch.equal(second.operator(ramp)[0, 0, :, 0, 0], torch.tensor([1.0, 2.0, 3.0]))


def test_a_longer_super_resolution_begins_with_the_same_blocks(large_model: Denoise) -> None:
    window = window_sampler(large_model, SamplingConfig(steps=5))
    small = torch.zeros(2, 1, 10, 3, 3)
    whole = super_resolve(window, small, NoiseStream([0, 1], LARGE))
    part = super_resolve(window, small[:, :, :7], NoiseStream([0, 1], LARGE))
    assert torch.equal(whole[:, :, :7], part)
    one = super_resolve(window, small[1:], NoiseStream([1], LARGE))
    torch.testing.assert_close(whole[1:], one, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_super_resolution_observes_by_factor_and_named_rule(factor: int, rule: DownsamplingRule) -> None:
    window = Recorder(white)
    super_resolve(window, torch.zeros(2, 1, 4, 6 // factor, 6 // factor), NoiseStream([0, 1], LARGE), rule=rule)
    clips = torch.rand(2, *LARGE)
    (observation,) = window.contexts[0].observations
    assert torch.equal(observation.operator(clips), Downsample(factor, rule)(clips))


def test_super_resolution_refuses_what_does_not_fit(large_model: Denoise) -> None:
    window, streams = window_sampler(large_model, SamplingConfig(steps=2)), NoiseStream([0, 1], LARGE)
    for shape in ((2, 1, 4, 4, 4), (2, 1, 4, 3, 2), (1, 1, 4, 3, 3), (2, 3, 4, 3, 3), (2, 1, 4, 12, 12)):
        with pytest.raises(InputError, match=r"small frames .* do not fit 2 clips of the model's \[1, 4, 6, 6\]"):
            super_resolve(window, torch.zeros(shape), streams)
    with pytest.raises(InputError, match="a clip of 3 frames is requested, but there is a small frame 4"):
        super_resolve(window, torch.zeros(2, 1, 5, 3, 3), streams, length=3)
    unguided = window_sampler(large_model, replace(SamplingConfig(steps=2), reconstruction_weight=0.0))
    with pytest.raises(InputError, match="w_r is 0"):
        super_resolve(unguided, torch.zeros(2, 1, 5, 3, 3), streams)


# The cascade.


def stages(window: WindowSampler) -> tuple[Stage, Stage, Stage, list[Recorder]]:
    """The paper's models, with small frames: 16 frames at frameskip 4 and 1, and 9 frames of twice the size."""
    windows = [Recorder(window) for _ in range(3)]
    base, between = (Stage(recorder, (1, 16, 3, 3)) for recorder in windows[:2])
    return base, between, Stage(windows[2], (1, 9, 6, 6)), windows


def test_the_cascade_extends_fills_in_and_enlarges() -> None:
    base, between, large, windows = stages(white)
    clips = cascade(base, between, large, [0, 1], frames=24)
    assert clips.shape == (2, 1, 96, 6, 6)
    assert windows[0].indices == [(), tuple(range(8))]
    assert windows[1].indices[:2] == [(0, 4, 8, 12), (0, 1, 2, 3, 7, 11, 15)]
    assert windows[2].indices == [()] + [(0,)] * 11
    small = cascade(base, between, None, [0, 1], frames=24)
    coarse = extend(white, NoiseStream([0, 1], (1, 16, 3, 3)).fork(0), length=24, overlap=8)
    assert torch.equal(small[:, :, ::4], coarse)
    for block, context in enumerate(windows[2].contexts):
        (observation,) = context.observations
        start = 8 * block + (1 if block else 0)
        assert torch.equal(observation.data, small[:, :, start : 8 * block + 9])


def test_without_a_model_between_the_large_one_fills_in_as_well() -> None:
    """Windows of 9 over small frames one in four: frames 0, 4 and 8 of a window are observed."""
    base, _, large, windows = stages(white)
    clips = cascade(base, None, large, [0, 1])
    assert clips.shape == (2, 1, 64, 6, 6)
    coarse = extend(white, NoiseStream([0, 1], (1, 16, 3, 3)).fork(0), length=16, overlap=8)
    assert len(windows[2].contexts) == 8
    ramp = torch.arange(9.0).reshape(1, 1, 9, 1, 1).expand(1, 1, 9, 6, 6)
    for block, context in enumerate(windows[2].contexts):
        (observation,) = context.observations
        seen = [0, 4, 8] if block == 0 else [4, 8] if block < 7 else [4]
        assert observation.operator(ramp)[0, 0, :, 0, 0].tolist() == seen
        assert torch.equal(observation.data, coarse[:, :, [2 * block + index // 4 for index in seen]])


def test_the_cascade_depends_on_each_seed_and_stages_have_own_noise() -> None:
    base, between, large, windows = stages(white)
    clips = cascade(base, between, large, [3, 4])
    assert torch.equal(cascade(base, between, large, [4]), clips[1:])
    assert not torch.equal(windows[0].noises[0], windows[1].noises[0])
    with pytest.raises(InputError, match="pass `temporal`, `spatial` or both"):
        cascade(base, None, None, [0])


def test_dynamic_clipping_is_refused_where_it_would_move_the_given_frames() -> None:
    for method, (_, variant) in METHODS.items():
        if variant == "conditional":
            with pytest.raises(InputError, match="choose clip static, or a method without -conditional"):
                SamplingConfig(clip="dynamic", method=method)
        else:
            SamplingConfig(clip="dynamic", method=method)
