"""The stand-in for a GPU itself: see `other_device`."""

from collections.abc import Callable

import pytest
import torch
from other_device import DEVICE, MixedDevicesError
from torch import Tensor


def test_the_device_refuses_what_is_left_on_the_cpu_and_computes_the_rest(elsewhere: torch.device) -> None:
    here, there = torch.arange(6.0).reshape(2, 3), torch.arange(6.0, device=elsewhere).reshape(2, 3)
    assert there.device == DEVICE
    assert torch.equal((there @ there.T + 1).cpu(), here @ here.T + 1)
    assert torch.equal((there * torch.tensor(2.0)).cpu(), here * 2)  # a number, as with CUDA
    assert float(there[:, [0, 2]].sum()) == 10
    there[0] = here[1].to(elsewhere)
    there.mul_(2)
    assert there.cpu().tolist() == [[6, 8, 10], [6, 8, 10]]
    mixtures: list[Callable[[], Tensor]] = [
        lambda: there + here,
        lambda: there @ here.T,
        lambda: torch.cat([there, here]),
        lambda: torch.where(there > 1, there, here),
        lambda: here.index_select(0, torch.zeros(1, dtype=torch.int64, device=elsewhere)),
        lambda: there.lerp_(here, 0.5),
        lambda: torch.stack([there.sum(), torch.tensor(1.0)]),
    ]
    for mixture in mixtures:
        with pytest.raises(MixedDevicesError, match="on cpu and others on meta"):
            mixture()
