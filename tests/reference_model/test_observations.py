"""What is observed of a clip: downsampled frames and frames picked by number, against their definitions."""

import numpy as np
import pytest
import torch
from observed import line_weights, normal

from vdm_bench.reference_model.observations import (
    RULES,
    Chain,
    Downsample,
    DownsamplingRule,
    Frames,
)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("size", "factor"), [((8, 12), 1), ((8, 12), 2), ((9, 6), 3), ((8, 16), 4)])
def test_downsampling_is_as_defined_and_its_gradient_the_transpose(
    rule: DownsamplingRule, size: tuple[int, int], factor: int
) -> None:
    clips = normal(2, 3, 2, *size).requires_grad_()
    rows, columns = (line_weights(side, factor, rule) for side in size)
    small = Downsample(factor, rule)(clips)
    np.testing.assert_allclose(small.detach(), rows @ clips.detach().numpy() @ columns.T, atol=1e-14)
    other = normal(*small.shape, seed=1)
    (adjoint,) = torch.autograd.grad((small * other).sum(), clips)
    np.testing.assert_allclose(adjoint, rows.T @ other.numpy() @ columns, atol=1e-14)


def test_downsampling_rules_are_those_known_elsewhere() -> None:
    clips = normal(1, 2, 3, 8, 12)
    images = clips[0]
    pooled = clips.numpy().reshape(1, 2, 3, 2, 4, 3, 4).mean((4, 6))
    np.testing.assert_allclose(Downsample(4, "area")(clips), pooled, atol=1e-14)
    for rule, antialias in (("bilinear", False), ("antialias", True)):
        resized = torch.nn.functional.interpolate(images, (2, 3), mode="bilinear", antialias=antialias)
        torch.testing.assert_close(Downsample(4, rule)(clips)[0], resized)  # type: ignore[arg-type]
    torch.testing.assert_close(Downsample(2, "bilinear")(clips), Downsample(2, "area")(clips))
    assert not torch.allclose(Downsample(2, "antialias")(clips), Downsample(2, "area")(clips))


def test_frames_are_picked_in_the_order_named() -> None:
    clips = normal(2, 3, 5, 4, 4)
    assert torch.equal(Frames((3, 0))(clips), torch.stack([clips[:, :, 3], clips[:, :, 0]], 2))
    assert Frames.first(2) == Frames((0, 1))
    assert torch.equal(Chain((Frames((4,)), Downsample(2)))(clips), Downsample(2)(clips[:, :, 4:]))
