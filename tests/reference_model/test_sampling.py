"""What holds for every sampler, clipping, and the settings that choose and shape a sampler."""

import dataclasses

import pytest
import torch
from gaussian_data import Counted, FixedNoise, constant, gaussian
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import SAMPLER_NAMES, Clipping, SamplingConfig
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import CosineSchedule, Prediction, alpha_sigma, posterior
from vdm_bench.reference_model.samplers import (
    SAMPLERS,
    DiffusionSampler,
    StepState,
    ancestral,
    clipped,
    ddim,
    dpm_solver,
    evaluations,
    predictor_corrector,
    sample,
)
from vdm_bench.reference_model.settings import from_table

SCHEDULE = CosineSchedule()

# All samplers


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_data_that_is_one_point_is_reached(sampler: DiffusionSampler, steps: int) -> None:
    found = sampler(constant(0.6), NoiseStream([1, 2], (3,)), steps=steps, clip="none")
    assert torch.allclose(found, torch.full((2, 3), 0.6), rtol=0, atol=2e-4)


@pytest.mark.parametrize("clip", ["none", "static", "dynamic"])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_sample_is_the_same_bit_for_bit_in_any_batch(sampler: DiffusionSampler, clip: Clipping) -> None:
    seeds = [2**40 + 3, 0, 17, 2**63 - 1, 5]

    def of(chosen: list[int]) -> Tensor:
        return sampler(gaussian, NoiseStream(chosen, (3, 2, 5)), steps=6, clip=clip, clip_percentile=0.5)

    batch = of(seeds)
    assert torch.equal(of(seeds[::-1]).flip(0), batch)
    assert torch.equal(torch.cat([of(seeds[:2]), of(seeds[2:])]), batch)
    assert all(torch.equal(of([seed])[0], batch[i]) for i, seed in enumerate(seeds))
    assert len({tuple(row.flatten().tolist()) for row in batch}) == len(seeds)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5)])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_examples_may_have_any_shape(sampler: DiffusionSampler, shape: tuple[int, ...]) -> None:
    found = sampler(gaussian, NoiseStream([1, 2], shape), steps=3)
    assert found.shape == (2, *shape)
    assert found.dtype == torch.float32
    assert 0 < float(found.std()) < 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_gpu_gives_the_samples_of_the_cpu(sampler: DiffusionSampler) -> None:
    on_cpu = sampler(gaussian, NoiseStream([1, 2], (3, 4)), steps=8)
    on_gpu = sampler(gaussian, NoiseStream([1, 2], (3, 4), device="cuda"), steps=8)
    assert on_gpu.is_cuda
    assert torch.allclose(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-5)


