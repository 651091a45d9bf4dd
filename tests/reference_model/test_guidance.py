from collections.abc import Sequence

import numpy as np
import pytest
import torch
from gaussian_data import Counted
from gaussian_process import autoregressive, conditional_law, frame_denoiser, regression
from observed import matrix_of, normal
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.conditional import Context, conditioned
from vdm_bench.reference_model.config import SAMPLER_NAMES, VARIANTS, SamplingConfig, Variant
from vdm_bench.reference_model.guidance import (
    classifier_free,
    classifier_free_batched,
    reconstruction,
    replacement,
)
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import (
    Chain,
    Downsample,
    Frames,
    Observation,
    Operator,
)
from vdm_bench.reference_model.process import Denoise, Prediction, alpha_sigma, posterior
from vdm_bench.reference_model.samplers import StepState, ancestral, evaluations, sample

LEVEL = torch.tensor(0.7, dtype=torch.float64)


def linear(matrix: Tensor) -> Denoise:
    """x_hat = M z over all values of an example, whatever M is."""

    def denoise(z: Tensor, log_snr: Tensor) -> Prediction:
        return Prediction.of("x", (z.flatten(1) @ matrix.T).reshape(z.shape), z, log_snr)

    return denoise


def assert_consistent(prediction: Prediction, z: Tensor, log_snr: Tensor) -> None:
    alpha, sigma = alpha_sigma(log_snr, z)
    torch.testing.assert_close(alpha * prediction.x + sigma * prediction.eps, z)
    torch.testing.assert_close(alpha * prediction.eps - sigma * prediction.x, prediction.v)


# The oracle: two frames of one pixel, x ~ N(0, [[1, .8], [.8, 1]]), x^a = .9 is the first, z = (.7, -.4).

PAIR = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
PAIR_Z = torch.tensor([0.7, -0.4], dtype=torch.float64).reshape(1, 1, 2, 1, 1)
PAIR_CONTEXT = Context.first_frames(torch.tensor(0.9, dtype=torch.float64).reshape(1, 1, 1, 1, 1))


def exact_weight(covariance: Tensor, log_snr: Tensor) -> float:
    """The w_r with which eq. 7 is exact for one given frame, the first.

    The paper takes sigma^2 / alpha^2 for the variance of x^a given z; w_r can make up for the difference.
    """
    unexplained = covariance - torch.sigmoid(log_snr).sqrt() * regression(covariance, log_snr) @ covariance
    return float(torch.exp(-log_snr) / unexplained[0, 0])


@pytest.mark.parametrize(
    ("log_snr", "exact", "replaced", "approximate"),
    [(-2.0, 0.6327, 0.0431, 0.1086), (0.0, 0.3797, 0.0067, 0.1577), (3.0, -0.2726, -0.3017, -0.2759)],
)
def test_the_oracle_of_two_correlated_frames(
    log_snr: float, exact: float, replaced: float, approximate: float
) -> None:
    level = torch.tensor(log_snr, dtype=torch.float64)
    for weight, expected in ((exact_weight(PAIR, level), exact), (0.0, replaced), (1.0, approximate)):
        guided = conditioned(frame_denoiser(PAIR), PAIR_CONTEXT, weight=weight, variant="conditional")
        predicted = guided(PAIR_Z, level)
        assert predicted.x[0, 0, 0].item() == 0.9
        assert predicted.x[0, 0, 1].item() == pytest.approx(expected, abs=5e-5)
        assert_consistent(predicted, PAIR_Z, level)
    # The exact value by another way: x^b given x^a and z^b, in which z^a says nothing new.
    alpha, noise = float(torch.sigmoid(level)) ** 0.5, float(torch.sigmoid(-level))
    gain = alpha * 0.36 / (alpha**2 * 0.36 + noise)
    assert 0.72 + gain * (-0.4 - alpha * 0.72) == pytest.approx(exact, abs=5e-5)


# Observation operators against matrices written down without them.


# Reconstruction guidance on a linear-Gaussian model.

SHAPE = (2, 3, 4, 6)
SIZE = 2 * 3 * 4 * 6
OPERATORS: dict[str, tuple[Operator, np.ndarray]] = {
    "frames": (Frames((2, 0)), matrix_of(SHAPE, (2, 0), 1, "area")),
    "bilinear": (Downsample(2, "bilinear"), matrix_of(SHAPE, range(3), 2, "bilinear")),
    "area": (Downsample(2, "area"), matrix_of(SHAPE, range(3), 2, "area")),
    "antialias": (Downsample(2, "antialias"), matrix_of(SHAPE, range(3), 2, "antialias")),
    "small frames": (Chain((Frames((1,)), Downsample(2, "area"))), matrix_of(SHAPE, (1,), 2, "area")),
}


