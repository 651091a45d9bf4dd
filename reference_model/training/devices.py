"""Devices and processes of a training run: a thin layer over accelerate (extra `train`)."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from vdm_bench.errors import InputError, PeerError
from vdm_bench.reference_model.unet import UNetBlock, VideoUNet

if TYPE_CHECKING:
    from accelerate import Accelerator


class Devices:
    """The device of this process, and the group of processes it belongs to.

    Args:
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`. Of several processes, each takes its own
            GPU.
        shard: also shard weights, gradients and the optimiser's moments (FSDP).

    Raises:
        InputError: accelerate is not installed, or there is no such device.
    """

    def __init__(self, device: str = "auto", *, shard: bool = False) -> None:
        self.accelerator = _accelerator(device)
        kind = str(self.accelerator.distributed_type.value)
        if kind in ("DEEPSPEED", "MEGATRON_LM"):
            raise InputError(f"training does not support accelerate's {kind}; launch it without, with --shard")
        # Torch itself shards the weights, even if accelerate is configured to.
        self.shard = shard or kind == "FSDP"
        self.device: torch.device = self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return bool(self.accelerator.is_main_process)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return int(self.accelerator.num_processes)

    @property
    def description(self) -> str:
        """The devices in a few words, such as `2 processes (cuda)`."""
        kind = self.device.type
        sharded = ", weights sharded" if self.shard else ""
        return kind if self.count == 1 else f"{self.count} processes ({kind}{sharded})"

    def wait(self) -> None:
        """Wait for all processes."""
        self.accelerator.wait_for_everyone()

    def wrap(self, network: VideoUNet) -> nn.Module:
        """Move a network to the device and wrap it in DDP, or shard it in place with FSDP."""
        if not (self.shard and self.count > 1):
            wrapped: nn.Module = self.accelerator.prepare_model(network)
            return wrapped
        # FSDP shards weights along their first axis, and only in contiguous layout.
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub lacks this
        mesh = init_device_mesh(self.device.type, (self.count,))
        for module in [module for module in network.modules() if isinstance(module, UNetBlock)]:
            fully_shard(module, mesh=mesh)
        fully_shard(network, mesh=mesh)
        return network

    def rows(self, batch: int, micro_batches: int) -> list[range]:
        """Return this process's examples of a step, in micro-batches of equal size.

        Raises:
            InputError: they cannot be divided equally.
        """
        size, rest = divmod(batch, self.count * micro_batches)
        if rest:
            processes = "1 process" if self.count == 1 else f"{self.count} processes"
            raise InputError(
                f"a batch of {batch} cannot be divided equally among {processes} "
                f"with {micro_batches} micro-batches each; "
                "choose another --batch or training.accumulation"
            )
        first = self.accelerator.process_index * size * micro_batches
        return [range(first + index * size, first + (index + 1) * size) for index in range(micro_batches)]

    @contextmanager
    def unsynchronised(self, network: nn.Module, *, when: bool) -> Iterator[None]:
        """Do not synchronise gradients while they are accumulated."""
        if isinstance(network, FSDPModule):
            network.set_requires_gradient_sync(not when)
            yield
            return
        with self.accelerator.no_sync(network) if when else nullcontext():
            yield

    def autocast(self, precision: str) -> torch.autocast:
        """Compute in bfloat16 where `precision` is `bf16`."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def clip(self, network: nn.Module, largest: float) -> Tensor:
        """Clip the gradients' norm, over all weights, to `largest`; return the norm before."""
        norm = nn.utils.clip_grad_norm_(network.parameters(), largest)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def total(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes."""
        summed: Tensor = self.accelerator.reduce(values, reduction="sum")
        return summed

    def agree(self, well: bool) -> None:
        """Continue only if all processes may; all must call it.

        Raises:
            PeerError: this process may continue, but another may not.
        """
        if self.count > 1 and self.any(not well) and well:
            raise PeerError(
                "another process of this job has stopped, so this one stops too; its own message says why"
            )

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all must call it."""
        return bool(self.total(torch.tensor(float(flag), device=self.device)) > 0)


def _accelerator(device: str) -> "Accelerator":
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise InputError(
            "training needs accelerate, which is not installed; give `pip install 'vdm-bench[train]'`"
        ) from error
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; give auto, cpu, cuda or cuda:1") from error
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"training runs on cpu and cuda, not on {device}; give --device cpu")
    if chosen.type == "cuda":
        if (chosen.index or 0) >= torch.cuda.device_count():
            raise InputError(f"there is no device {device} on this machine; give --device cpu")
        if chosen.index is not None:
            torch.cuda.set_device(chosen)
    # `Devices.autocast` replaces accelerate's: the network decides what stays in float32.
    accelerator = Accelerator(cpu=chosen.type == "cpu", mixed_precision="no")
    atexit.register(_leave_group)
    return accelerator


def _leave_group() -> None:
    """End the threads of the process group: if they outlive the interpreter, the process sometimes aborts."""
    if dist.is_initialized():
        dist.destroy_process_group()
