"""Whether the CPU computes in bfloat16, and what is said where it does not.

The four parts of the project share this module, as they share `vdm_bench.errors`.
"""

import warnings

import torch

from vdm_bench.errors import SlowWarning

__all__ = ["cpu_computes_bfloat16"]

SLOW = "this CPU has no bfloat16 arithmetic (AVX-512 or AMX): bf16 takes tens of times longer than fp32"


def cpu_computes_bfloat16() -> bool:
    """Ask torch whether convolutions and products in bfloat16 are done by instructions for them.

    It is what torch itself asks before it gives them to oneDNN, so `ONEDNN_MAX_CPU_ISA` counts. On x86 it takes
    AVX-512 (with AVX512_BF16 or AMX several times as fast as float32, without them about as fast), on ARM the
    extension BF16. Elsewhere plain loops do them.
    """
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_slow(device: torch.device) -> bool:
    """Say whether bfloat16 is far slower on the device than float32."""
    return device.type == "cpu" and not cpu_computes_bfloat16()


def warn_if_slow(device: torch.device) -> None:
    """Warn that bfloat16 was asked for where it is far slower than float32.

    Warns:
        SlowWarning: the device is a CPU that does not compute in bfloat16.
    """
    if is_slow(device):
        warnings.warn(f"{SLOW}; choose precision fp32, or a GPU", SlowWarning, stacklevel=3)
