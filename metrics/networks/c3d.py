"""C3D (Tran et al. 2015) as TGAN2 (Saito et al. 2020) uses it for the inception score and the FID on UCF101.

A port of the network of pfnet-research/tgan2, equal to the Chainer original up to float32 rounding. Three details
are easily lost in a port: the input is BGR in 0..255 minus a mean clip; frames are stretched to 112x112 in one
step with aligned corners; and the last pool reduces 7 rows to 4, the last one from a single row.
"""

from collections.abc import Collection, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.base import (
    NetworkSpec,
    Preprocessing,
    TorchNetwork,
    check_clips,
    refuse_left_over,
    take_tensor,
)
from vdm_bench.metrics.precision import arithmetic
from vdm_bench.metrics.weights.digest import content_digest

AnyArray = Tensor | NDArray[Any]

FRAMES = 16
SIZE = 112
HIDDEN = 4096
MEAN_SHAPE = (3, FRAMES, 128, 171)  # channels in BGR order
MEAN_MARGIN = 8  # first row and column of the window that is cropped from the mean clip

CHANNELS = {
    "conv1a": (3, 64),
    "conv2a": (64, 128),
    "conv3a": (128, 256),
    "conv3b": (256, 256),
    "conv4a": (256, 512),
    "conv4b": (512, 512),
    "conv5a": (512, 512),
    "conv5b": (512, 512),
}
POOLS_AFTER = {"conv1a": "pool1", "conv2a": "pool2", "conv3b": "pool3", "conv4b": "pool4", "conv5b": "pool5"}


