"""The file of a block of features: an array per layer, and a header with its networks and clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import DamagedError
from vdm_bench.metrics.extraction import Features
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.runtime.checksums import StoredArrays, open_arrays
from vdm_bench.scoring.blocks import write_block
from vdm_bench.video.clip import is_digest

# Part of the key of every file: raise it when features or the layout of their files change.
FEATURES_VERSION = 5


def array_name(number: int, layer: str) -> str:
    """Return the name of a layer in the files of features, by the index of its network."""
    return f"{number}.{layer}"


def layers_of(networks: Sequence[FeatureNetwork]) -> dict[str, int]:
    """Return the dimensions of each layer of the networks, by its `array_name`."""
    return {
        array_name(number, layer): width
        for number, network in enumerate(networks)
        for layer, width in network.spec.layers.items()
    }


def network_names(networks: Sequence[FeatureNetwork]) -> list[str]:
    """Name networks by all that decides the features of a clip, but the device."""
    return [f"{network.spec.cache_key} {','.join(network.spec.layers)}" for network in networks]


@dataclass(frozen=True)
class BlockHeader:
    """The header of a block of features.

    Attributes:
        networks: names of its networks, with everything that determines the features of a clip.
        digests: SHA-256 of each clip.
        refused: why a layer has no features, by its `array_name`.
        widths: dimensions of each stored layer, by its `array_name`.
    """

    networks: Sequence[str]
    digests: Sequence[str]
    refused: Mapping[str, str]
    widths: Mapping[str, int]

    def holds(self, needed: Mapping[str, int]) -> bool:
        """Return whether each layer, by its `array_name`, is stored with these dimensions or refused."""
        return all(self.widths.get(name) == width or name in self.refused for name, width in needed.items())


def write_features(
    path: Path, networks: Sequence[str], digests: Sequence[str], arrays: Features, refused: Mapping[str, str]
) -> None:
    """Write the features of a block.

    Args:
        path: path of the file.
        networks: names of the networks; they reveal a file in the place of another.
        digests: SHA-256 of each clip.
        arrays: float32 [n, d] per layer, by its `array_name`.
        refused: why a layer has no features, by its `array_name`.
    """
    facts = {"networks": list(networks), "digests": list(digests), "refused": dict(refused)}
    write_block(path, arrays, facts)


def read_header(path: Path) -> BlockHeader:
    """Read the header of a file of features.

    Raises:
        DamagedError: the file is missing, of another kind, or damaged.
    """
    with open_arrays(path) as stored:
        networks: Any = stored.facts.get("networks")
        digests: Any = stored.facts.get("digests")
        refused: Any = stored.facts.get("refused")
        if not (_are_names(networks) and _are_digests(digests) and _are_reasons(refused)):
            raise DamagedError(path, "its header does not name its networks and clips", stored.way_out)
        return BlockHeader(networks, digests, refused, _widths(stored, len(digests)))


def read_features(path: Path, name: str) -> NDArray[np.float32]:
    """Read a layer, float32 [n, d], by its `array_name`.

    Raises:
        DamagedError: it is missing or damaged.
    """
    with open_arrays(path) as stored:
        return stored.read(name)


def _are_names(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(name, str) for name in found)


def _are_digests(found: Any) -> bool:
    return isinstance(found, list) and all(map(is_digest, found))


def _are_reasons(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(reason, str) for reason in found.values())


def _widths(stored: StoredArrays, rows: int) -> dict[str, int]:
    for name, shape in stored.shapes.items():
        if len(shape) != 2 or shape[0] != rows or stored.types[name] != "F32":
            found = f"{stored.types[name]} [{', '.join(map(str, shape))}]"
            raise DamagedError(stored.path, f"{name} is {found} and not F32 [{rows}, d]", stored.way_out)
    return {name: shape[1] for name, shape in stored.shapes.items()}
