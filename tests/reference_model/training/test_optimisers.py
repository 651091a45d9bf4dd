"""Muon against the singular value decomposition that it stands for, and in training."""

import math
from pathlib import Path

import pytest
import torch
from tiny_model import TINY
from tiny_training import tiny, train_tiny
from torch import nn

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import TrainingConfig
from vdm_bench.reference_model.training.optimisers import Muon, inner_matrices, make_optimisers, orthogonal
from vdm_bench.reference_model.unet import VideoUNet


@pytest.mark.parametrize("shape", [(3, 12, 40), (2, 40, 12), (1, 16, 16)])
def test_singular_values_move_near_one_and_singular_vectors_stay(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    a, _, b = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    values = torch.logspace(0, -1, min(shape[1:]))  # as far apart as the quintic bears
    made = orthogonal(7.0 * (a * values) @ b)
    inner = a.mT @ made @ b.mT
    diagonal = inner.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    assert (inner - torch.diag_embed(diagonal)).abs().max() < 0.05  # the iteration is in bfloat16


def test_a_step_has_momentum_and_the_size_of_adams() -> None:
    """Two steps on a 3x3 convolution of 6 to 10 channels, written out."""
    weight = nn.Parameter(torch.zeros(10, 6, 3, 3))
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 10, 6, 3, 3, generator=generator)
    optimiser = Muon([weight], lr=0.01, momentum=0.9)
    expected, average = torch.zeros(10, 54), torch.zeros(10, 54)
    for gradient in (first, second):
        weight.grad = gradient.clone()
        optimiser.step()
        average = 0.9 * average + 0.1 * gradient.flatten(1)
        update = 0.9 * average + 0.1 * gradient.flatten(1)
        expected -= 0.01 * math.sqrt(54) * orthogonal(update[None])[0]
        torch.testing.assert_close(weight.detach().flatten(1), expected, rtol=0.02, atol=1e-4)
    assert 0.7 < (weight.detach().square().mean().sqrt() / (2 * 0.01)) < 1.1


def test_muon_takes_the_layers_inside_the_network_and_adam_the_rest() -> None:
    network = VideoUNet(TINY)
    names = {parameter: name for name, parameter in network.named_parameters()}
    inner = {names[parameter] for parameter in inner_matrices(network)}
    assert {"down.0.block.conv1.weight", "middle.0.temporal.query_key.weight"} <= inner
    assert all(name.startswith(("down", "middle", "up")) and name.endswith("weight") for name in inner)
    assert not any("norm" in name for name in inner)
    groups = [optimiser.param_groups for optimiser in make_optimisers(network, TrainingConfig(optimiser="muon"))]
    muon, adam = ([names[parameter] for parameter in group["params"]] for ((group,),) in ((g,) for g in groups))
    assert set(muon) == inner
    assert sorted([*muon, *adam]) == sorted(names.values())
    assert {"entry.weight", "exit.weight", "embedding.classes.weight", "middle.0.temporal.relative_key"} <= set(
        adam
    )


def test_a_run_with_muon_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    preset = tiny(optimiser="muon")
    train_tiny(tmp_path / "whole", preset)
    train_tiny(tmp_path / "parts", preset)
    parts = sorted((tmp_path / "parts" / "checkpoints").iterdir())
    parts[-1].unlink()  # as if it had been interrupted behind step 4
    train_tiny(tmp_path / "parts", preset)
    whole, again = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert again == whole
    train_tiny(tmp_path / "adam", tiny())
    assert (tmp_path / "adam" / "model.safetensors").read_bytes() != whole


def test_what_muon_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="muon needs whole matrices; leave out --shard"):
        train_tiny(tmp_path / "run", tiny(optimiser="muon"), shard=True)
    with pytest.raises(InputError, match="weight_decay goes with adam and adamw"):
        tiny(optimiser="muon", weight_decay=0.1)
    with pytest.raises(InputError, match="optimiser 'sgd' is none of adam, adamw, muon"):
        tiny(optimiser="sgd")
