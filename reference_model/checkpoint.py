"""Checkpoints of the reference model: self-describing safetensors files.

A file stores the tensors of the network by name, and in its header, under `vdm_bench`, a JSON object: the version
of this format, the preset's name, the sections `model` and `sampling`, the training step, a summary of the
training, and checksums of all this and of the tensors; files of earlier versions have none. Nothing is unpickled.
The header is not trusted: before anything is built or allocated, the shapes of the network it describes are
compared with those of the file, which safetensors has checked against its size.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.reference_model.config import ModelConfig, SamplingConfig, get_preset
from vdm_bench.reference_model.settings import from_table
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runtime.checksums import TensorSums, sealed_header, unsealed_header
from vdm_bench.runtime.fields import Kind, wrong_field
from vdm_bench.runtime.files import atomic_path
from vdm_bench.runtime.input_files import open_file, parsing

__all__ = ["load_model", "save_model"]

FORMAT = 1
SUFFIX = ".safetensors"

_KEY = "vdm_bench"  # of the JSON object in the header
_FIELDS: dict[str, Kind] = {
    "format": int,
    "name": str,
    "model": dict,
    "sampling": dict,
    "step": int,
    "training": dict,
}
_COPY = "copy it again"
_STORED = {"F32", "F16", "BF16"}  # dtypes of tensors, as safetensors names them
_MOST_HEADER = 2**24  # bytes; a hundred times the header of the paper's largest network
_MOST_VALUES = 2**28  # of a clip: a GiB in float32, 300 times the paper's largest
HOW_TO_TRAIN = "`vdm-bench train PRESET` makes one"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint's header says about the model.

    Attributes:
        name: of the preset, or of the model.
        model: the architecture.
        sampling: default sampling settings.
        step: number of training steps.
        training: a human-readable summary of the training, serialisable as JSON.
    """

    name: str
    model: ModelConfig
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    step: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)


def save_model(
    path: str | Path,
    weights: nn.Module | Mapping[str, Tensor],
    info: CheckpointInfo,
    *,
    storage: torch.dtype = torch.float32,
) -> None:
    """Write a checkpoint, atomically; the same weights and info produce the same bytes.

    Args:
        path: of the file; its folder is created, an existing file replaced.
        weights: the network, or its tensors by name, on any device.
        info: content of the header.
        storage: float32, or float16 or bfloat16 for half the size; `load_model` returns float32 in any case.

    Raises:
        InputError: the weights do not fit `info.model` or are not finite (float16: beyond 65504), or the file
            cannot be written.
    """
    path = Path(path)
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    tensors = {name: tensor.detach().to("cpu", storage).contiguous() for name, tensor in state.items()}
    wrong = _unlike({name: tuple(tensor.shape) for name, tensor in tensors.items()}, info.model)
    wrong = wrong or next((f"{name} is not finite" for name in tensors if not _finite(tensors[name])), "")
    if wrong:
        raise InputError(f"cannot write {path}: {wrong}; pass the weights of the model that `info` describes")
    content = {"format": FORMAT, **dataclasses.asdict(info), "sampling": info.sampling.stored}
    header = {_KEY: sealed_header(content, tensors)}
    with atomic_path(path, own_folder=True) as temporary:
        try:
            save_file(tensors, temporary, header)
        except SafetensorError as error:
            raise InputError(f"cannot write {path}: {error}; is the disk full?") from error


def load_model(
    path: str | Path, *, preset: str | None = None, device: str | torch.device = "cpu"
) -> tuple[VideoUNet, CheckpointInfo]:
    """Read a checkpoint: the network in eval mode with float32 weights, and its description.

    Args:
        path: of the file.
        preset: refuse models with another architecture than this preset's.
        device: of the network.

    Raises:
        InputError: the file does not exist, is truncated or damaged, or is not a checkpoint of this format; its
            weights do not fit its model, or are not finite; it is not of the preset; or there is no such device.
    """
    path = Path(path)
    with _opened(path) as file:
        info, sums = _parse(path, file.metadata())
        if preset is not None:
            _require_preset(path, info, preset)
        tensors = _read_tensors(path, file, info.model, sums)
    network = _filled(info.model, tensors).eval()
    try:
        return network.to(device), info
    except (RuntimeError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"the device {str(device)!r} cannot be used ({reason}); try cpu") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file, or raise an `InputError` that says why not."""
    _require_header(path)
    with contextlib.ExitStack() as stack:
        with parsing(path, _damaged):
            file = stack.enter_context(safe_open(path, "pt"))
        yield file


def _damaged(source: str, reason: str) -> InputError:
    return InputError(f"{source} is truncated or damaged {reason.removeprefix('is damaged ')}; {_COPY}")


def _unreadable(path: str, reason: str) -> InputError:
    if reason == "no such file":
        return InputError(f"{path} does not exist; give a checkpoint ({HOW_TO_TRAIN})")
    return InputError(f"{path} cannot be read: {reason}; give a checkpoint")


def _require_header(path: Path) -> None:
    """Refuse a file that does not begin like safetensors: eight bytes with the length of the JSON after them."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the checkpoint in it, a {SUFFIX} file")
    with open_file(path, _unreadable) as file, parsing(path, _unreadable):
        size, start = os.fstat(file.fileno()).st_size, file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:] != b"{" or length > _MOST_HEADER:
        raise InputError(
            f"{path} is not a safetensors file, and others are not read because they may run code; "
            f"give a checkpoint ({HOW_TO_TRAIN})"
        )
    if 8 + length > size:
        raise InputError(f"{path} is truncated: it ends after {size} bytes, within its header; copy it again")


