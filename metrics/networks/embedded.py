"""The embedded network: a small 3-D convolutional classifier of `shapes`, shipped with the package.

It classifies the shape, colour and motion of a clip's subject. Its features give an FVD, and its class
probabilities an inception score, without a download: for demonstrations, CI and calibration. Its scores are never
comparable with those of I3D; every signature names the network.
"""

import functools
from collections.abc import Mapping
from importlib import resources

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.base import NetworkSpec, Preprocessing, TorchNetwork
from vdm_bench.metrics.weights.digest import content_digest

__all__ = ["CONVOLUTIONS", "FEATURES", "HEADS", "EmbeddedClassifier", "EmbeddedNetwork", "channels_last"]

WEIGHTS_FILE = "embedded.safetensors"
HEADS = {"shape": 5, "colour": 6, "motion": 8}
FEATURES = 128
CLASSES = 240

# (input channels, output channels, kernel, stride) of the convolutions over time, height and width
CONVOLUTIONS = (
    (3, 32, (3, 5, 5), (1, 2, 2)),
    (32, 48, (3, 3, 3), (1, 2, 2)),
    (48, 96, (3, 3, 3), (2, 2, 2)),
    (96, FEATURES, (3, 3, 3), (1, 1, 1)),
)


class EmbeddedClassifier(nn.Module):
    """The layers: float32 [N, 3, T, 32, 32] in [-1, 1] -> features [N, 128] and one logit vector per head.

    There are only convolutions and ReLUs: the training script folds the batch normalisation into the
    convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv3d(inside, outside, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2))
            for inside, outside, kernel, stride in CONVOLUTIONS
        )
        self.temporal = nn.Conv1d(FEATURES, FEATURES, 5, padding=2)
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, count) for name, count in HEADS.items()})

    def features(self, x: Tensor) -> Tensor:
        """Average the last feature map over space and time: [N, 128]."""
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return F.relu(self.temporal(x.mean(dim=(-2, -1)))).mean(dim=-1)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the features and the logits of each head."""
        features = self.features(x)
        return features, {name: head(features) for name, head in self.heads.items()}


class EmbeddedNetwork(TorchNetwork):
    """The classifier as a feature network.

    Layers: `features` [N, 128], and `logits` [N, 240]: joint log probabilities of (shape, colour, motion) up to a
    constant, in the order of the labels of `shapes`. Their softmax is the product of the softmaxes of the heads.

    Args:
        weights: name -> tensor; the shipped weights by default.
        batch_size: clips of a forward pass.

    Raises:
        InputError: the weights do not fit the network.
    """

    module: EmbeddedClassifier

    def __init__(self, weights: Mapping[str, Tensor] | None = None, *, batch_size: int = 8) -> None:
        data = _shipped_weights() if weights is None else dict(weights)
        classifier = EmbeddedClassifier()
        try:
            classifier.load_state_dict(data)
        except RuntimeError as error:
            raise InputError("these weights are not those of the embedded network") from error
        for parameter in classifier.convolutions.parameters():
            parameter.data = channels_last(parameter.data)
        spec = NetworkSpec(
            name="embedded",
            layers={"features": FEATURES, "logits": CLASSES},
            min_frames=4,
            batch_size=batch_size,
            preprocessing=Preprocessing(32, "antialias"),
            weights_digest=content_digest(data)[:8],
            licence="Apache-2.0",
            note="the embedded network's scores are not comparable with scores of I3D, C3D or Inception",
        )
        super().__init__(classifier, spec)

    def _layers(self, clips: Tensor) -> dict[str, Tensor]:
        features, logits = self._run(channels_last(self.spec.preprocessing(clips)))
        shape, colour, motion = (F.log_softmax(logits[name], dim=-1) for name in HEADS)
        joint = shape[:, :, None, None] + colour[:, None, :, None] + motion[:, None, None, :]
        return {"features": features, "logits": joint.flatten(1)}


def channels_last(x: Tensor) -> Tensor:
    """Return a 5-D tensor in channels-last layout, for which convolutions are faster; others unchanged."""
    return x.contiguous(memory_format=torch.channels_last_3d) if x.ndim == 5 else x


@functools.cache
def _shipped_weights() -> dict[str, Tensor]:
    return load(resources.files(__package__).joinpath(WEIGHTS_FILE).read_bytes())
