"""The cost of a run per clip, stage by stage, with one process and with two: the figures of docs/scale.md.

    python benchmarks/scale.py                  # two minutes and a half on two cores
    python benchmarks/scale.py --processes 1 --processes 2 --processes 4 --clips 256

A run of `shapes` clips of 16x32x32: sampled by the reference model of the preset `shapes`, a few evaluations a
clip, and scored by FVD on I3D, which resizes all clips to 224x224. Weights are random, which does not change the
time. Each process has one thread. Every number of processes has a folder and a cache of its own, and the
scores must be equal to the last bit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from i3d import random_weights
from safetensors.torch import save_file

from vdm_bench.metrics.weights import catalogue
from vdm_bench.reference_model import build_model
from vdm_bench.reference_model.checkpoint import CheckpointInfo, save_model

PROTOCOL = """
name = "scale"
title = "clips of shapes, scored by FVD on I3D"
task = "unconditional"
dataset = "shapes"
frames = 16
context_frames = 0
resolution = 32
reference = {{ split = "test" }}
reference_count = {clips}
conditions = {{ split = "test", seed = 1 }}
generated_count = {clips}
metrics = ["fvd"]
"""


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        seconds: by stage.
        sample_bytes: of the clip archive.
        feature_bytes: of the features of the generated clips.
        values: of the scores.
    """

    seconds: dict[str, float]
    sample_bytes: int
    feature_bytes: int
    values: list[float | None]


def main() -> None:
    """Measure, and print a line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, action="append", help="may be repeated  [default: 1 and 2]")
    parser.add_argument("--clips", type=int, default=128, help="of each side; 64 for each process at least")
    parser.add_argument("--evaluations", type=int, default=2, help="of the model's network a clip")
    arguments = parser.parse_args()
    clips, evaluations = arguments.clips, arguments.evaluations
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scale.toml").write_text(PROTOCOL.format(clips=clips))
        network = build_model("shapes")
        save_model(folder / "model.safetensors", network, CheckpointInfo("random", network.config))
        save_file(random_weights(catalogue()["i3d-k400"]), folder / "i3d.safetensors")
        costs = [measure(folder, processes, evaluations) for processes in arguments.processes or (1, 2)]
    first = costs[0]
    for processes, cost in zip(arguments.processes or (1, 2), costs, strict=True):
        if cost.values != first.values:
            raise SystemExit(f"{processes} processes gave another score: {cost.values}, not {first.values}")
        print(f"{processes} {'process' if processes == 1 else 'processes'}, of one thread each")
        for stage, steps, what in (
            ("samples", clips * evaluations, "evaluation"),
            ("generated features", clips, "clip"),
            ("reference features", clips, "clip"),
        ):
            each, ratio = cost.seconds[stage] / steps, first.seconds[stage] / cost.seconds[stage]
            print(f"  {stage:<20}{each:8.3f} s a{'n' if what[0] == 'e' else ''} {what}, {ratio:.2f} x")
        print(f"  {'scores':<20}{cost.seconds['scores']:8.2f} s in all")
    print(f"samples {first.sample_bytes / clips:,.0f} bytes a clip, features {first.feature_bytes / clips:,.0f}")


def measure(folder: Path, processes: int, evaluations: int) -> Cost:
    """Run with so many processes."""
    out = folder / f"run{processes}"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "vdm_bench", "run", str(folder / "scale.toml"), "--out", str(out), "--workers", "1"]
    command += ["--sampler", "reference", "--option", f"checkpoint={folder / 'model.safetensors'}"]
    command += ["--option", f"steps={evaluations}", "--weights", f"i3d-k400={folder / 'i3d.safetensors'}"]
    settings = {"VDM_BENCH_CACHE": str(folder / f"cache{processes}"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env={**os.environ, **settings}, check=True, stdout=subprocess.DEVNULL)
    record = json.loads((out / "run.json").read_bytes())
    return Cost(
        record["timing_seconds"],
        size_of(out / "samples"),
        size_of(out / "features"),
        [score["value"] for score in record["scores"]],
    )


def size_of(folder: Path) -> int:
    """Count the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