def _parse(path: Path, metadata: Mapping[str, str] | None) -> tuple[CheckpointInfo, TensorSums]:
    """Read and validate the header of a checkpoint."""
    text = (metadata or {}).get(_KEY)
    if text is None:
        raise InputError(f"{path} is a safetensors file but no checkpoint of vdm-bench; {HOW_TO_TRAIN}")
    content, sums = unsealed_header(text, path, _COPY)
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {content.get('format')!r}, this version of vdm-bench reads {FORMAT}; "
            f"update vdm-bench, or train from scratch: {HOW_TO_TRAIN}"
        )
    if wrong := wrong_field(content, _FIELDS):
        raise DamagedError(f"the header of {path}", wrong, _COPY)
    info = CheckpointInfo(
        name=content["name"],
        model=from_table(ModelConfig, content["model"], f"{path}, model"),
        sampling=from_table(SamplingConfig, content["sampling"], f"{path}, sampling"),
        step=content["step"],
        training=content["training"],
    )
    return info, sums


def _require_preset(path: Path, info: CheckpointInfo, preset: str) -> None:
    """Refuse a model of another architecture than the preset's."""
    wanted = dataclasses.asdict(get_preset(preset).model)
    found = dataclasses.asdict(info.model)
    unlike = [f"{key} {found[key]}, not {value}" for key, value in wanted.items() if found[key] != value]
    if unlike:
        raise InputError(
            f"{path} holds a model {info.name!r} and not one of preset {preset!r} ({'; '.join(unlike)}); "
            "give a checkpoint of that preset"
        )


def _require_bounded(path: Path, model: ModelConfig, tensors: int) -> None:
    """Refuse a model whose description alone would take too much time or memory to build."""
    # Every residual block and every layer of an MLP has its own tensors.
    if model.blocks * len(model.multipliers) > tensors or model.embedding_layers > tensors:
        raise InputError(f"{path} is damaged: it has {tensors} tensors, its model more; copy it again")
    if math.prod(model.clip_shape) > _MOST_VALUES:
        raise InputError(f"{path} is damaged: clips of shape {list(model.clip_shape)} fit nowhere; copy it again")


def _unlike(found: Mapping[str, tuple[int, ...]], model: ModelConfig) -> str:
    """Describe how tensors differ from a model's, '' if they do not. Allocates nothing."""
    try:
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in VideoUNet(model).state_dict().items()}
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]  # torch may add a stack trace
        return f"its model cannot be built ({reason})"
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not a tensor of its model"
        if found[name] != expected[name]:
            return f"{name} has shape {list(found[name])}, its model needs {list(expected[name])}"
    return ""


def _read_tensors(path: Path, file: Any, model: ModelConfig, sums: TensorSums) -> dict[str, Tensor]:
    """Read the tensors of a model, after checking their names, shapes and dtypes."""
    with parsing(path, _damaged):
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    _require_bounded(path, model, len(slices))
    wrong = _unlike({name: tuple(part.get_shape()) for name, part in slices.items()}, model)
    for name, part in slices.items():
        if not wrong and part.get_dtype() not in _STORED:
            wrong = f"{name} is of type {part.get_dtype()}"
    if wrong:
        raise InputError(f"{path} is damaged: {wrong}; copy it again, or train from scratch: {HOW_TO_TRAIN}")
    with parsing(path, _damaged):
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in slices}
    sums.require(tensors)
    for name, tensor in tensors.items():
        if not _finite(tensor):
            raise InputError(
                f"{path} holds NaN or infinity in {name}; take an earlier checkpoint of the training"
            )
    return tensors


def _filled(model: ModelConfig, tensors: Mapping[str, Tensor]) -> VideoUNet:
    """Build a network and load tensors into it; the caller's random state is not changed."""
    with torch.random.fork_rng(devices=[]):
        network = VideoUNet(model)
    network.load_state_dict(tensors)
    return network


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