@pytest.mark.parametrize("correct_last", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_evaluations_are_counted(name: str, correct_last: bool) -> None:
    sampling = SamplingConfig(sampler=name, steps=9, correct_last=correct_last)
    counted = Counted(gaussian)
    sample(counted, NoiseStream([1], (2,)), sampling)
    assert counted.count == evaluations(sampling)
    assert counted.count == {"predictor-corrector": 18 if correct_last else 17}.get(name, 9)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_callback_sees_each_step_with_a_clipped_consistent_prediction(sampler: DiffusionSampler) -> None:
    states: list[StepState] = []
    sampler(constant(3.0), NoiseStream([1], (4,)), steps=5, callback=states.append)
    assert [state.index for state in states] == [0, 1, 2, 3, 4]
    assert [state.last for state in states] == [False, False, False, False, True]
    levels = SCHEDULE.steps(5)
    for state in states:
        assert (state.log_snr_t, state.log_snr_s) == (levels[state.index], levels[state.index + 1])
        alpha, sigma = alpha_sigma(state.log_snr_t, state.z)
        assert torch.equal(state.prediction.x, torch.ones(1, 4))
        assert torch.allclose(alpha * state.prediction.x + sigma * state.prediction.eps, state.z, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_no_graph_outlives_an_evaluation(sampler: DiffusionSampler) -> None:
    states: list[StepState] = []

    def guided(z: Tensor, log_snr: Tensor) -> Prediction:
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            return gaussian(z.detach().requires_grad_(), log_snr)

    final = sampler(guided, NoiseStream([1], (2,)), steps=3, clip="none", callback=states.append)
    tensors = [final, *(part for s in states for part in (s.z, *dataclasses.astuple(s.prediction)))]
    assert not any(tensor.requires_grad for tensor in tensors)


# Clipping


def test_clipping_rebuilds_eps_and_v_from_the_clipped_x() -> None:
    z, level = torch.tensor([[0.5, 2.0, -3.0]], dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    raw = Prediction.of("eps", torch.tensor([[0.1, -1.0, 0.2]], dtype=torch.float64), z, level)
    assert torch.equal(raw.x.abs() > 1, torch.tensor([[False, True, True]]))
    found = clipped(raw, z, level, "static")
    alpha, sigma = alpha_sigma(level, z)
    assert torch.equal(found.x, raw.x.clamp(-1.0, 1.0))
    assert torch.allclose(alpha * found.x + sigma * found.eps, z, rtol=1e-14, atol=0)
    assert torch.allclose(found.v, alpha * found.eps - sigma * found.x, rtol=1e-14, atol=0)
    assert torch.allclose(found.eps[0, 0], raw.eps[0, 0])
    assert float((found.eps - raw.eps).abs()[0, 1:].min()) > 0.1
    assert clipped(raw, z, level, "none") is raw


def test_the_corrector_takes_its_eps_from_the_clipped_x() -> None:
    draws = [torch.full((1, 1), 2.0, dtype=torch.float64), *torch.zeros(3, 1, 1, dtype=torch.float64)]
    states: list[StepState] = []
    predictor_corrector(constant(3.0), FixedNoise(draws), steps=2, callback=states.append)
    level = states[0].log_snr_s
    before, _ = posterior(draws[0], torch.ones(1, 1, dtype=torch.float64), states[0].log_snr_t, level)
    alpha, _ = alpha_sigma(level, before)
    assert torch.allclose(states[1].z, before - 0.05 * (before - alpha), rtol=1e-12)
    assert not torch.allclose(states[1].z, before - 0.05 * (before - 3.0 * alpha), rtol=1e-2)


def test_dynamic_thresholding_works_on_each_example_and_only_above_1() -> None:
    large = torch.linspace(-4.0, 4.0, 201, dtype=torch.float64)
    z, level = torch.zeros(2, 201, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    raw = Prediction.of("x", torch.stack([large, 0.2 * large]), z, level)
    found = clipped(raw, z, level, "dynamic", 0.5)
    # Half of the absolute values of the first are at most 2.
    assert torch.allclose(found.x[0], (large / 2.0).clamp(-1.0, 1.0))
    assert torch.equal(found.x[1], raw.x[1])
    assert torch.allclose(clipped(raw, z, level, "dynamic", 1.0).x[0], large / 4.0)
    assert torch.allclose(found.eps, -found.x)  # z = 0 with alpha = sigma


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_results_are_in_range_unless_clipping_is_off(sampler: DiffusionSampler) -> None:
    def wide(z: Tensor, log_snr: Tensor) -> Prediction:
        return gaussian(z, log_snr, 0.0, 3.0)

    noise = {clip: NoiseStream([1], (500,)) for clip in ("none", "static", "dynamic")}
    highest = {
        clip: float(sampler(wide, stream, steps=20, clip=clip).abs().max()) for clip, stream in noise.items()
    }
    assert highest["none"] > 3.0
    assert 0.9 < highest["static"] <= 1.0
    assert 0.9 < highest["dynamic"] <= 1.0


# Configuration


def test_every_name_of_the_configuration_is_a_sampler() -> None:
    assert tuple(SAMPLERS) == SAMPLER_NAMES
    assert SAMPLERS["ancestral"] is ancestral
    assert SAMPLERS["predictor-corrector"] is predictor_corrector
    assert SAMPLERS["ddim"] is ddim
    assert SAMPLERS["dpm-solver"] is dpm_solver


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 5},
        {"gamma": 0.5},
        {"delta": 0.2},
        {"last_step_noise": True},
        {"correct_last": True},
        {"clip": "none"},
        {"clip": "dynamic"},
        {"clip": "dynamic", "clip_percentile": 0.7},
        {"sampler": "ancestral"},
        {"sampler": "ddim"},
        {"sampler": "dpm-solver"},
    ],
    ids=str,
)
def test_each_setting_of_the_configuration_changes_the_sample(change: dict[str, object]) -> None:
    def of(**values: object) -> Tensor:
        sampling = from_table(SamplingConfig, {"sampler": "predictor-corrector", "steps": 4, **values}, "test")
        noise = NoiseStream([1], (50,), dtype=torch.float64)
        return sample(lambda z, level: gaussian(z, level, 0.0, 2.0), noise, sampling)

    assert not torch.equal(of(**change), of())
    if "clip_percentile" in change:
        assert not torch.equal(of(**change), of(clip="dynamic"))


def test_sampling_follows_the_shifted_schedule() -> None:
    levels: list[float] = []
    sampling = SamplingConfig(sampler="ddim", steps=2, log_snr_shift=-3.0)
    sample(
        gaussian,
        NoiseStream([1], (2,)),
        sampling,
        callback=lambda step: levels.extend([float(step.log_snr_t), float(step.log_snr_s)]),
    )
    # Half of the time the paper's schedule is at 0; the ends are where they were.
    assert levels == pytest.approx([-20.0, -3.0, -3.0, 20.0], abs=1e-3)


def test_guidance_may_be_left_out_of_the_corrector() -> None:
    guided, plain = Counted(gaussian), Counted(gaussian)
    sampling = SamplingConfig(sampler="predictor-corrector", steps=4, corrector_guidance=False)
    sample(guided, NoiseStream([1], (2,)), sampling, corrector_denoise=plain)
    assert (guided.count, plain.count) == (4, 3)


def test_an_unguided_corrector_is_used_only_where_it_is_asked_for() -> None:
    noise = NoiseStream([1], (2,))
    with pytest.raises(InputError, match="corrector_denoise"):
        sample(gaussian, noise, SamplingConfig("predictor-corrector", corrector_guidance=False))
    with pytest.raises(InputError, match="corrector_denoise"):
        sample(gaussian, noise, SamplingConfig("predictor-corrector"), corrector_denoise=gaussian)


@pytest.mark.parametrize(
    ("sampler", "wrong"),
    [
        (ddim, {"steps": 0}),
        (ancestral, {"gamma": 1.1}),
        (predictor_corrector, {"gamma": -0.1}),
        (predictor_corrector, {"delta": 0.0}),
        (dpm_solver, {"clip": "hard"}),
        (ancestral, {"clip_percentile": 0.0}),
        (ancestral, {"clip_percentile": 99.5}),
    ],
)
def test_settings_out_of_range_are_named(sampler: DiffusionSampler, wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(InputError, match=f"{name} .*{value}"):
        sampler(gaussian, NoiseStream([1], (2,)), **{"steps": 3, **wrong})
    with pytest.raises(InputError, match=f"{name} .*{value}"):
        from_table(SamplingConfig, wrong, "test")


def test_an_unknown_sampler_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'euler'.*ancestral, predictor-corrector, ddim, dpm-solver"):
        SamplingConfig(sampler="euler")
