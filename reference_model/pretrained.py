"""Trained models, ready to sample: those that come with the package, by name, and checkpoints, by path."""

import hashlib
from importlib import resources
from pathlib import Path

import torch

from vdm_bench.errors import InputError
from vdm_bench.reference_model.checkpoint import HOW_TO_TRAIN, SUFFIX, load_model
from vdm_bench.reference_model.model import ReferenceModel

PRECISIONS = ("fp32", "bf16")


def load_reference_model(
    source: str | Path,
    *,
    preset: str | None = None,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
) -> ReferenceModel:
    """Load a trained reference model, ready to sample.

    Args:
        source: the name of a model that comes with the package, such as `shapes`, or the path of a checkpoint.
        preset: refuse models of another architecture than this preset's.
        device: where it computes.
        precision: of its arithmetic: `fp32`, or `bf16` for autocast.

    Raises:
        InputError: the file is not there, or not sound (see `load_model`); no such precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    network, info = load_model(checkpoint_path(source), preset=preset, device=device)
    return ReferenceModel(network, info.model, info.sampling, info.name, precision)


def packaged_models() -> list[str]:
    """Give the names of the trained models that come with the package."""
    folder = _packaged_folder()
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}"))


def checkpoint_path(source: str | Path) -> Path:
    """Give the path of a checkpoint: of one that comes with the package if `source` is a bare name.

    Raises:
        InputError: a bare name of which there is no model.
    """
    path = Path(source)
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    names = packaged_models()
    if path.name in names:
        return _packaged_folder() / f"{path.name}{SUFFIX}"
    here = f"with the package come {', '.join(names)}" if names else "none comes with the package"
    raise InputError(
        f"there is no trained model {path.name!r} ({here}); give the path of a checkpoint ({HOW_TO_TRAIN})"
    )


def source_of(checkpoint: Path) -> str:
    """Name a checkpoint by its file and 12 digits over the content: runs with other weights are other runs."""
    with checkpoint.open("rb") as file:
        return f"{checkpoint.name}@{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def _packaged_folder() -> Path:
    return Path(str(resources.files("vdm_bench.reference_model").joinpath("checkpoints")))
