"""The state from which a training run resumes exactly: weights, their average, the optimiser's moments, the step.

A state is a safetensors file, with a JSON object in its header and checksums of everything; nothing is pickled.
Random numbers and the order of the data need no state (`step`). Sharded tensors are gathered, so that the file
does not depend on the number of processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.reference_model.training.optimisers import ExponentialMovingAverage
from vdm_bench.runtime.checksums import damage, sealed_header, unsealed_header
from vdm_bench.runtime.fields import Kind, wrong_field
from vdm_bench.runtime.files import atomic_path
from vdm_bench.runtime.input_files import open_safetensors

FORMAT = 1
FOLDER = "checkpoints"
KEPT = 2  # the newest states; older ones are removed

_KEY = "vdm_bench_training"
_FIELDS: dict[str, Kind] = {"format": int, "step": int, "seconds": float}
_MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's, by torch's names


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a run.

    Attributes:
        step: number of steps so far.
        seconds: of training so far, without interruptions.
    """

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class TrainingState:
    """The tensors of a run, on any device, sharded or not.

    Args:
        network: without DDP's wrapper.
        optimisers: of its parameters: Adam or AdamW, and Muon, which creates its moments when it is made.
        average: of its parameters.
    """

    network: nn.Module
    optimisers: Sequence[Optimizer]
    average: ExponentialMovingAverage

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors by name, of sharded ones as a whole."""
        return {name: tuple(value.shape) for name, value in self._tensors().items()}

    def gathered(self, *, keep: bool) -> dict[str, Tensor]:
        """Return all tensors on the CPU, gathered; an empty dictionary if `keep` is false.

        All processes must call it, to gather sharded tensors. On a CPU the tensors may be the run's own, not
        copies: use them before the next step.
        """
        tensors = {}
        for name, value in self._tensors().items():
            if isinstance(value, DTensor):
                value = value.full_tensor()
            if keep:
                tensors[name] = value.detach().cpu().contiguous()
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the tensors that `gathered` returned; each keeps its device, layout and sharding."""
        with torch.no_grad():
            for name, own in self._tensors().items():
                value = tensors[name].to(own.device)
                if isinstance(own, DTensor):
                    value = distribute_tensor(value, own.device_mesh, own.placements)
                own.copy_(value)

    def _tensors(self) -> dict[str, Tensor]:
        moments: dict[str, Tensor] = {}
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        for optimiser in self.optimisers:
            for parameter in (parameter for group in optimiser.param_groups for parameter in group["params"]):
                state = optimiser.state[parameter]
                if not state:  # Adam creates it in the first step; this does the same
                    state["step"] = torch.zeros((), device=parameter.device)
                    for kind in _MOMENTS:
                        state[kind] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                moments |= {f"{kind}.{names[parameter]}": tensor for kind, tensor in state.items()}
        weights = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        return weights | {f"average.{name}": value for name, value in self.average.tensors.items()} | moments


def states(out: Path) -> list[Path]:
    """List the states of a run, the newest last."""
    return sorted((out / FOLDER).glob("step-*.safetensors"))


def write_state(out: Path, tensors: Mapping[str, Tensor], progress: TrainingProgress) -> None:
    """Write a state atomically, then remove all but the newest."""
    header = sealed_header({"format": FORMAT, "step": progress.step, "seconds": progress.seconds}, tensors)
    with atomic_path(out / FOLDER / f"step-{progress.step:09d}.safetensors", own_folder=True) as temporary:
        save_file(dict(tensors), temporary, {_KEY: header})
    for path in states(out)[:-KEPT]:
        path.unlink(missing_ok=True)


def read_state(
    out: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Tensor], TrainingProgress] | None:
    """Read the newest state of a run; None if there is none.

    Args:
        out: the run's folder.
        shapes: of the run's tensors, by name.

    Raises:
        InputError: it is damaged, or was written by another version.
    """
    paths = states(out)
    if not paths:
        return None
    path, before = paths[-1], "resumes from the one before" if paths[:-1] else "starts from the beginning"
    way_out = f"remove it, and training {before}"
    with open_safetensors(path, "pt", damage(way_out)) as file:
        text = (file.metadata() or {}).get(_KEY, "{}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    header, sums = unsealed_header(text, path, way_out)
    if header.get("format", FORMAT) != FORMAT:
        raise InputError(f"{path} was written by another version of vdm-bench; use that one")
    if wrong := wrong_field(header, _FIELDS) or _unlike(tensors, shapes):
        raise DamagedError(path, wrong, way_out)
    sums.require(tensors)
    try:
        return tensors, TrainingProgress(header["step"], float(header["seconds"]))
    except OverflowError as error:  # a whole number may have any length
        raise DamagedError(path, "its field 'seconds' is too large a number", way_out) from error


def _unlike(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Describe how tensors differ from those of a run, '' if they do not."""
    stored = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(stored.keys() | shapes.keys()):
        if stored.get(name) != shapes.get(name):
            return f"{name} has shape {stored.get(name)}, and {shapes.get(name)} is needed"
    return ""
