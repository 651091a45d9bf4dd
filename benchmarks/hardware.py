"""What another CPU does to features and scores: the table behind the tolerances of `vdm-bench verify`.

    python benchmarks/hardware.py        # 3 minutes

Torch and oneDNN are told to use the instructions of older CPUs, each in a process of its own, and the features
are compared with those of this CPU at its best. Clips: 256 of `shapes` against 256 of another seed (a model near
the floor, the hardest case) for the embedded network; the golden sets of 24 clips for I3D with weights by recipe.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from recipe_weights import GOLDEN, i3d_shapes, i3d_weights
from safetensors.numpy import load_file, save_file

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.metrics import frechet_distance
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks import I3D
from vdm_bench.metrics.networks.base import NetworkSettings
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.runs.audit import rms_errors, spread_of

CPUS = {"this one": {}, **{
    name: {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn}
    for name, aten, onednn in (("AVX2", "avx2", "AVX2"), ("SSE 4.1", "default", "SSE41"))
}}  # fmt: skip
CLIPS = 256


def measure(path: Path) -> None:
    """Compute the features of all sets of clips and write them."""
    embedded = EmbeddedNetwork().configured(NetworkSettings(layers=("features",)))
    i3d = I3D.from_tensorflow(i3d_weights(i3d_shapes())).configured(NetworkSettings(layers=("logits",)))
    golden = np.load(GOLDEN / "i3d" / "fvd_golden.npz")
    found: dict[str, NDArray[np.float32]] = {}
    for side, seed in (("real", 0), ("made", 1)):
        clips = np.stack([Shapes("test", seed=seed)[index].frames for index in range(CLIPS)])
        found[f"embedded {side}"] = extract_features(embedded, clips)["features"]
    for side, name in (("real", "P"), ("made", "Q")):
        found[f"i3d {side}"] = extract_features(i3d, golden[name])["logits"]
    save_file(found, path)


def measured(cpu: str, folder: Path) -> dict[str, NDArray[np.float32]]:
    """Measure in a process that uses the instructions of a CPU."""
    path = folder / "features.safetensors"
    subprocess.run([sys.executable, __file__, str(path)], check=True, env={**os.environ, **CPUS[cpu]})
    return load_file(path)


def main() -> None:
    """Measure and print the table."""
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        found = {cpu: measured(cpu, Path(name)) for cpu in CPUS}
    here = found.pop("this one")
    print("| network | CPU | features: worst clip / spread | score: relative |\n| --- | --- | ---: | ---: |")
    for network in ("embedded", "i3d"):
        sides = f"{network} real", f"{network} made"
        score = frechet_distance(*(here[side] for side in sides))
        for cpu, there in found.items():
            worst = max(
                float(rms_errors(there[side], here[side]).max()) / spread_of([here[sides[0]]]) for side in sides
            )
            moved = abs(frechet_distance(*(there[side] for side in sides)) / score - 1)
            print(f"| {network} | {cpu} | {worst:.1e} | {moved:.1e} |", flush=True)


if __name__ == "__main__":
    main()
