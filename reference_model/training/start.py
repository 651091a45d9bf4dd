"""What a training run starts from: weights of another model, and the optimisers."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vdm_bench.errors import InputError
from vdm_bench.reference_model.checkpoint import load_model
from vdm_bench.reference_model.config import TrainingConfig
from vdm_bench.reference_model.pretrained import source_of
from vdm_bench.reference_model.training.optimisers import Muon
from vdm_bench.reference_model.unet import VideoUNet


def start_from(network: VideoUNet, checkpoint: Path) -> str:
    """Give a network the weights of a checkpoint; give the checkpoint's name.

    Raises:
        InputError: it is no sound checkpoint, or one of another architecture.
    """
    state, mine = load_model(checkpoint)[0].state_dict(), network.state_dict()
    unlike = [name for name in sorted(state.keys() | mine.keys()) if _shape(state, name) != _shape(mine, name)]
    if unlike:
        raise InputError(
            f"{checkpoint} is of another architecture than what is trained: {unlike[0]} is "
            f"{_shape(state, unlike[0])} there and {_shape(mine, unlike[0])} here; frames and resolution alone "
            "may differ"
        )
    network.load_state_dict(state)
    return source_of(checkpoint)


def _shape(tensors: dict[str, Tensor], name: str) -> str:
    return "x".join(map(str, tensors[name].shape)) if name in tensors else "missing"


def make_optimisers(network: VideoUNet, config: TrainingConfig) -> list[Optimizer]:
    """Make Adam, or AdamW, in one kernel for all parameters; or Muon for matrices and Adam for the others."""
    matrices = inner_matrices(network) if config.optimiser == "muon" else []
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    taken = set(matrices)
    others = [parameter for parameter in network.parameters() if parameter not in taken]
    adam = kind(others, config.learning_rate, config.betas, weight_decay=config.weight_decay, fused=True)
    return [Muon(matrices, config.learning_rate), adam] if matrices else [adam]


def inner_matrices(network: VideoUNet) -> list[nn.Parameter]:
    """Give the weights of convolutions and linear layers in the network's stages: not those at its ends."""
    stages = [stage for part in (network.down, network.middle, network.up) for stage in part]
    layers = [layer for stage in stages for layer in stage.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [parameter for layer in layers for name, parameter in layer.named_parameters() if name == "weight"]
