"""One training step: what the loss is of, what is drawn at random, and the learning rate."""

import math
from collections.abc import Callable

import pytest
import torch
from tiny_training import PRESET, Clips
from torch import Tensor, nn

from vdm_bench.reference_model.config import TrainingConfig
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.process import SPACES, CosineSchedule, Prediction, Space, alpha_sigma
from vdm_bench.reference_model.training.step import (
    Batch,
    Losses,
    LossMeter,
    StepDraws,
    batch_losses,
    learning_rate,
)
from vdm_bench.training.data import ClipBatches


class Stub(nn.Module):
    """A network that remembers what it is asked, and answers with a function of it."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer
        self.asked: tuple[Tensor, Tensor, Condition, int]

    def forward(self, z: Tensor, log_snr: Tensor, condition: Condition, images: int) -> Tensor:
        self.asked = (z, log_snr, condition, images)
        return self.answer(z, log_snr)


def example_batch() -> Batch:
    return next(ClipBatches(Clips(), PRESET, workers=1).batches([range(4)]))


def losses_of(
    network: nn.Module, *, prediction: Space = "v", drop: float = 0.0, loss: Space = "v", shift: float = 0.0
) -> Tensor:
    training = {"loss": loss, "drop_condition": drop, "log_snr_shift": shift}
    preset = PRESET.override("model", prediction=prediction).override("training", **training)
    draws = StepDraws(seed=0, step=0, batch=4)
    return batch_losses(network, example_batch(), range(4), draws, preset.model, preset.training).values


@pytest.mark.parametrize("prediction", ["x", "eps", "v"])
@pytest.mark.parametrize("loss", ["x", "eps", "v"])
def test_a_network_that_knows_the_data_has_no_loss(prediction: Space, loss: Space) -> None:
    x = example_batch().pixels()
    knowing = Stub(lambda z, log_snr: Prediction.of("x", x, z, log_snr).member(prediction))
    # Float32 rounding, blown up where one of the three says little about another: at most e^10 at |log_snr| = 20.
    levels = CosineSchedule().log_snr(torch.tensor([0.05, 0.95])).abs().max()
    assert levels < 10
    assert losses_of(knowing, prediction=prediction, loss=loss).max() < 1e-4


def test_the_space_of_the_loss_weighs_the_error_of_x_by_noise_level() -> None:
    """The weights are 1, e^lambda and 1 + e^lambda; lambda is at most 10 here, and float32 keeps four digits."""
    network = Stub(lambda z, log_snr: torch.zeros_like(z))
    of_x, of_eps, of_v = (losses_of(network, loss=space).double() for space in SPACES)
    snr = network.asked[1].exp()
    torch.testing.assert_close(of_eps, snr * of_x, rtol=1e-3, atol=0)
    torch.testing.assert_close(of_v, (1 + snr) * of_x, rtol=1e-3, atol=0)


def test_the_loss_is_the_mean_over_frames_and_images() -> None:
    """A network that is right about the 3 frames, and answers 0 for the 2 images, has 2/5 of a mean square."""
    x = example_batch().pixels()

    def answer(z: Tensor, log_snr: Tensor) -> Tensor:
        value = Prediction.of("x", x, z, log_snr).v
        return torch.cat([value[:, :, :3], torch.zeros_like(value[:, :, 3:])], 2)

    network = Stub(answer)
    losses = losses_of(network)
    z, log_snr, _, images = network.asked
    missed = Prediction.of("x", x, z, log_snr).v[:, :, 3:].square().flatten(1).mean(1)
    assert images == 2
    torch.testing.assert_close(losses, 0.4 * missed, rtol=1e-4, atol=1e-6)


def test_frames_and_images_of_an_example_share_one_noise_level() -> None:
    network = Stub(lambda z, log_snr: torch.zeros_like(z))
    losses_of(network)
    z, log_snr, _, _ = network.asked
    assert z.shape == (4, 3, 5, 8, 8)
    alpha, sigma = alpha_sigma(log_snr, z)
    noise = (z - alpha * example_batch().pixels()) / sigma
    # Standard normal frame by frame, if the level is right for each: 192 values, five standard errors.
    assert (noise.std(dim=(1, 3, 4)) - 1).abs().max() < 5 / math.sqrt(2 * 192)


@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_times_of_a_step_are_spread_evenly_over_all_processes(shift: float) -> None:
    network = Stub(lambda z, log_snr: torch.zeros_like(z))
    losses_of(network, shift=shift)
    time = CosineSchedule(shift=shift).time(network.asked[1]).sort().values
    torch.testing.assert_close(time.diff(), torch.full((3,), 0.25, dtype=torch.float64))


def test_conditions_are_dropped_at_their_rate() -> None:
    network = Stub(lambda z, log_snr: torch.zeros_like(z))
    losses_of(network, drop=0.0)
    batch = example_batch()
    labels, given, of_images = network.asked[2].labels, batch.condition.labels, batch.image_condition.labels
    assert labels is not None
    assert given is not None
    assert of_images is not None
    assert labels.tolist() == [*given.tolist(), *of_images.tolist()]
    dropped = StepDraws(seed=0, step=0, batch=10_000).dropped(0.2)
    assert abs(dropped.double().mean() - 0.2) < 5 * math.sqrt(0.16 / 10_000)
    losses_of(network, drop=0.999)
    labels = network.asked[2].labels
    assert labels is not None
    assert labels.tolist() == [-1] * (4 + 8)
    losses_of(network, drop=0.5)  # some of the four: their images go with them
    labels = network.asked[2].labels
    assert labels is not None
    missing = labels == -1
    assert 0 < missing[:4].sum() < 4
    assert torch.equal(missing[4:], missing[:4].repeat_interleave(2))


def test_an_example_has_the_same_noise_whoever_computes_it() -> None:
    draws, cpu = StepDraws(seed=3, step=7, batch=6), torch.device("cpu")
    together = draws.noise(range(6), (3, 2, 4, 4), cpu)
    apart = torch.cat([draws.noise(range(2), (3, 2, 4, 4), cpu), draws.noise(range(2, 6), (3, 2, 4, 4), cpu)])
    assert torch.equal(together, apart)
    assert not torch.equal(together, StepDraws(seed=3, step=8, batch=6).noise(range(6), (3, 2, 4, 4), cpu))
    assert not torch.equal(together, StepDraws(seed=4, step=7, batch=6).noise(range(6), (3, 2, 4, 4), cpu))


def test_the_learning_rate_rises_then_stays_or_falls_to_zero() -> None:
    constant = TrainingConfig(steps=100, learning_rate=2.0, warmup_steps=4)
    assert [learning_rate(constant, step) for step in (0, 1, 3, 4, 99)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    cosine = TrainingConfig(steps=100, learning_rate=2.0, schedule="cosine")
    assert learning_rate(cosine, 0) == 2.0
    assert learning_rate(cosine, 50) == pytest.approx(1.0)
    assert learning_rate(cosine, 100) == pytest.approx(0.0)


def test_the_meter_gives_the_mean_loss_of_each_range_of_log_snr() -> None:
    meter = LossMeter(torch.device("cpu"))
    meter.add(Losses(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([-9.0, 0.5, 1.5], dtype=torch.float64)))
    meter.add(Losses(torch.tensor([3.0]), torch.tensor([19.0], dtype=torch.float64)))
    sums, counts = meter.take()
    seen = {
        name: (s, n) for name, s, n in zip(LossMeter.names(), sums.tolist(), counts.tolist(), strict=True) if n
    }
    assert seen == {"<-8": (1.0, 1.0), "0..2": (6.0, 2.0), ">8": (3.0, 1.0)}
    assert not meter.take().any()
