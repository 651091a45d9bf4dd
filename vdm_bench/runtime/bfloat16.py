"""Whether the CPU has bfloat16 arithmetic, and the warning if it does not."""

import warnings

import torch

from vdm_bench.errors import SlowWarning

__all__ = ["cpu_computes_bfloat16"]

SLOW = "this CPU has no bfloat16 arithmetic (AVX-512 or AMX): bf16 takes tens of times longer than fp32"


def cpu_computes_bfloat16() -> bool:
    """Return whether torch computes convolutions and matrix products in bfloat16 with vector instructions.

    This is the check that torch itself makes before it uses oneDNN, so it respects `ONEDNN_MAX_CPU_ISA`. On x86,
    oneDNN needs AVX-512 (several times as fast as float32 with AVX512_BF16 or AMX, about as fast without them);
    on ARM, the extension BF16. Other CPUs run plain loops.
    """
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_slow(device: torch.device) -> bool:
    """Return whether bfloat16 is far slower than float32 on the device."""
    return device.type == "cpu" and not cpu_computes_bfloat16()


def warn_if_slow(device: torch.device) -> None:
    """Warn if bfloat16 is far slower than float32 on the device.

    Warns:
        SlowWarning: the device is a CPU without bfloat16 arithmetic.
    """
    if is_slow(device):
        warnings.warn(f"{SLOW}; choose precision fp32, or a GPU", SlowWarning, stacklevel=3)
