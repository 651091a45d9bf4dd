"""A device that refuses to be mixed with the CPU, on machines that have no other.

Inside `other_device()` tensors can be made on, and moved to, `DEVICE`. They say that they are there and hold
their values in the CPU's memory. An operation on such a tensor and one that was left on the CPU is refused, as
CUDA refuses it; any other is computed by the CPU, so that results can be looked at and compared.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import pytest
import torch
import torch._dynamo  # which torch imports later otherwise, when the names below stand for something else
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# Torch's own device without memory: every build of torch has it.
DEVICE = torch.device("meta")

_aten = torch.ops.aten
_COPIES = {_aten.copy_, _aten._to_copy}
# Indices may be on the CPU, as lists in Python are.
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}


class MixedDevicesError(RuntimeError):
    """What CUDA says as "Expected all tensors to be on the same device"."""


class There(Tensor):
    """A tensor on the other device.

    Attributes:
        here: its values.
    """

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Self:
        made: Self = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, dict(kwargs or {}))


class _Factories(TorchDispatchMode):
    """Catches what makes tensors, and moves them, where none is there yet."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _computed(func, args, dict(kwargs or {}))


class _Lists(TorchFunctionMode):
    """Lists of tensors, which torch does not give of subclasses, and tensors of lists that are indices.

    Torch would make the latter on the tensor's device, without values.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.tolist and isinstance(args[0], There):
            return args[0].here.tolist()
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            taken = tuple(_make_tensor(part) if isinstance(part, list) else part for part in index)
            args = (args[0], taken, *args[2:])
        return func(*args, **(kwargs or {}))


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    empty = [tensor for tensor in tensors if tensor.is_meta and not isinstance(tensor, There)]
    assert not empty, f"{func} meets a tensor without values: torch made it in a way that is not caught here"
    if func.overloadpacket is _aten._fused_sdp_choice:
        return 0  # the plain formula: the fused kernels go by the device's name
    if there and func.overloadpacket not in _COPIES:
        _refuse_a_mixture(func, args, tensors)
    goes = bool(there) if func.overloadpacket is not _aten.copy_ else isinstance(args[0], There)
    if kwargs.get("device") is not None:
        goes = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs["device"] = torch.device("cpu")
    args, kwargs = tree_map(lambda value: value.here if isinstance(value, There) else value, (args, kwargs))
    result = func(*args, **kwargs)
    same = {id(tensor.here): tensor for tensor in there}  # what is computed in place stays the same object

    def wrapped(value: Any) -> Any:
        return (same[id(value)] if id(value) in same else There(value)) if isinstance(value, Tensor) else value

    return tree_map(wrapped, result) if goes else result


def _refuse_a_mixture(func: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
    """Refuse a tensor of the CPU, but for indices, and for numbers beside whole tensors."""
    if func.overloadpacket in _INDEXING and isinstance(args[0], There):
        return
    numbers = torch.Tag.pointwise in func.tags
    for tensor in tensors:
        if not isinstance(tensor, There) and not (numbers and tensor.ndim == 0):
            raise MixedDevicesError(
                f"{func} meets a tensor {list(tensor.shape)} on {tensor.device} and others on {DEVICE}"
            )


class _Autocast(torch.autocast):
    """Knows the other device, whose operations the CPU computes."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)


def _generator(device: torch.device | str = "cpu") -> torch.Generator:
    return _Generator("cpu" if torch.device(device) == DEVICE else device)


def _tensor(*args: Any, device: torch.device | str | None = None, **kwargs: Any) -> Tensor:
    made = _make_tensor(*args, **kwargs)
    return made if device is None else made.to(device)


_Generator, _make_tensor = torch.Generator, torch.tensor


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Let there be another device."""
    optimisers = sys.modules[torch.optim.Optimizer.__module__]
    fused = [*optimisers._get_fused_kernels_supported_devices(), DEVICE.type]
    with pytest.MonkeyPatch.context() as patch, _Lists(), _Factories():
        patch.setattr(optimisers, "_get_fused_kernels_supported_devices", lambda: fused)
        for name, stand_in in (("autocast", _Autocast), ("Generator", _generator), ("tensor", _tensor)):
            patch.setattr(torch, name, stand_in)
        yield DEVICE
