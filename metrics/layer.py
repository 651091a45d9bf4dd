"""A layer of a feature network as a training loop uses it: clips in its own layout in, features out."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks import load_network
from vdm_bench.metrics.networks.base import FeatureNetwork, NetworkSettings
from vdm_bench.metrics.pixels import to_pixels


class Layer:
    """A layer of a network, hidden from what torch.nn.Module does to its children.

    Copies share the network; it is moved to the device that is asked for last.

    Args:
        network: a name, or the network itself.
        layer: its name; if None, the first of `preferred` that the network has.
        preferred: names of layers.

    Raises:
        InputError: no such network or layer.
    """

    def __init__(self, network: str | FeatureNetwork, layer: str | None, preferred: Sequence[str] = ()) -> None:
        network = load_network(network) if isinstance(network, str) else network
        spec = network.spec
        found = [name for name in ([layer] if layer else preferred) if name in spec.layers]
        if not found:
            wish = f"no layer {layer!r}" if layer else "no default layer"
            raise InputError(f"{spec.name} has {wish}; choose layer= one of {', '.join(spec.layers)}")
        settings = NetworkSettings(layers=(found[0],), precision=spec.precision, compiled=spec.compiled)
        self.name = found[0]
        self.network = network.configured(settings)
        self.dimension = spec.layers[self.name]

    @torch.no_grad()
    def __call__(self, clips: Tensor, device: torch.device) -> NDArray[np.float32]:
        """Compute the features [N, d] on `device`, of clips as `as_pixels` takes them.

        Raises:
            InputError: clips that `as_pixels` or the network does not take, or features that are not finite.
        """
        if self.network.device != device:
            self.network = self.network.to(device)
        return extract_features(self.network, as_pixels(clips))[self.name]

    def __deepcopy__(self, memo: object) -> Self:
        return self


def as_pixels(clips: Tensor) -> Tensor:
    """Turn a training loop's clips into uint8 [N, T, H, W, 3].

    Args:
        clips: that already, or float [N, 3, T, H, W] in [-1, 1]: x becomes round((x + 1) * 127.5).

    Raises:
        InputError: another dtype or shape, or values outside [-1, 1].
    """
    if not isinstance(clips, Tensor):
        found = type(clips).__name__
    elif clips.dtype == torch.uint8 and clips.ndim == 5 and clips.shape[-1] == 3:
        return clips
    elif clips.is_floating_point() and clips.ndim == 5 and clips.shape[1] == 3:
        return to_pixels(clips, -1.0, 1.0).movedim(1, -1).contiguous()
    else:
        found = f"{clips.dtype} {'x'.join(map(str, clips.shape))}"
    raise InputError(f"clips are uint8 [N, T, H, W, 3] or float [N, 3, T, H, W] in [-1, 1]; these are {found}")