class C3DLayers(nn.Module):
    """All layers, from float32 [N, 3, 16, 112, 112], RGB in 0..255, to class probabilities.

    Stages have their original names, except `logits` (`fc8`) and `probabilities` (`prob`).
    """

    mean: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.empty(3, FRAMES, SIZE, SIZE))
        self.maps = nn.ModuleDict()
        for name, (inside, outside) in CHANNELS.items():
            self.maps[name] = nn.Conv3d(inside, outside, 3, padding=1)
            if pool := POOLS_AFTER.get(name):
                self.maps[pool] = nn.MaxPool3d((1, 2, 2) if pool == "pool1" else 2, ceil_mode=True)
        self.hidden = nn.ModuleDict({"fc6": nn.Linear(512 * 4 * 4, HIDDEN), "fc7": nn.Linear(HIDDEN, HIDDEN)})
        self.classifier = nn.Linear(HIDDEN, classes)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that `forward` can return, in the order of computation."""
        return "pre", *self.maps, *self.hidden, "logits", "probabilities"

    def forward(self, x: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """Compute the network up to the last wanted stage.

        Returns:
            The wanted stages, after their ReLU: maps [N, C, T', H', W'], vectors [N, d].
        """
        last = max(self.stages.index(name) for name in wanted)
        outputs = {}
        x = (x.flip(1) - self.mean).contiguous(memory_format=torch.channels_last_3d)
        for index, name in enumerate(self.stages):
            if name in self.maps:
                x = self.maps[name](x)
                x = x if name.startswith("pool") else F.relu_(x)
            elif name in self.hidden:
                x = F.relu_(self.hidden[name](x.flatten(1)))
            elif name == "logits":
                x = self.classifier(x)
            elif name == "probabilities":
                x = x.float().softmax(1)
            if name in wanted:
                outputs[name] = x
            if index == last:
                break
        return outputs


class C3D(TorchNetwork):
    """C3D as a feature network for clips of 16 frames.

    Layers: `fc6` and `fc7` [N, 4096], after their ReLU; `logits` [N, classes], the original's fc8; and
    `probabilities` [N, classes], their softmax. TGAN2's FID uses `fc7`, its inception score `probabilities`.
    `activations` returns whole feature maps.

    Create one with `from_chainer` or `vdm_bench.metrics.networks.load_network`.
    """

    module: C3DLayers
    gpu_batch_size = 32

    @classmethod
    def from_chainer(
        cls,
        arrays: Mapping[str, AnyArray],
        mean: AnyArray | None = None,
        *,
        name: str = "c3d",
        licence: str = "unknown",
        note: str = "",
        batch_size: int = 2,
    ) -> Self:
        """Build the network from the arrays of the original.

        Args:
            arrays: float32 by Chainer's names, `conv1a/W` [64, 3, 3, 3, 3] ... `fc8/b` [classes], and `mean`
                unless it is given separately. The network may share their memory.
            mean: mean clip [3, 16, 128, 171], BGR, instead of `arrays["mean"]`.
            name: as in signatures.
            licence: SPDX identifier of the weights' licence.
            note: a sentence to show with scores.
            batch_size: clips of a forward pass.

        Raises:
            InputError: an array is missing, unknown, or has another shape; the message names it.
        """
        arrays = arrays if mean is None else {**arrays, "mean": mean}
        left = {key: torch.as_tensor(value, dtype=torch.float32) for key, value in arrays.items()}
        digest = content_digest(left)
        module, classes = _module(left)
        spec = NetworkSpec(
            name=name,
            layers={"fc6": HIDDEN, "fc7": HIDDEN, "logits": classes, "probabilities": classes},
            min_frames=FRAMES,
            max_frames=FRAMES,
            batch_size=batch_size,
            preprocessing=Preprocessing(SIZE, "align-corners", scale=1.0, shift=0.0),
            weights_digest=digest[:8],
            licence=licence,
            note=note,
        )
        return cls(module, spec)

    def _layers(self, clips: Tensor) -> dict[str, Tensor]:
        layers: dict[str, Tensor] = self._run(self.spec.preprocessing(clips), list(self.spec.layers))
        return layers

    @torch.no_grad()
    def activations(self, clips: Tensor, stages: Collection[str]) -> dict[str, Tensor]:
        """Compute the outputs of any stages.

        Args:
            clips: uint8 [N, 16, H, W, 3], RGB.
            stages: original names, such as `conv1a`; `pre` is the network's input.

        Returns:
            float32 [N, C, T', H', W'] or [N, d] for each.

        Raises:
            InputError: an unknown stage, or clips that the network does not accept.
        """
        check_clips(clips, self.spec)
        if unknown := [name for name in stages if name not in self.module.stages]:
            raise InputError(f"C3D has no stage {unknown[0]!r}; it has {', '.join(self.module.stages)}")
        with arithmetic(self.spec.precision, self.device):
            outputs = self.module(self.spec.preprocessing(clips), stages)
        return {name: outputs[name].float() for name in stages}


def _module(left: dict[str, Tensor]) -> tuple[C3DLayers, int]:
    """Build the layers, which must use all arrays, and return them with the number of classes."""
    state = {}
    if "mean" not in left and "conv1a/W" in left:
        raise InputError("C3D needs the mean clip of its training data too; give `mean` [3, 16, 128, 171]")
    for name, (inside, outside) in CHANNELS.items():
        kernel = take_tensor(left, f"{name}/W", (outside, inside, 3, 3, 3), "C3D")
        state[f"maps.{name}.weight"] = kernel.contiguous(memory_format=torch.channels_last_3d)
        state[f"maps.{name}.bias"] = take_tensor(left, f"{name}/b", (outside,), "C3D")
    for name, inside in (("fc6", 512 * 4 * 4), ("fc7", HIDDEN)):
        state[f"hidden.{name}.weight"] = take_tensor(left, f"{name}/W", (HIDDEN, inside), "C3D")
        state[f"hidden.{name}.bias"] = take_tensor(left, f"{name}/b", (HIDDEN,), "C3D")
    bias = take_tensor(left, "fc8/b", (-1,), "C3D")
    state["classifier.weight"] = take_tensor(left, "fc8/W", (len(bias), HIDDEN), "C3D")
    state["classifier.bias"] = bias
    window = slice(MEAN_MARGIN, MEAN_MARGIN + SIZE)
    state["mean"] = take_tensor(left, "mean", MEAN_SHAPE, "C3D")[..., window, window].contiguous()
    refuse_left_over(left, "C3D")
    with torch.device("meta"):  # allocates and initialises nothing: all tensors are assigned below
        module = C3DLayers(len(bias))
    module.load_state_dict(state, assign=True)
    return module, len(bias)
