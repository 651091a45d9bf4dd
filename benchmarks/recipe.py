"""How far recipes of training get in equal time: the error of v on clips of the test split, by log-SNR.

    taskset -c 0 python benchmarks/recipe.py --minutes 4 \\
        --recipe "training.optimiser=adam" --recipe "model.attention_resolutions=[8]"

The preset `shapes` as it is comes first, then each recipe: changes of it as `vdm-bench train --set` takes them,
apart by spaces. Twenty steps tell how many fit into the time; the schedule of the learning rate ends with them.
The averaged weights are measured, with the clips' labels and the same noise for all.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vdm_bench.cli.train import changed
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.reference_model.checkpoint import load_model
from vdm_bench.reference_model.config import Preset
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.process import Prediction, diffuse, example_losses, from_uint8
from vdm_bench.reference_model.training.loop import MODEL, TrainingOptions, train
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runtime.bfloat16 import cpu_computes_bfloat16
from vdm_bench.training.data import open_batches

PROBE = 20  # steps
LEVELS = (-6.0, -3.0, -1.0, 1.0, 3.0, 5.0, 7.0)
CLIPS, AT_ONCE = 48, 4
OPTIONS = TrainingOptions(
    precision="bf16" if cpu_computes_bfloat16() else "fp32",
    device="cpu",
    log_every=10**6,
    checkpoint_every=10**6,
)


def trained(preset: Preset, minutes: float) -> tuple[VideoUNet, int]:
    """Train a preset for a time; give the network with averaged weights, and its steps."""

    def run(steps: int, out: Path) -> float:
        chosen = preset.override("training", steps=steps)
        begin = time.monotonic()
        train(chosen, open_batches(chosen, workers=1), out, OPTIONS)
        return time.monotonic() - begin

    with tempfile.TemporaryDirectory() as folder:
        steps = max(1, round(minutes * 60 * PROBE / run(PROBE, Path(folder, "probe"))))
        run(steps, Path(folder, "run"))
        return load_model(Path(folder, "run", MODEL))[0], steps


@torch.no_grad()
def errors(network: VideoUNet) -> list[float]:
    """Return the mean square error of v on test clips at each level."""
    clips = [Shapes("test", seed=77)[index] for index in range(CLIPS)]
    x = from_uint8(torch.from_numpy(np.stack([clip.frames for clip in clips])))
    labels = Condition(torch.tensor([clip.label for clip in clips]))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    means = []
    for level in LEVELS:
        log_snr = torch.full((CLIPS,), level, dtype=torch.float64)
        z = diffuse(x, log_snr, noise)
        truth = Prediction.truth(x, noise, log_snr)
        value = torch.cat(
            [
                network(z[part], log_snr[part], labels.rows(part))
                for part in (slice(start, start + AT_ONCE) for start in range(0, CLIPS, AT_ONCE))
            ]
        )
        predicted = Prediction.of(network.config.prediction, value, z, log_snr)
        means.append(float(example_losses(predicted, truth, "v").mean()))
    return means


def main() -> None:
    """Train each recipe and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", default=[], help="changes of the preset, apart by spaces")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, for each recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print("| recipe | parameters | steps |" + "".join(f" {level:+.0f} |" for level in LEVELS))
    print("|---|---|---|" + "---|" * len(LEVELS))
    for recipe in ["", *arguments.recipe]:
        network, steps = trained(changed("shapes", recipe.split()), arguments.minutes)
        count = sum(weight.numel() for weight in network.parameters()) / 1e6
        figures = "".join(f" {error:.4f} |" for error in errors(network))
        print(f"| {recipe or 'as it is'} | {count:.2f} M | {steps} |{figures}", flush=True)


if __name__ == "__main__":
    main()
