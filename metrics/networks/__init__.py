"""Feature networks by name, from the entry point group `vdm_bench.networks`.

An entry point names a class or function without required arguments that returns a `FeatureNetwork`. A package
adds a network by declaring one, such as `videomae = "my_package.networks:VideoMAE"`. If it takes an argument
`weights` (name -> tensor), users can load weights of their own.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import Precision
from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.lazy import lazy

if TYPE_CHECKING:
    from vdm_bench.metrics.networks.base import FeatureNetwork as FeatureNetwork
    from vdm_bench.metrics.networks.c3d import C3D as C3D
    from vdm_bench.metrics.networks.i3d import I3D as I3D
    from vdm_bench.metrics.networks.inception import Inception as Inception

GROUP = "vdm_bench.networks"
BACKENDS = ("torch", "tensorflow")
# Networks whose weights are part of the package, for listings that must not import torch. The catalogue of
# weights describes the others.
PACKAGED = {
    "embedded": "a small classifier of `shapes`; layers features [128], logits [240]; from 4 frames; its scores "
    "are not comparable with those of I3D, C3D or Inception"
}


@dataclass(frozen=True)
class ComputeConfig:
    """How networks compute; settings that change values by more than rounding enter the signature.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: arithmetic of the networks.
        compiled: whether to use `torch.compile`: slower to start, then faster.
        backend: `torch`; or `tensorflow` for the original I3D graph from tensorflow-hub, or from a SavedModel
            folder with `tensorflow:FOLDER`.
        weights: network -> file of weights to use instead of the catalogue's.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    compiled: bool = False
    backend: str = "torch"
    weights: Mapping[str, Path] = field(default_factory=dict)

    def needs_download(self, network: str) -> bool:
        """Tell whether the network uses weights of the catalogue."""
        from vdm_bench.metrics.weights import catalogue

        original = self.backend != "torch" and network == "i3d-k400"
        return network in catalogue() and network not in self.weights and not original


def network_names() -> list[str]:
    """Return the names of the installed networks, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def pick_device(device: str) -> str:
    """Return the device to compute on: `auto` is the GPU if there is one, else the CPU."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_network(name: str, computing: ComputeConfig | None = None) -> "FeatureNetwork":
    """Load the network `name` with its weights, downloading them if needed, on its device.

    Raises:
        InputError: there is no such network, its weights are not available, or the device cannot be used.
    """
    import torch

    computing = computing or ComputeConfig()
    network = _make(name, computing)
    device = pick_device(computing.device)
    with _usable(device):
        return network.to(torch.device(device))


def check_computing(names: Iterable[str], computing: ComputeConfig) -> None:
    """Check names and settings before any network is loaded or downloaded.

    Args:
        names: names of the networks.
        computing: how they will compute.

    Raises:
        InputError: there is no such network, backend, precision, device or file of weights.
    """
    import torch

    from vdm_bench.metrics.precision import check_precision

    for name in names:
        entry_of(name)
    _backend(computing)
    device = pick_device(computing.device)
    with _usable(device):
        torch.empty(0, device=device)
    check_precision(computing.precision, torch.device(device))
    for path in computing.weights.values():
        if not path.is_file():
            raise InputError(f"{path} is not a file; give --weights NETWORK=FILE the file of the weights")


@contextlib.contextmanager
def _usable(device: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {device!r} cannot be used ({reason}); try --device cpu") from error


def entry_of(name: str) -> EntryPoint:
    """Find the entry point of a network.

    Raises:
        InputError: there is no such network.
    """
    installed = entry_points(group=GROUP)
    check_known(name, sorted(installed.names), "network", "`vdm-bench list networks` shows them")
    return installed[name]


def _backend(computing: ComputeConfig) -> tuple[str, str]:
    """Return the name of the backend and the folder of its graph, which may be empty."""
    backend, _, folder = computing.backend.partition(":")
    if backend not in BACKENDS or (folder and backend == "torch"):
        raise InputError(f"unknown backend {computing.backend!r}; choose torch, tensorflow or tensorflow:FOLDER")
    return backend, folder


def _make(name: str, computing: ComputeConfig) -> "FeatureNetwork":
    found = entry_of(name)
    backend, folder = _backend(computing)
    if backend == "tensorflow" and name == "i3d-k400":
        from vdm_bench.metrics.networks.tfhub import OriginalI3D

        return OriginalI3D.load(Path(folder) if folder else None)
    make: Callable[..., FeatureNetwork] = found.load()
    if name not in computing.weights:
        return make()
    if "weights" not in inspect.signature(make).parameters:
        raise InputError(f"the network {name} takes no weights of your own; leave out --weights {name}=...")
    from vdm_bench.metrics.weights import read_weights_file

    return make(weights=read_weights_file(computing.weights[name]))


_HOMES = {"C3D": "c3d", "FeatureNetwork": "base", "I3D": "i3d", "Inception": "inception"}
__all__ = [
    *("ComputeConfig", "check_computing", "entry_of", "load_network", "network_names", "pick_device"),
    *_HOMES,
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
