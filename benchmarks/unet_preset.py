"""The training step of a preset at full size: parameters, operations, time, memory, share of a peak."""

import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vdm_bench.reference_model.config import ModelConfig, Preset, get_preset
from vdm_bench.reference_model.process import (
    CosineSchedule,
    Prediction,
    diffuse,
    example_losses,
    stratified_times,
)
from vdm_bench.reference_model.unet import VideoUNet


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Time one call; on a GPU between two events of its stream."""
    if device.type == "cuda":
        first, last = torch.Event(device, enable_timing=True), torch.Event(device, enable_timing=True)
        torch.cuda.synchronize(device)
        first.record()
        function()
        last.record()
        torch.cuda.synchronize(device)
        return float(first.elapsed_time(last)) / 1e3
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def step_flop(config: ModelConfig, images: int) -> int:
    """Count operations of forward and backward for one example, multiply and add apart; nothing is computed."""
    aten = torch.ops.aten
    formulas: dict[Any, Callable[..., int]] = {  # torch has those of attention on GPUs alone
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flop,
    }
    with torch.device("meta"):
        network = VideoUNet(config)
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with FakeTensorMode(), counter:
        weights = {name: torch.empty(w.shape, requires_grad=True) for name, w in network.named_parameters()}
        channels, frames, height, width = config.clip_shape
        z = torch.empty(1, channels, frames + images, height, width)
        predicted = torch.func.functional_call(network, weights, (z, torch.empty(1), None, images))
        torch.autograd.backward(predicted.sum())
    return int(counter.get_total_flops())


def _attention_flop(query: Sequence[int], key: Sequence[int], *_: object, **__: object) -> int:
    """Two products, for shapes [..., T, d]."""
    return 4 * math.prod(query) * key[-2]


def _attention_backward_flop(
    _: object, query: Sequence[int], key: Sequence[int], *__: object, **___: object
) -> int:
    """Four products; those that are computed once more are not counted."""
    return 8 * math.prod(query) * key[-2]


class PresetStep:
    """Training steps of a preset on random clips: loss, gradient, clipped norm, fused Adam.

    Args:
        preset: what is trained.
        device: where.
        bf16: whether under bfloat16 autocast.
    """

    def __init__(self, preset: Preset, device: torch.device, *, bf16: bool) -> None:
        self.preset, self.device, self.bf16 = preset, device, bf16
        with device:
            self.network = VideoUNet(preset.model)
        self.run: Callable[..., Tensor] = self.network
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=preset.training.learning_rate, betas=preset.training.betas, fused=True
        )

    def __call__(self, batch: int) -> Tensor:
        """Train one step on `batch` examples and give the loss."""
        model, training = self.preset.model, self.preset.training
        channels, frames, height, width = model.clip_shape
        shape = (batch, channels, frames + training.joint_images, height, width)
        x = torch.rand(shape, device=self.device) * 2 - 1
        log_snr = CosineSchedule().log_snr(stratified_times(0.5, batch, self.device))
        noise = torch.randn_like(x)
        z = diffuse(x, log_snr, noise)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.run(z, log_snr, None, training.joint_images)
        predicted = Prediction.of(model.prediction, output, z, log_snr)
        loss = example_losses(predicted, Prediction.truth(x, noise, log_snr), training.loss).mean()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), training.clip_norm or float("inf"))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.detach()


def report_preset(
    name: str,
    device: torch.device,
    *,
    batches: tuple[int, ...],
    rounds: int,
    bf16: bool,
    checkpointing: bool,
    compiled: tuple[bool, ...],
    peak: float,
) -> None:
    """Measure training steps of a preset and print a line for each size of the batch.

    Args:
        name: of the preset.
        device: where it is trained.
        batches: examples a step, smallest first.
        rounds: steps that are timed, after one that warms up; on a CPU that one is the figure if there are none.
        bf16: bfloat16 autocast.
        checkpointing: compute activations again in the backward pass.
        compiled: without and with torch.compile.
        peak: what the device computes at most, TFLOP/s.
    """
    preset = get_preset(name)
    images = preset.training.joint_images
    flop = step_flop(preset.model, images)
    step = PresetStep(preset, device, bf16=bf16)
    step.network.checkpointing = checkpointing
    count = sum(weight.numel() for weight in step.network.parameters())
    size = f"{preset.model.frames} + {images} frames of {preset.model.resolution}x{preset.model.resolution}"
    print(f"{name}: {count:,} parameters; a step on one example ({size}) is {flop / 1e12:.2f} TFLOP")
    for fast in compiled:
        if fast:
            step.run = torch.compile(step.network, dynamic=False)
        for batch in batches:
            label = f"{'bf16' if bf16 else 'fp32'}{' compiled' if fast else ''}, batch {batch}"
            try:
                _report_batch(step, batch, rounds, flop, peak, label)
            except torch.OutOfMemoryError:
                print(f"{label}: out of memory", flush=True)
                step.optimiser.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                break


def _report_batch(step: PresetStep, batch: int, rounds: int, flop: int, peak: float, label: str) -> None:
    """Time steps at one size of the batch."""
    device = step.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    first = seconds_of(lambda: step(batch), device)
    times = [seconds_of(lambda: step(batch), device) for _ in range(rounds)] or [first]
    seconds = statistics.median(times)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 1e9
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    rate = batch * flop / seconds / 1e12
    share = f", {100 * rate / peak:.0f} % of {peak:.0f}" if peak else ""
    print(
        f"{label:<24} {seconds:8.3f} s a step (the first {first:.1f} s), {batch / seconds:.2f} examples/s", end=""
    )
    print(f"  {rate:.2f} TFLOP/s{share}  {memory:.1f} GB at most", flush=True)
