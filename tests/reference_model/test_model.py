"""A network ready to be sampled: what its denoiser gives, and what its clips depend on."""

import numpy as np
import pytest
import torch
from tiny_model import TINY

from vdm_bench.errors import InputError
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


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"seeds": []}, "there are no seeds"),
        ({"condition": Condition(torch.tensor([0, 3]))}, "label 3 is not in -1 to 2, the model's classes"),
        ({"condition": Condition(torch.tensor([-2, 0]))}, "label -2 is not in -1 to 2"),
        ({"condition": Condition(torch.tensor([1]))}, "labels for 1 clips, and there are 2 seeds"),
        ({"context": torch.zeros(2, 1, 8, 8, 3)}, "the context is Tensor of torch.float32; give a torch tensor"),
        (
            {"context": np.zeros((2, 1, 8, 8, 3), np.uint8)},
            "the context is ndarray of uint8; give a torch tensor",
        ),
        ({"context": [0, 1]}, "the context is list of no dtype; give a torch tensor"),
    ],
)
def test_inputs_that_would_be_taken_for_others_are_refused(
    model: ReferenceModel, inputs: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.sample(**{"seeds": [1, 2], **inputs})  # type: ignore[arg-type]


def test_a_clip_may_be_unconditional_beside_others(model: ReferenceModel) -> None:
    clips = model.sample([1, 2], condition=Condition(torch.tensor([-1, 0])))
    assert (clips[0].int() - model.sample([1])[0].int()).abs().max() <= 1
