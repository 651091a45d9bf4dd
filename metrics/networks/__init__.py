"""Feature networks, found by name through the entry point group `vdm_bench.networks`.

A network is a class or function without required arguments that gives a `FeatureNetwork`; a package adds its
own by declaring an entry point, such as `videomae = "my_package.networks:VideoMAE"`.
"""

import difflib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.metrics.networks.base import FeatureNetwork

GROUP = "vdm_bench.networks"


def network_names() -> list[str]:
    """Name the networks that are installed, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def pick_device(device: str) -> str:
    """Give the device to compute on: `auto` is the GPU where there is one, else the CPU."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_network(name: str, device: str = "cpu") -> "FeatureNetwork":
    """Make the network `name` with its weights, on `device` (such as `cpu`, `cuda`, `cuda:1`).

    Raises:
        InputError: no network is called so, or the device is not there.
    """
    import torch

    found = entry_points(group=GROUP, name=name)
    if not found:
        near = difflib.get_close_matches(name, network_names(), 1)
        hint = f"did you mean {near[0]!r}?" if near else "`vdm-bench list networks` shows them"
        raise InputError(f"there is no network {name!r}; {hint}")
    network: FeatureNetwork = next(iter(found)).load()()
    try:
        return network.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {device!r} cannot be used ({reason}); try --device cpu") from error
