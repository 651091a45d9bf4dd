"""Noise for sampling: one stream of standard normal numbers per example, determined by the example's seed.

So an example gets the same noise in a batch of one as in a batch of a hundred, in any order, on any device.
"""

import copy
import math
import operator
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from vdm_bench.errors import InputError


class NoiseStream:
    """Standard normal noise for a batch; each example has its own generator.

    The generators are NumPy's, on the CPU. Torch's keep only the low 32 bits of a seed: among 50,000 examples,
    two would share their noise with probability 1/4. Here a seed and its purposes are mixed into a state of 128
    bits (`numpy.random.SeedSequence`).

    Attributes:
        shape: of one example.
        device: of the noise.
        dtype: of the noise. The numbers are always drawn as float32, so they do not depend on it.

    Raises:
        InputError: seeds that are not whole numbers in [0, 2**63), or a shape that is not of whole numbers.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: tuple[int, ...],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape = _shape(shape)
        self.device = torch.device(device)
        self.dtype = dtype
        if not isinstance(seeds, Iterable) or isinstance(seeds, str):
            raise InputError(f"seeds are {seeds!r}; pass a sequence of whole numbers, one per example")
        self._seeds = tuple(_seed(seed) for seed in seeds)
        self._start(())

    def __len__(self) -> int:
        return len(self._seeds)

    def draw(self, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return the next numbers of each example.

        Args:
            shape: of one example; None for the stream's own.

        Returns:
            `dtype` `[N, *shape]` on `device`.
        """
        shape = self.shape if shape is None else _shape(shape)
        values = np.empty((len(self), math.prod(shape)), np.float32)
        for generator, row in zip(self._generators, values, strict=True):
            generator.standard_normal(dtype=np.float32, out=row)
        return torch.from_numpy(values).reshape(len(self), *shape).to(self.device, self.dtype)

    def fork(self, purpose: int) -> "NoiseStream":
        """Return an independent stream for the same examples, from its beginning; equal for equal purposes.

        Args:
            purpose: a number in [0, 2**32) that says what the noise is for. Forks can be forked again.

        Raises:
            InputError: the purpose is not a whole number in [0, 2**32).
        """
        number = _whole(purpose)
        if number is None or not 0 <= number < 2**32:
            raise InputError(f"purpose {purpose!r} is not a whole number in [0, 2**32); choose a small one")
        other = copy.copy(self)
        other._start((*self._purposes, number))
        return other

    def _start(self, purposes: tuple[int, ...]) -> None:
        self._purposes = purposes
        self._generators = [
            np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(seed, spawn_key=purposes)))
            for seed in self._seeds
        ]


def _whole(value: object) -> int | None:
    """Return a whole number of any type, such as NumPy's; None for anything else."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except (TypeError, RuntimeError):
        return None


def _seed(seed: int) -> int:
    number = _whole(seed)
    if number is None or not 0 <= number < 2**63:
        raise InputError(f"seed {seed!r} is not a whole number in [0, 2**63); choose another")
    return number


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    sides = [_whole(side) for side in shape] if isinstance(shape, Iterable) else [None]
    whole = tuple(side for side in sides if side is not None and side >= 0)
    if len(whole) < len(sides):
        raise InputError(f"the shape of an example is {shape!r}; pass whole numbers, such as (3, 16, 64, 64)")
    return whole
