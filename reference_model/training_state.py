"""What a training run needs to go on exactly: weights, their average, the optimiser's moments, and the step.

One safetensors file a state, with a JSON object in its header; nothing is pickled. Random numbers and the order
of the data need no state (`training_batch`). Sharded tensors are gathered: the file does not depend on how many
processes wrote it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from vdm_bench.errors import InputError
from vdm_bench.files import atomic_path
from vdm_bench.reference_model.ema import WeightAverage

FORMAT = 1
FOLDER = "checkpoints"
KEPT = 2  # the newest states; older ones are removed

_KEY = "vdm_bench_training"
_MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's, by torch's names


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: steps done.
        seconds: that training took so far, without the time between interruptions.
    """

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class TrainingState:
    """The tensors of a run, wherever they are.

    Args:
        network: as built, not as wrapped.
        optimisers: which share its parameters: Adam or AdamW, and Muon, which has its moments from the beginning.
        average: of its parameters.
    """

    network: nn.Module
    optimisers: Sequence[Optimizer]
    average: WeightAverage

    def gathered(self, *, keep: bool) -> dict[str, Tensor]:
        """Give all tensors on the CPU, whole; nothing where `keep` is false.

        All processes must call it, because sharded tensors are put together from all of them. On a CPU they may
        be the run's own, not copies: use them before the next step.
        """
        whole = {}
        for name, value in self._tensors().items():
            if isinstance(value, DTensor):
                value = value.full_tensor()
            if keep:
                whole[name] = value.detach().cpu().contiguous()
        return whole

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `gathered` gave; each tensor keeps its device, layout and sharding."""
        with torch.no_grad():
            for name, mine in self._tensors().items():
                value = tensors[name].to(mine.device)
                if isinstance(mine, DTensor):
                    value = distribute_tensor(value, mine.device_mesh, mine.placements)
                mine.copy_(value)

    def _tensors(self) -> dict[str, Tensor]:
        moments: dict[str, Tensor] = {}
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        for optimiser in self.optimisers:
            for parameter in (parameter for group in optimiser.param_groups for parameter in group["params"]):
                state = optimiser.state[parameter]
                if not state:  # Adam makes it in the first step only, by the same rule
                    state["step"] = torch.zeros((), device=parameter.device)
                    for kind in _MOMENTS:
                        state[kind] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                moments |= {f"{kind}.{names[parameter]}": tensor for kind, tensor in state.items()}
        weights = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        return weights | {f"average.{name}": value for name, value in self.average.tensors.items()} | moments


def states(out: Path) -> list[Path]:
    """List the states of a run, the newest last."""
    return sorted((out / FOLDER).glob("step-*.safetensors"))


def write_state(out: Path, tensors: Mapping[str, Tensor], progress: Progress) -> None:
    """Write a state whole or not at all, then remove all but the newest."""
    header = {"format": FORMAT, "step": progress.step, "seconds": progress.seconds}
    with atomic_path(out / FOLDER / f"step-{progress.step:09d}.safetensors") as temporary:
        save_file(dict(tensors), temporary, {_KEY: json.dumps(header)})
    for path in states(out)[:-KEPT]:
        path.unlink(missing_ok=True)


def read_state(out: Path) -> tuple[dict[str, Tensor], Progress] | None:
    """Read the newest state of a run; None where there is none.

    Raises:
        InputError: it is damaged, or of another version.
    """
    paths = states(out)
    if not paths:
        return None
    try:
        with safe_open(paths[-1], "pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{paths[-1]} is damaged ({error}); remove it, and training goes on from the one before"
        ) from error
    if header.get("format") != FORMAT:
        raise InputError(f"{paths[-1]} was written by another version of vdm-bench; go on with that one")
    return tensors, Progress(int(header["step"]), float(header["seconds"]))
