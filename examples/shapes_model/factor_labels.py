"""Convert a model of `shapes` with 240 class embeddings to one embedding per shape, colour and motion.

    python examples/shapes_model/factor_labels.py model.safetensors factored.safetensors

Each new vector is the mean of the vectors of its classes (a main effect) minus two thirds of the overall mean, so
that the sum of three contains the overall mean once. Continue training with `vdm-bench train shapes --init`.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vdm_bench.reference_model.config import get_preset

TABLE = "embedding.classes.weight"


def main_effects(table: torch.Tensor, factors: tuple[int, ...]) -> torch.Tensor:
    """Convert a table [classes, d] to [sum(factors), d], one attribute after the other."""
    grid = table.view(*factors, table.shape[-1])
    mean = table.mean(0)
    axes = range(len(factors))
    effects = [grid.mean([other for other in axes if other != axis]) - mean for axis in axes]
    return torch.cat([effect + mean / len(factors) for effect in effects])


def main() -> None:
    """Convert a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    factors = get_preset("shapes").model.class_factors
    with safe_open(arguments.checkpoint, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        header = dict(file.metadata())
    info = json.loads(header["vdm_bench"])
    info["model"]["class_factors"] = list(factors)
    tensors[TABLE] = main_effects(tensors[TABLE], factors).contiguous()
    save_file(tensors, arguments.out, {**header, "vdm_bench": json.dumps(info)})


if __name__ == "__main__":
    main()
