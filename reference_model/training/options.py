"""How a training run is carried out, and what its caller does along the way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vdm_bench.reference_model.training.log import LogLine
from vdm_bench.reference_model.unet import VideoUNet


@dataclass(frozen=True)
class TrainingOptions:
    """How a run is carried out; nothing here but `seed`, `precision` and `init` changes its result.

    Attributes:
        seed: of the initial weights, the order of the data and all noise.
        precision: `bf16` for autocast; weights, optimiser and average stay float32.
        init: checkpoint whose weights the run starts from; None for new ones. Clips of another length may have
            been what it was trained on.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        shard: share out weights and moments over the processes (FSDP), where one device cannot hold them.
        compiled: compile the network.
        checkpointing: gradient checkpointing.
        checkpoint_every: steps between checkpoints; the last step has one always.
        sample_every: steps between previews; 0 for none.
        log_every: steps between lines of the log.
        tensorboard: write TensorBoard's files too.
    """

    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    init: Path | None = None
    device: str = "auto"
    shard: bool = False
    compiled: bool = False
    checkpointing: bool = False
    checkpoint_every: int = 1000
    sample_every: int = 0
    log_every: int = 20
    tensorboard: bool = False


def _never() -> bool:
    return False


def _ignore_text(text: str) -> None:
    pass


def _ignore_line(line: LogLine) -> None:
    pass


def _ignore_model(network: VideoUNet, step: int) -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """What the caller does along the way, in the leading process.

    Attributes:
        on_note: gets a sentence now and then.
        on_log: gets every line of the log.
        on_sample: gets the network with averaged weights, on the device in eval mode, and the steps done.
        should_stop: asked after every step, in all processes; a run that stops leaves a checkpoint.
    """

    on_note: Callable[[str], None] = _ignore_text
    on_log: Callable[[LogLine], None] = _ignore_line
    on_sample: Callable[[VideoUNet, int], None] = _ignore_model
    should_stop: Callable[[], bool] = _never
