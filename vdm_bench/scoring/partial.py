"""Keep the network passes of an unfinished block of features, so that a kill costs less than a minute of work.

While a block is computed, its passes are written every 30 seconds to a file next to the block's. If the process
is killed, the next run takes the passes from that file and computes the rest. The batches of a block are the same
either way, so the finished block has the same bits. The file is removed when the block is finished.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import DamagedError
from vdm_bench.metrics.extraction import Pass, PassHook
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.runtime.checksums import open_arrays
from vdm_bench.runtime.progress import Advance
from vdm_bench.scoring.blocks import BlockStore, write_block
from vdm_bench.scoring.feature_files import array_name, network_names

# Seconds of work between two writes. A kill may also cost the pass that is being computed; together they stay
# below a minute unless a single pass takes half of one.
KEEP_EVERY = 30.0
_SUFFIX = ".partial"  # readers of finished blocks look for another one

_Place: TypeAlias = tuple[int, int]  # number of the network, and of the batch in the block
_Layers: TypeAlias = dict[str, Tensor]  # float32 [B, d] by layer


class PartialBlock:
    """The passes of a block that have been computed so far.

    Args:
        path: file of the finished block.
        store: the store of that file; reports a damaged partial file.
        advance: called with 1 after each pass, computed or found.
        clock: returns seconds.
    """

    def __init__(
        self, path: Path, store: BlockStore, advance: Advance, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._store = path.with_suffix(_SUFFIX), store
        self._advance, self._clock = advance, clock
        self._passes: dict[_Place, _Layers] = {}
        self._facts: dict[str, Any] = {}
        self._lock, self._written = Lock(), clock()

    def open(self, networks: Sequence[FeatureNetwork], digests: Sequence[str]) -> None:
        """Take the passes from the file, if it has some of these networks and clips.

        Args:
            networks: the networks that compute the block.
            digests: SHA-256 of the clips.
        """
        self._facts = {"networks": network_names(networks), "digests": list(digests)}
        read = self._store.find(self._path, lambda path: _read(path, self._facts), len(digests)) or {}
        self._passes = {
            place: {layer: torch.from_numpy(values) for layer, values in layers.items()}
            for place, layers in read.items()
            if _is_of(networks, len(digests), place, layers)
        }

    def hook(self, network: int) -> PassHook:
        """Return the hook for the passes of a network, given by its number."""

        def compute(batch: int, forward: Pass) -> _Layers:
            layers = self._passes.get((network, batch))
            if layers is not None:
                with self._lock:
                    self._advance(1)
                return layers
            layers = forward()
            with self._lock:
                self._add((network, batch), layers)
                self._advance(1)
            return layers

        return compute

    def remove(self) -> None:
        """Remove the file, once the block is finished."""
        self._path.unlink(missing_ok=True)

    def _add(self, place: _Place, layers: _Layers) -> None:
        self._passes[place] = layers
        if self._clock() - self._written >= KEEP_EVERY:
            arrays = {
                f"{batch}/{array_name(network, layer)}": values.numpy()
                for (network, batch), found in self._passes.items()
                for layer, values in found.items()
            }
            write_block(self._path, arrays, self._facts)
            self._written = self._clock()


def remove_finished(folder: Path) -> None:
    """Remove the partial files of blocks that are finished, left by a process killed just before it did so."""
    for path in folder.glob(f"*{_SUFFIX}"):
        if path.with_suffix(".safetensors").exists():
            path.unlink(missing_ok=True)


def _read(path: Path, facts: dict[str, Any]) -> dict[_Place, dict[str, NDArray[np.float32]]]:
    """Read the passes of a file; none if it is of other networks or clips than the facts say.

    Raises:
        DamagedError: the file is missing or has changed since it was written.
    """
    passes: dict[_Place, dict[str, NDArray[np.float32]]] = {}
    with open_arrays(path) as stored:
        if stored.facts != facts:
            return {}
        for name in stored.shapes:
            batch, _, array = name.partition("/")
            network, _, layer = array.partition(".")
            if not (batch.isdecimal() and network.isdecimal()):
                raise DamagedError(path, f"{name} is not the name of a pass", stored.way_out)
            passes.setdefault((int(network), int(batch)), {})[layer] = stored.read(name)
    return passes


def _is_of(
    networks: Sequence[FeatureNetwork], clips: int, place: _Place, layers: dict[str, NDArray[np.float32]]
) -> bool:
    """Return whether the layers are those of a batch of a network, complete."""
    number, batch = place
    if number >= len(networks):
        return False
    spec = networks[number].spec
    rows = min(spec.batch_size, clips - batch * spec.batch_size)
    are_floats = all(values.dtype == np.float32 for values in layers.values())
    shapes = {name: values.shape for name, values in layers.items()}
    return are_floats and shapes == {name: (rows, width) for name, width in spec.layers.items()}
