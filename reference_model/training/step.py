"""One training step's mathematics: the loss of a batch, and the learning rate."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vdm_bench.reference_model.config import ModelConfig, TrainingConfig
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.process import (
    CosineSchedule,
    Prediction,
    diffuse,
    example_losses,
    stratified_times,
)
from vdm_bench.reference_model.training.batch import Batch, StepDraws


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Give the learning rate of a step, from 0: a linear rise, then constant or half a cosine down to zero."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    fall = 0.5 * (1.0 + math.cos(math.pi * step / config.steps)) if config.schedule == "cosine" else 1.0
    return config.learning_rate * rise * fall


@dataclass(frozen=True, eq=False)
class Losses:
    """The losses of some examples.

    Attributes:
        values: float32 [B], each the mean over the F + I frames of an example.
        log_snr: float64 [B].
    """

    values: Tensor
    log_snr: Tensor


def batch_losses(
    network: nn.Module, batch: Batch, rows: range, draws: StepDraws, model: ModelConfig, training: TrainingConfig
) -> Losses:
    """Give the losses of the examples `rows` of a step, with gradient.

    Each example has one noise level, which the images packed behind the frames share. Frames and images have
    conditions of their own, and are trained without them together.
    The times of all examples of the step, over all processes, are spread evenly.

    Args:
        network: the Video U-Net, as it may be wrapped.
        batch: the examples, on the device.
        rows: their numbers within the step.
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
    """Mean losses, over all and by log-SNR, of the steps since it was last read; kept on the device.

    The network's work differs with the noise level: a mean over all hides what happens at each.
    """

    EDGES = (-8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0)

    def __init__(self, device: torch.device) -> None:
        self._edges = torch.tensor(self.EDGES, dtype=torch.float64, device=device)
        self._sums = torch.zeros(2, len(self.EDGES) + 1, dtype=torch.float64, device=device)

    def add(self, losses: Losses) -> None:
        """Count some examples in; nothing waits for the device."""
        bucket = torch.bucketize(losses.log_snr, self._edges)
        values = torch.stack([losses.values.detach().double(), torch.ones_like(losses.log_snr)])
        self._sums.index_add_(1, bucket, values)

    def take(self) -> Tensor:
        """Give sums and counts by bucket, float64 [2, 8], of this process, and start anew."""
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
