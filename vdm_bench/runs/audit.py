"""Compare features that someone else computed with those of a share of the clips, computed again.

Stored features are found by the content of each clip, never by file name. Features that are missing, damaged or
not finite are also computed again.
"""

import contextlib
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import DamagedError
from vdm_bench.metrics.extraction import Features
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.scoring.feature_files import array_name, layers_of, read_features, read_header
from vdm_bench.scoring.features import ExtractedFeatures, compute_layers
from vdm_bench.scoring.partial import PartialBlock
from vdm_bench.video.contents import LoadedClip


def rms_errors(found: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the root mean square, over the dimensions, of the error of each clip's features, float32 [N, d]."""
    error = found.astype(np.float64) - expected
    errors: NDArray[np.float64] = np.sqrt((error**2).mean(axis=1))
    return errors


def spread_of(blocks: Iterable[NDArray[np.float32]]) -> float:
    """Return the spread between clips of features [n, d], block by block: the root of their mean variance."""
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for block in blocks:
        values = block.astype(np.float64)
        count, total, squares = count + len(values), total + values.sum(axis=0), squares + (values**2).sum(axis=0)
    return float(np.sqrt((squares / count - (total / count) ** 2).mean()))


class StoredFeatures:
    """The features in a folder, by the SHA-256 of the clips.

    Args:
        folder: `features/` of a run; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._places: dict[str, tuple[Path, int]] = {}
        for path in sorted(folder.glob("[!.]*.safetensors")):
            with contextlib.suppress(DamagedError):
                digests = read_header(path).digests
                self._places |= {digest: (path, row) for row, digest in enumerate(digests)}
        self._read = functools.lru_cache(maxsize=32)(_read)

    def rows(self, digest: str, widths: Mapping[str, int]) -> dict[str, NDArray[np.float32]] | None:
        """Return the stored features of a clip, or None if there are no valid ones.

        Args:
            digest: SHA-256 of the clip.
            widths: dimensions of the required layers, by name.
        """
        if digest not in self._places:
            return None
        path, row = self._places[digest]
        found = {name: self._read(path, name) for name in widths}
        rows = {
            name: values[row]
            for name, values in found.items()
            if values is not None and values.ndim == 2 and row < len(values) and values.dtype == np.float32
        }
        valid = all(
            name in rows and len(rows[name]) == width and np.isfinite(rows[name]).all()
            for name, width in widths.items()
        )
        return rows if valid else None


def _read(path: Path, name: str) -> NDArray[np.float32] | None:
    try:
        return read_features(path, name)
    except DamagedError:
        return None


@dataclass(frozen=True)
class Findings:
    """The result of an audit.

    Attributes:
        computed: number of clips whose features were computed again.
        compared: number of these whose features were also stored.
        worst: the largest error of a clip's stored features: root mean square over the dimensions of a layer, as
            a share of the layer's spread between reference clips; 0 if nothing was compared.
    """

    computed: int
    compared: int
    worst: float


class Auditor:
    """A source of features that takes stored ones, and computes chosen clips and missing features again.

    Args:
        stored: features that someone else computed.
        chosen: indices of clips to compute again in any case.
    """

    def __init__(self, stored: StoredFeatures, chosen: AbstractSet[int]) -> None:
        self._stored, self._chosen = stored, chosen
        self._computed = self._compared = 0
        self._errors: dict[str, float] = {}  # the largest, by layer

    def __call__(
        self, networks: Sequence[FeatureNetwork], clips: Sequence[LoadedClip], partial: PartialBlock
    ) -> tuple[Features, dict[str, str]]:
        """Return the layers of all networks for the clips of one block, and the reasons for missing layers."""
        widths = layers_of(networks)
        known = [self._stored.rows(clip.digest, widths) for clip in clips]
        again = [n for n, clip in enumerate(clips) if known[n] is None or clip.index in self._chosen]
        chosen = [clips[n] for n in again]
        computed, refused = compute_layers(networks, chosen, partial) if again else ({}, {})
        both = [(place, rows) for place, n in enumerate(again) if (rows := known[n]) is not None]
        self._computed += len(again)
        self._compared += len(both)
        arrays = {
            name: np.empty((len(clips), width), np.float32)
            for name, width in widths.items()
            if name not in refused
        }
        for name, values in arrays.items():
            for n, rows in enumerate(known):
                if rows is not None:
                    values[n] = rows[name]
            if again:
                values[again] = computed[name]
            if both:
                stored, fresh = zip(*((rows[name], computed[name][place]) for place, rows in both), strict=True)
                largest = float(rms_errors(np.stack(stored), np.stack(fresh)).max())
                self._errors[name] = max(self._errors.get(name, 0.0), largest)
        return arrays, refused

    def findings(self, networks: Sequence[FeatureNetwork], reference: ExtractedFeatures) -> Findings:
        """Return the result over all blocks so far.

        Errors are relative to the spread of the reference clips. The spread of the generated clips could be
        manipulated by whoever stored the features: a single outlier makes it large.

        Args:
            networks: networks whose features were audited.
            reference: their features of the reference clips.
        """
        worst = 0.0
        for number, (network, features) in enumerate(zip(networks, reference.features, strict=True)):
            for layer in network.spec.layers:
                error = self._errors.get(array_name(number, layer), 0.0)
                if error and layer not in features.refused:
                    spread = spread_of(features.blocks(layer))
                    worst = max(worst, error / spread if spread else math.inf)
        return Findings(self._computed, self._compared, worst)