@pytest.mark.parametrize(
    "names", [(name,) for name in OPERATORS] + [("frames", "bilinear"), ("frames", "area", "antialias")]
)
@pytest.mark.parametrize("per_example", [False, True])
def test_reconstruction_on_a_linear_model_equals_the_closed_form(names: Sequence[str], per_example: bool) -> None:
    """x_hat = M z, so x~ = M z + w_r alpha sum M^T A^T (x^a - A M z)."""
    root = normal(SIZE, SIZE, seed=1) / SIZE**0.5
    level = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64) if per_example else LEVEL
    model = regression(root @ root.T, LEVEL)  # any matrix would do
    z = normal(3, *SHAPE)
    alpha, _ = alpha_sigma(level, z.flatten(1))
    expected = x_hat = z.flatten(1) @ model.T
    observations = []
    for seed, name in enumerate(names):
        operator, matrix = OPERATORS[name]
        data = normal(*operator(z).shape, seed=seed + 7)
        observations.append(Observation(operator, data))
        A = torch.from_numpy(matrix)
        expected = expected + 1.7 * alpha * (data.flatten(1) - x_hat @ A.T) @ A @ model
    predicted = reconstruction(linear(model), observations, 1.7)(z, level)
    torch.testing.assert_close(predicted.x.flatten(1), expected)
    assert_consistent(predicted, z, level)


def test_reconstruction_sums_over_values_and_does_not_average() -> None:
    """Where pixels are processes of their own, what is known of one does not weaken the guidance of another."""
    denoise = frame_denoiser(autoregressive(3, 0.9))
    z, data = normal(2, 3, 3, 8, 8), normal(2, 3, 1, 8, 8, seed=1)
    whole = reconstruction(denoise, [Observation(Frames((0,)), data)], 2.0)(z, LEVEL).x
    corner = reconstruction(denoise, [Observation(Frames((0,)), data[..., :1, :1])], 2.0)(z[..., :1, :1], LEVEL).x
    torch.testing.assert_close(whole[..., :1, :1], corner)
    one = reconstruction(denoise, [Observation(Frames((0,)), data[1:])], 2.0)(z[1:], LEVEL).x
    torch.testing.assert_close(whole[1:], one)  # nor do other examples


def test_reconstruction_compares_the_frames_that_are_known() -> None:
    z = normal(1, 1, 4, 2, 2)
    denoise = frame_denoiser(autoregressive(4, 0.9))
    x_hat = denoise(z, LEVEL).x
    right = reconstruction(denoise, [Observation(Frames((3, 1)), x_hat[:, :, [3, 1]])], 5.0)
    torch.testing.assert_close(right(z, LEVEL).x, x_hat)  # the model agrees with what is known: no shift
    for indices in ((1, 3), (0, 1), (2, 3)):
        wrong = reconstruction(denoise, [Observation(Frames(indices), x_hat[:, :, [3, 1]])], 5.0)
        assert not torch.allclose(wrong(z, LEVEL).x, x_hat, atol=1e-2)


