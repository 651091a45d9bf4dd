"""What a training step is fed with: a batch of examples, and random numbers.

Every random number is a function of (seed, purpose, number of the step or example). So none has a state that
would have to be saved: an interrupted run draws what it would have drawn, and several processes together draw
what one process would.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vdm_bench.reference_model.clips import from_uint8
from vdm_bench.reference_model.embeddings import Condition


class Purpose(IntEnum):
    """What random numbers are for; each has streams of its own."""

    WEIGHTS = 0
    TIMES = 1
    DROPPED_CONDITIONS = 2
    NOISE = 3
    DROPOUT = 4
    ORDER = 5
    EXAMPLE = 6


def stream_seed(seed: int, purpose: Purpose, number: int) -> int:
    """Give the seed, 63 bits, of one stream of random numbers."""
    return int(np.random.SeedSequence([seed, purpose, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, eq=False)
class Batch:
    """Training examples.

    Attributes:
        clips: uint8 [B, T, H, W, 3].
        images: independent frames that go with each clip in joint training, uint8 [B, I, H, W, 3]; I may be 0.
        condition: of the clips.
        image_condition: of the images, example by example: B * I rows.
    """

    clips: Tensor
    images: Tensor
    condition: Condition
    image_condition: Condition

    def to(self, device: torch.device) -> "Batch":
        """Give the batch on another device; pixels travel as bytes."""
        clips, images = (value.to(device, non_blocking=True) for value in (self.clips, self.images))
        return Batch(clips, images, self.condition.to(device), self.image_condition.to(device))

    def pixels(self) -> Tensor:
        """Give the frames followed by the images: float32 [B, 3, T + I, H, W] in [-1, 1]."""
        return from_uint8(torch.cat([self.clips, self.images], 1))


class TrainingData(Protocol):
    """Where examples come from; example `position` of the endless sequence never changes.

    Attributes:
        identity: names the data; a run goes on with data of the same name only.
    """

    @property
    def identity(self) -> str:
        """See above."""

    def batches(self, positions: Iterable[range]) -> Generator[Batch, None, None]:
        """Give the examples at each range of positions, in order, preparing the next ones meanwhile."""


@dataclass(frozen=True)
class StepDraws:
    """The random numbers of one step.

    Attributes:
        seed: of the run.
        step: number of the step, from 0.
        batch: examples of the step, over all processes.
    """

    seed: int
    step: int
    batch: int

    def times(self) -> float:
        """Draw the offset of the step's times: uniform in [0, 1)."""
        return float(torch.rand((), generator=self._generator(Purpose.TIMES, self.step), dtype=torch.float64))

    def dropped(self, share: float) -> Tensor:
        """Draw which examples are trained without their condition: bool [batch]."""
        return torch.rand(self.batch, generator=self._generator(Purpose.DROPPED_CONDITIONS, self.step)) < share

    def noise(self, rows: range, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Draw standard normal noise for some of the examples: float32 [len(rows), *shape].

        It is drawn where it is needed: moving it would take longer. Devices of different kinds draw different
        noise.
        """
        generator = torch.Generator(device)
        noise = torch.empty(len(rows), *shape, device=device)
        for row, values in zip(rows, noise, strict=True):
            generator.manual_seed(stream_seed(self.seed, Purpose.NOISE, self.step * self.batch + row))
            values.normal_(generator=generator)
        return noise

    def seed_dropout(self, first_row: int) -> None:
        """Seed the global generators, which dropout in the network draws from."""
        torch.manual_seed(stream_seed(self.seed, Purpose.DROPOUT, self.step * self.batch + first_row))

    def _generator(self, purpose: Purpose, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed, purpose, number))
