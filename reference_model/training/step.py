"""The mathematics of a training step: random numbers, the loss of a batch, the learning rate."""

import itertools
import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vdm_bench.reference_model.config import ModelConfig, TrainingConfig
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.process import (
    CosineSchedule,
    Prediction,
    diffuse,
    example_losses,
    from_uint8,
    stratified_times,
)


class RandomStream(IntEnum):
    """The independent streams of random numbers, by purpose."""

    WEIGHTS = 0
    TIMES = 1
    DROPPED_CONDITIONS = 2
    NOISE = 3
    DROPOUT = 4
    ORDER = 5
    EXAMPLE = 6


def stream_seed(seed: int, stream: RandomStream, number: int) -> int:
    """Return the seed, 63 bits, of random numbers: part `number` of a stream under the run's seed."""
    return int(np.random.SeedSequence([seed, stream, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, eq=False)
class Batch:
    """Training examples.

    Attributes:
        clips: uint8 [B, T, H, W, 3].
        images: independent images of joint training, uint8 [B, I, H, W, 3]; I may be 0.
        condition: of the clips.
        image_condition: of the images, example by example: B * I rows.
    """

    clips: Tensor
    images: Tensor
    condition: Condition
    image_condition: Condition

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device; pixels are transferred as uint8."""
        clips, images = (value.to(device, non_blocking=True) for value in (self.clips, self.images))
        return Batch(clips, images, self.condition.to(device), self.image_condition.to(device))

    def pixels(self) -> Tensor:
        """Return the frames followed by the images: float32 [B, 3, T + I, H, W] in [-1, 1]."""
        return from_uint8(torch.cat([self.clips, self.images], 1))


class TrainingData(Protocol):
    """An endless sequence of training examples; the example at a position never changes.

    Attributes:
        identity: names the data; a run resumes only with data of the same name.
    """

    @property
    def identity(self) -> str:
        """See above."""

    def batches(self, positions: Iterable[range]) -> Generator[Batch, None, None]:
        """Yield the examples at each range of positions, in order, preparing the next ones in the background."""


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
        return float(
            torch.rand((), generator=self._generator(RandomStream.TIMES, self.step), dtype=torch.float64)
        )

    def dropped(self, share: float) -> Tensor:
        """Draw which examples are trained without their condition: bool [batch]."""
        return (
            torch.rand(self.batch, generator=self._generator(RandomStream.DROPPED_CONDITIONS, self.step)) < share
        )

    def noise(self, rows: range, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Draw standard normal noise for the examples `rows`: float32 [len(rows), *shape].

        It is drawn on the device: moving it would take longer. Different kinds of devices draw different noise.
        """
        generator = torch.Generator(device)
        noise = torch.empty(len(rows), *shape, device=device)
        for row, values in zip(rows, noise, strict=True):
            generator.manual_seed(stream_seed(self.seed, RandomStream.NOISE, self.step * self.batch + row))
            values.normal_(generator=generator)
        return noise

    def seed_dropout(self, first_row: int) -> None:
        """Seed the global generators, from which the network's dropout draws."""
        torch.manual_seed(stream_seed(self.seed, RandomStream.DROPOUT, self.step * self.batch + first_row))

    def _generator(self, stream: RandomStream, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed, stream, number))


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of a step, from 0: linear warm-up, times 1 or a cosine decay to zero."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay = 0.5 * (1.0 + math.cos(math.pi * step / config.steps)) if config.schedule == "cosine" else 1.0
    return config.learning_rate * warmup * decay


@dataclass(frozen=True, eq=False)
class Losses:
    """The losses of some examples.

    Attributes:
        values: float32 [B], each the mean over the T + I frames of an example.
        log_snr: float64 [B].
    """

    values: Tensor
    log_snr: Tensor


def batch_losses(
    network: nn.Module, batch: Batch, rows: range, draws: StepDraws, model: ModelConfig, training: TrainingConfig
) -> Losses:
    """Return the losses of the examples `rows` of a step, with gradient.

    Each example has one noise level, which its frames and images share. They have separate conditions, which are
    dropped together. The times of all examples of the step, over all processes, are evenly spaced.

    Args:
        network: the Video U-Net, wrapped or not.
        batch: the examples, on the device.
        rows: their positions in the step.
        draws: the step's random numbers.
        model: of the network.
        training: of the run.
    """
    x = batch.pixels()
    times = stratified_times(draws.times(), draws.batch)[rows.start : rows.stop]
    log_snr = CosineSchedule(shift=training.log_snr_shift).log_snr(times).to(x.device)
    noise = draws.noise(rows, tuple(x.shape[1:]), x.device)
    z = diffuse(x, log_snr, noise)  # eq. 1
    drop = draws.dropped(training.drop_condition)[rows.start : rows.stop].to(x.device)
    draws.seed_dropout(rows.start)
    images = batch.images.shape[1]
    condition = batch.condition.dropped(drop)
    condition = Condition.join(condition, batch.image_condition.dropped(drop.repeat_interleave(images)))
    value = network(z, log_snr, condition, images=images)
    predicted = Prediction.of(model.prediction, value.float(), z, log_snr)
    return Losses(example_losses(predicted, Prediction.truth(x, noise, log_snr), training.loss), log_snr)


class LossMeter:
    """Sums losses by log-SNR, on the device, until they are read.

    A mean over all noise levels hides what happens at each of them.
    """

    EDGES = (-8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0)

    def __init__(self, device: torch.device) -> None:
        self._edges = torch.tensor(self.EDGES, dtype=torch.float64, device=device)
        self._sums = torch.zeros(2, len(self.EDGES) + 1, dtype=torch.float64, device=device)

    def add(self, losses: Losses) -> None:
        """Add the losses of some examples, without waiting for the device."""
        bucket = torch.bucketize(losses.log_snr, self._edges)
        values = torch.stack([losses.values.detach().double(), torch.ones_like(losses.log_snr)])
        self._sums.index_add_(1, bucket, values)

    def take(self) -> Tensor:
        """Return and reset this process's sums and counts by bucket: float64 [2, 8]."""
        taken = self._sums.clone()
        self._sums.zero_()
        return taken

    @classmethod
    def names(cls) -> list[str]:
        """Name the buckets."""
        bounds = [f"{edge:g}" for edge in cls.EDGES]
        return [
            f"<{bounds[0]}",
            *(f"{a}..{b}" for a, b in itertools.pairwise(bounds)),
            f">{bounds[-1]}",
        ]
