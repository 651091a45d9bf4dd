"""Arithmetic of the networks: float32, or one of two faster modes that enter the signature.

TF32 and bf16 change features by about 1e-2 and 1e-1 of the spread between clips, so they do not reproduce
published scores. By default torch lets cuDNN use TF32 for convolutions; `fp32` here turns that off.
"""

import contextlib
from collections.abc import Iterator

import torch

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import PRECISIONS, Precision
from vdm_bench.runtime.bfloat16 import SLOW, is_slow


def check_precision(precision: Precision, device: torch.device) -> None:
    """Check that the device supports a precision, at a useful speed.

    Raises:
        InputError: it is not one of `PRECISIONS`, or the device lacks it or is far slower with it.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if precision == "tf32" and device.type != "cuda":
        raise InputError(
            f"tf32 is a mode of NVIDIA GPUs, not of {device.type!r}; choose --precision fp32 or bf16"
        )
    if precision == "bf16" and is_slow(device):
        raise InputError(f"{SLOW}; choose --precision fp32, or a GPU")


@contextlib.contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in `precision`, deterministically, and restore torch's settings afterwards.

    Args:
        precision: `fp32`: convolutions and matrix products in float32, no TF32; `tf32`: TensorFloat-32 on CUDA;
            `bf16`: convolutions and matrix products in bfloat16, by autocast.
        device: where the network computes.
    """
    matmul = torch.get_float32_matmul_precision()
    tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