def test_reconstruction_takes_the_gradient_before_any_clipping() -> None:
    z = torch.full((1, 1, 2, 1, 1), 9.0, dtype=torch.float64)
    model = torch.tensor(
        [[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64
    )  # x_hat = (9, 13.5): far outside of [-1, 1]
    data = torch.full((1, 1, 1, 1, 1), 0.5, dtype=torch.float64)
    predicted = reconstruction(linear(model), [Observation(Frames((1,)), data)], 1.0)(z, LEVEL)
    alpha = torch.sigmoid(LEVEL).sqrt().item()
    shift = alpha * (0.5 - 13.5)
    torch.testing.assert_close(
        predicted.x.flatten(), torch.tensor([9.0 + 0.5 * shift, 13.5 + shift], dtype=torch.float64)
    )


def test_reconstruction_goes_through_the_guided_prediction() -> None:
    conditional, unconditional = normal(6, 6, seed=1), normal(6, 6, seed=2)
    z, data = normal(2, 1, 3, 1, 2), normal(2, 1, 1, 1, 2, seed=3)
    known = [Observation(Frames((1,)), data)]
    guided = reconstruction(classifier_free(linear(conditional), linear(unconditional), 0.6), known, 1.3)
    combined = reconstruction(linear(1.6 * conditional - 0.6 * unconditional), known, 1.3)
    torch.testing.assert_close(guided(z, LEVEL).x, combined(z, LEVEL).x)


class Convolution(torch.nn.Module):
    """A small network that is not linear, and gives v."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = torch.nn.Parameter(torch.randn(2, 2, 3, 3, 3, dtype=torch.float64, generator=generator) / 5)

    def forward(self, z: Tensor, log_snr: Tensor) -> Prediction:
        v = torch.tanh(torch.nn.functional.conv3d(z, self.weight, padding=1)) * torch.sigmoid(log_snr)
        return Prediction.of("v", v, z, log_snr)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_reconstruction_finds_its_gradient_wherever_it_is_called(mode: type[torch.no_grad]) -> None:
    network = Convolution()
    known = [Observation(Frames((0,)), normal(1, 2, 1, 4, 4, seed=1))]
    with mode():
        z = normal(1, 2, 3, 4, 4)
        predicted = reconstruction(network, known, 1.0)(z, LEVEL)
        plain = network(z, LEVEL).x.detach()
    assert network.weight.grad is None
    assert not any(member.requires_grad for member in (predicted.x, predicted.eps, predicted.v))
    # Central differences in some values of z.
    z = z.clone()
    alpha = torch.sigmoid(LEVEL).sqrt().item()

    def error(at: Tensor) -> float:
        return float((known[0].data - network(at, LEVEL).x[:, :, :1]).square().sum().detach())

    for index in ((0, 0, 0, 1, 2), (0, 1, 1, 3, 0), (0, 0, 2, 2, 2)):
        step = torch.zeros_like(z)
        step[index] = 1e-5
        slope = (error(z + step) - error(z - step)) / 2e-5
        assert float(predicted.x[index] - plain[index]) == pytest.approx(-0.5 * alpha * slope, abs=1e-7)


# Classifier-free guidance.


def test_classifier_free_guidance_in_both_conventions() -> None:
    conditional, unconditional = linear(normal(6, 6, seed=1)), linear(normal(6, 6, seed=2))
    z = normal(2, 1, 3, 1, 2)
    c, u = conditional(z, LEVEL), unconditional(z, LEVEL)
    for weight in (-1.0, 0.0, 0.5, 4.0):
        guided = classifier_free(conditional, unconditional, weight)(z, LEVEL)
        torch.testing.assert_close(guided.eps, (1 + weight) * c.eps - weight * u.eps)
        scale = 1 + weight  # the other convention
        torch.testing.assert_close(guided.eps, scale * c.eps + (1 - scale) * u.eps)
        assert_consistent(guided, z, LEVEL)


@pytest.mark.parametrize("level", [LEVEL, torch.tensor([-1.0, 2.0], dtype=torch.float64)])
def test_one_batch_of_twice_the_size_gives_the_same_guidance(level: Tensor) -> None:
    first, second = normal(6, 6, seed=1), normal(6, 6, seed=2)

    def both(z: Tensor, log_snr: Tensor) -> Prediction:
        half = len(z) // 2
        assert torch.equal(z[:half], z[half:])
        x = torch.cat([z[:half].flatten(1) @ first.T, z[half:].flatten(1) @ second.T]).reshape(z.shape)
        return Prediction.of("x", x, z, log_snr)

    z, counted = normal(2, 1, 3, 1, 2), Counted(both)
    batched = classifier_free_batched(counted, 0.8)(z, level)
    apart = classifier_free(linear(first), linear(second), 0.8)(z, level)
    assert counted.count == 1
    for member in ("x", "eps", "v"):
        torch.testing.assert_close(getattr(batched, member), getattr(apart, member))


def test_no_guidance_costs_no_second_evaluation() -> None:
    conditional, unconditional = Counted(linear(normal(6, 6))), Counted(linear(normal(6, 6)))
    classifier_free(conditional, unconditional, 0.0)(normal(1, 1, 3, 1, 2), LEVEL)
    assert (conditional.count, unconditional.count) == (1, 0)


# Replacement.


def test_the_conditional_variant_draws_from_the_posterior() -> None:
    """Each ancestral step is z^a_s = mean + std eps of q(z^a_s | x^a, z^a_t), and the last is x^a."""
    data = normal(2, 1, 2, 3, 3) / 3
    steps: list[StepState] = []
    stream = NoiseStream([5, 6], (1, 4, 3, 3), dtype=torch.float64)
    guided = replacement(frame_denoiser(autoregressive(4, 0.9)), data, Frames((1, 3)), "conditional")
    x = ancestral(guided, stream, steps=12, clip="none", callback=steps.append)
    again = NoiseStream([5, 6], (1, 4, 3, 3), dtype=torch.float64)
    torch.testing.assert_close(steps[0].z, again.draw())
    ends = [step.z for step in steps[1:]] + [x]
    for step, end in zip(steps, ends, strict=True):
        mean, variance = posterior(step.z[:, :, [1, 3]], data, step.log_snr_t, step.log_snr_s)
        drawn = 0.0 if step.last else variance.sqrt() * again.draw()[:, :, [1, 3]]
        torch.testing.assert_close(end[:, :, [1, 3]], mean + drawn)
    torch.testing.assert_close(x[:, :, [1, 3]], data, atol=1e-6, rtol=0)


def test_the_marginal_variant_shows_fresh_samples_of_the_forward_process() -> None:
    """At each evaluation z^a is N(alpha x^a, sigma^2), independent of the ones before; z^b is the sampler's."""
    data = torch.full((2, 1, 1, 40, 40), 0.6, dtype=torch.float64)
    seen: list[tuple[Tensor, Tensor]] = []
    exact = frame_denoiser(autoregressive(2, 0.9))

    def watched(z: Tensor, log_snr: Tensor) -> Prediction:
        seen.append((z, log_snr))
        return exact(z, log_snr)

    steps: list[StepState] = []
    stream = NoiseStream([1, 2], (1, 2, 40, 40), dtype=torch.float64)
    guided = replacement(watched, data, Frames((0,)), "marginal", stream.fork(9))
    ancestral(guided, stream, steps=10, clip="none", callback=steps.append)
    noises = []
    for (z, log_snr), step in zip(seen, steps, strict=True):
        assert torch.equal(z[:, :, 1], step.z[:, :, 1])
        assert_consistent(step.prediction, step.z, log_snr)
        alpha, sigma = alpha_sigma(log_snr, z)
        noises.append(((z[:, :, 0] - alpha * 0.6) / sigma).flatten())
    moments = torch.cov(torch.stack(noises))  # 3200 values each: standard errors of .018 and .025
    torch.testing.assert_close(moments, torch.eye(len(seen), dtype=torch.float64), atol=0.1, rtol=0)
    torch.testing.assert_close(
        torch.stack(noises).mean(1), torch.zeros(10, dtype=torch.float64), atol=0.07, rtol=0
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_mask_replaces_like_the_frames_it_covers(variant: Variant) -> None:
    z, whole = normal(2, 1, 4, 2, 2), normal(2, 1, 4, 2, 2, seed=1)
    mask = torch.zeros(4, 1, 1, dtype=torch.bool)
    mask[[0, 2]] = True
    denoise = frame_denoiser(autoregressive(4, 0.9))
    streams = [NoiseStream([1, 2], (1, 4, 2, 2), dtype=torch.float64) for _ in range(2)]
    by_frames = replacement(denoise, whole[:, :, [2, 0]], Frames((2, 0)), variant, streams[0])(z, LEVEL)
    by_mask = replacement(denoise, whole, mask, variant, streams[1])(z, LEVEL)
    for member in ("x", "eps", "v"):
        assert torch.equal(getattr(by_frames, member), getattr(by_mask, member))
    assert torch.equal(by_mask.x[:, :, [0, 2]], whole[:, :, [0, 2]])
    assert_consistent(by_mask, z, LEVEL)


# All of it together, and with the samplers.


def test_conditioned_is_replacement_around_reconstruction() -> None:
    """Eq. 7 moves x^b along the gradient for z^b; frames given are themselves."""
    denoise = frame_denoiser(autoregressive(4, 0.9))
    z, data, small = normal(2, 1, 4, 4, 4), normal(2, 1, 2, 4, 4, seed=1), normal(2, 1, 4, 2, 2, seed=2)
    spatial = Observation(Downsample(2), small)
    context = Context(Frames((0, 3)), data, (spatial,))
    noise = NoiseStream([1, 2], (1, 4, 4, 4), dtype=torch.float64)
    whole = conditioned(denoise, context, weight=0.7, noise=noise.fork(1))(z, LEVEL)
    fresh = noise.fork(1).draw()
    alpha, sigma = alpha_sigma(LEVEL, z)
    seen = z.clone()
    seen[:, :, [0, 3]] = alpha * data + sigma * fresh[:, :, [0, 3]]
    both = [Observation(Frames((0, 3)), data), spatial]
    inner = reconstruction(denoise, both, 0.7)(seen, LEVEL)
    assert torch.equal(whole.x[:, :, [1, 2]], inner.x[:, :, [1, 2]])
    assert torch.equal(whole.x[:, :, [0, 3]], data)
    assert_consistent(whole, z, LEVEL)


@pytest.mark.parametrize("weight", [0.0, 2.0])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_every_guidance_composes_with_every_sampler(sampler: str, variant: Variant, weight: float) -> None:
    """The frames given come out; examples do not depend on their batch; each step is one evaluation."""
    plain, other = frame_denoiser(autoregressive(4, 0.9)), frame_denoiser(autoregressive(4, 0.5))
    data, small = normal(2, 1, 2, 4, 4).tanh(), normal(2, 1, 4, 2, 2, seed=1).tanh()
    config = SamplingConfig(sampler=sampler, steps=8)

    def run(rows: slice) -> tuple[Tensor, int]:
        spatial = (Observation(Downsample(2), small[rows]),) if weight else ()
        counted = Counted(classifier_free(plain, other, 0.5))
        stream = NoiseStream([3, 4][rows], (1, 4, 4, 4), dtype=torch.float64)
        context = Context(Frames((0, 2)), data[rows], spatial)
        guided = conditioned(counted, context, weight=weight, variant=variant, noise=stream.fork(1))
        return sample(guided, stream, config), counted.count

    x, count = run(slice(None))
    assert count == evaluations(config)
    assert x.isfinite().all()
    torch.testing.assert_close(x[:, :, [0, 2]], data, atol=1e-3, rtol=0)
    for row in (0, 1):
        torch.testing.assert_close(run(slice(row, row + 1))[0], x[row : row + 1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("sampler", ["ancestral", "dpm-solver"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_guidance_but_not_replacement_ends_at_the_conditional_law(sampler: str, variant: Variant) -> None:
    """One given frame of an AR(1) process; E[x^b | x^a] = rho^i x^a, Var = 1 - rho^(2 i).

    With the w_r of `exact_weight` at each level eq. 7 is exact. A fixed one is not, but comes far nearer than
    replacement, which forgets the given frame, as the paper says it does.
    """
    covariance, stream = autoregressive(4, 0.9), NoiseStream([1, 2], (1, 4, 40, 40), dtype=torch.float64)
    denoise, context = (
        frame_denoiser(covariance),
        Context.first_frames(torch.full((2, 1, 1, 40, 40), 0.9).double()),
    )
    gain, spread = conditional_law(covariance, (0,))
    config = SamplingConfig(sampler=sampler, steps=80, clip="none")

    def errors(weight: float | None) -> tuple[float, float]:
        noise = stream.fork(1)

        def guided(z: Tensor, log_snr: Tensor) -> Prediction:
            w = exact_weight(covariance, log_snr) if weight is None else weight
            return conditioned(denoise, context, weight=w, variant=variant, noise=noise)(z, log_snr)

        x = sample(guided, stream.fork(0), config)[:, :, 1:]
        mean = x.mean((0, 1, 3, 4)) - 0.9 * gain[1:, 0]
        variance = x.var((0, 1, 3, 4)) - spread.diagonal()[1:]
        return float(mean.abs().max()), float(variance.abs().max())

    exact, fixed, replaced = errors(None), errors(4.0), errors(0.0)
    assert exact[0] < 0.03  # of 3200 pixels: standard error at most .012
    assert exact[1] < 0.05
    assert replaced[0] > 0.25
    assert fixed[0] < replaced[0] / 2
    assert fixed[1] < replaced[1]


@pytest.mark.parametrize(("operator", "gain"), [(Frames((0, 2)), 1.0), (Downsample(2, "area"), 0.25)])
def test_unreplaced_guidance_is_best_at_one_over_the_operators_gain(
    operator: Frames | Downsample, gain: float
) -> None:
    """At little noise A x~ - x^a = (1 - w_r A A^T)(A x_hat - x^a): nothing is left for w_r = 1 / gain."""
    data = operator(normal(2, 1, 3, 8, 8, seed=1).tanh())
    white, known = frame_denoiser(torch.eye(3, dtype=torch.float64)), Observation(operator, data)
    z, level = normal(2, 1, 3, 8, 8), torch.tensor(14.0, dtype=torch.float64)
    before = operator(white(z, level).x) - data

    def ends_apart_by(weight: float) -> float:
        guided = conditioned(white, Context(observations=(known,)), weight=weight)
        after = operator(guided(z, level).x) - data
        torch.testing.assert_close(after, (1 - weight * gain) * before, atol=1e-4, rtol=0)
        stream = NoiseStream([1, 2], (1, 3, 8, 8), dtype=torch.float64)
        x = sample(guided, stream, SamplingConfig(steps=40, clip="none"))
        return float((operator(x) - data).abs().max())

    assert ends_apart_by(1.0 / gain) < 0.01
    assert ends_apart_by(5.0 / gain) > 1.0


# What is refused.


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_negative_reconstruction_weight_is_refused(weight: float) -> None:
    denoise = frame_denoiser(autoregressive(2, 0.9))
    with pytest.raises(InputError, match=r"reconstruction_weight .* is out of range; give w_r of 0"):
        reconstruction(denoise, [], weight)
    with pytest.raises(InputError, match="w_r"):
        conditioned(denoise, Context(), weight=weight)


def test_a_guidance_weight_below_unconditional_is_refused() -> None:
    denoise = frame_denoiser(autoregressive(2, 0.9))
    with pytest.raises(
        InputError, match=r"guidance_weight -1\.5 is out of range; give w of -1 \(unconditional\) or more"
    ):
        classifier_free(denoise, denoise, -1.5)
    with pytest.raises(InputError, match="guidance_weight"):
        classifier_free_batched(denoise, float("nan"))


def test_a_context_longer_than_the_clip_is_refused_in_one_sentence() -> None:
    denoise, z = frame_denoiser(autoregressive(3, 0.9)), normal(1, 1, 3, 2, 2)
    context = Context.first_frames(normal(1, 1, 5, 2, 2))
    for weight in (0.0, 1.0):
        guided = conditioned(denoise, context, weight=weight, variant="conditional")
        with pytest.raises(
            InputError, match=r"^frame 4 is in the context, but the model's clips have 3 frames[^.]*$"
        ):
            guided(z, LEVEL)


def test_data_that_do_not_fit_are_refused_and_never_broadcast() -> None:
    denoise, z = frame_denoiser(autoregressive(3, 0.9)), normal(2, 1, 3, 4, 4)
    one = normal(1, 1, 3, 2, 2)  # would broadcast over the batch
    with pytest.raises(InputError, match=r"shape \[1, 1, 3, 2, 2\], but its operator returns \[2, 1, 3, 2, 2\]"):
        reconstruction(denoise, [Observation(Downsample(2), one)], 1.0)(z, LEVEL)
    with pytest.raises(InputError, match=r"must be \[2, 1, 1, 4, 4\]"):
        replacement(denoise, normal(1, 1, 1, 4, 4), Frames((0,)), "conditional")(z, LEVEL)
    with pytest.raises(InputError, match="the context has 2 positions and 3 frames"):
        Context(Frames((0, 1)), normal(1, 1, 3, 4, 4))
    with pytest.raises(InputError, match="side of 4 cannot be made smaller by the factor 3"):
        Downsample(3)(z)


def test_settings_that_cannot_be_are_refused() -> None:
    denoise, z = frame_denoiser(autoregressive(3, 0.9)), normal(1, 1, 3, 4, 4)
    with pytest.raises(InputError, match="needs a separate noise stream"):
        replacement(denoise, z, Frames.first(3), "marginal")
    with pytest.raises(InputError, match="'both' is none of marginal, conditional"):
        replacement(denoise, z, Frames.first(3), "both")  # type: ignore[arg-type]
    for indices in ((), (0, 0), (-1,)):
        with pytest.raises(InputError, match="different whole numbers from 0"):
            Frames(indices)
    with pytest.raises(InputError, match="factor 0"):
        Downsample(0)
    with pytest.raises(InputError, match="'cubic' is none of area, bilinear, antialias"):
        Downsample(2, "cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="w_r is 0, but observations such as"):
        conditioned(denoise, Context(observations=(Observation(Downsample(2), z),)), weight=0.0)


def test_a_denoiser_without_gradient_is_refused() -> None:
    denoise = torch.no_grad()(frame_denoiser(autoregressive(3, 0.9)))
    z = normal(1, 1, 3, 4, 4)
    with pytest.raises(InputError, match=r"remove torch\.no_grad from it"):
        reconstruction(denoise, [Observation(Frames((0,)), z[:, :, :1])], 1.0)(z, LEVEL)
