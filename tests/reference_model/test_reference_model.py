"""A network ready to be sampled: what its denoiser gives, and what its clips depend on."""

import pytest
import torch
from tiny_model import TINY

from vdm_bench.reference_model import Condition, ReferenceModel, SamplingConfig, build_model

LEVEL = torch.tensor(0.5, dtype=torch.float64)


@pytest.fixture(scope="module")
def model() -> ReferenceModel:
    torch.manual_seed(0)
    network = build_model(TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return ReferenceModel(network, TINY, SamplingConfig(steps=3))


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_guidance_is_the_formula_in_eps(model: ReferenceModel, weight: float) -> None:
    z, condition = torch.randn(2, *TINY.clip_shape), Condition(torch.tensor([0, 2]))
    guided = model.denoiser(condition, guidance_weight=weight)(z, LEVEL)
    conditional, free = model.denoiser(condition)(z, LEVEL), model.denoiser()(z, LEVEL)
    expected = (1 + weight) * conditional.eps - weight * free.eps
    torch.testing.assert_close(guided.eps, expected, rtol=1e-4, atol=1e-5)
    alpha, sigma = torch.sigmoid(LEVEL).sqrt().float(), torch.sigmoid(-LEVEL).sqrt().float()
    torch.testing.assert_close(alpha * guided.x + sigma * guided.eps, z, rtol=1e-4, atol=1e-5)


def test_clips_depend_on_their_seed_and_begin_with_what_is_given(model: ReferenceModel) -> None:
    clips = model.sample([1, 2])
    assert (clips.dtype, tuple(clips.shape)) == (torch.uint8, (2, 4, 8, 8, 3))
    assert (model.sample([2])[0].int() - clips[1].int()).abs().max() <= 1  # up to rounding
    longer = model.sample([5, 6], context=clips[:, :2], length=7)
    assert tuple(longer.shape) == (2, 7, 8, 8, 3)
    assert torch.equal(longer[:, :2], clips[:, :2])
