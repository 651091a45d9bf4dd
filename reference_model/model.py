"""A network ready to be sampled."""

import dataclasses
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.checkpoint import HOW_TO_TRAIN, SUFFIX, load_model
from vdm_bench.reference_model.config import ModelConfig, SamplingConfig, from_table, get_preset
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.guidance import classifier_free_batched
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import Denoise, Prediction, from_uint8, to_uint8
from vdm_bench.reference_model.rollout import extend, window_sampler
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runtime.bfloat16 import warn_if_slow

PRECISIONS = ("fp32", "bf16")


def build_model(preset: str | ModelConfig, **overrides: object) -> VideoUNet:
    """Make an untrained network.

    Args:
        preset: name of a preset, or the architecture itself.
        overrides: fields of `ModelConfig` to change, such as `base_channels=32`.

    Raises:
        InputError: no such preset or field, or a value that does not fit.
    """
    config = get_preset(preset).model if isinstance(preset, str) else preset
    changed = {**dataclasses.asdict(config), **overrides}
    return VideoUNet(from_table(ModelConfig, changed, "the model"))


class ReferenceModel:
    """A network with what it makes and how it is sampled by default.

    Args:
        network: trained, or not.
        config: its architecture and clips.
        sampling: how it is sampled where nothing else is asked for.
        name: how it is called.
        precision: of its arithmetic where nothing else is asked for: `fp32`, or `bf16` for autocast.
    """

    def __init__(
        self,
        network: VideoUNet,
        config: ModelConfig,
        sampling: SamplingConfig,
        name: str = "reference",
        precision: str = "fp32",
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config, self.sampling, self.name, self.precision = config, sampling, name, precision

    def denoiser(
        self, condition: Condition | None = None, *, guidance_weight: float = 0.0, precision: str | None = None
    ) -> Denoise:
        """Return what samplers and guidance see of the model.

        Args:
            condition: what each example is conditioned on; None for nothing.
            guidance_weight: w of classifier-free guidance, `eps~ = (1 + w) eps(z, c) - w eps(z)`; both go through
                the network as one batch of 2 B, which counts as one evaluation. 0 is unguided.
            precision: `fp32` or `bf16`; the model's own by default.

        Raises:
            InputError: the weight is below -1.

        Warns:
            SlowWarning: bf16 is far slower than fp32 on this CPU.
        """
        bfloat16 = (precision or self.precision) == "bf16"
        if bfloat16:
            warn_if_slow(next(self.network.parameters()).device)

        def predict(z: Tensor, log_snr: Tensor, told: Condition | None) -> Prediction:
            with torch.autocast(z.device.type, torch.bfloat16, enabled=bfloat16):
                output = self.network(z, log_snr, told)
            return Prediction.of(self.config.prediction, output, z, log_snr)

        if condition is None or guidance_weight == 0.0:
            return lambda z, log_snr: predict(z, log_snr, condition)
        both = Condition.join(condition, condition.unconditional())
        return classifier_free_batched(lambda z, log_snr: predict(z, log_snr, both), guidance_weight)

    def sample(
        self,
        seeds: Sequence[int],
        *,
        condition: Condition | None = None,
        context: Tensor | None = None,
        length: int | None = None,
        overlap: int | None = None,
        sampling: SamplingConfig | None = None,
    ) -> Tensor:
        """Make clips, all in one batch.

        Args:
            seeds: one a clip, in [0, 2**63). Clip i depends on seed i alone, up to rounding.
            condition: what each clip is conditioned on.
            context: uint8 [N, K, H, W, 3], frames that the clips begin with.
            length: T of the clips; more than the model's are made block by block.
            overlap: frames that a block is given of the one before; half of the model's by default.
            sampling: how to sample; the model's own way by default.

        Returns:
            uint8 [N, T, H, W, 3], RGB.

        Raises:
            InputError: a setting out of range, or a context that does not fit.
        """
        sampling, frames = sampling or self.sampling, self.config.frames
        device = next(self.network.parameters()).device
        denoise = self.denoiser(condition, guidance_weight=sampling.guidance_weight)
        clips = extend(
            window_sampler(denoise, sampling),
            NoiseStream(seeds, self.config.clip_shape, device),
            length=length or frames,
            overlap=overlap or max(1, frames // 2),
            context=None if context is None else from_uint8(context.to(device)),
        )
        return to_uint8(clips)


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
    """Return the names of the trained models that come with the package."""
    folder = _packaged_folder()
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}"))


def checkpoint_path(source: str | Path) -> Path:
    """Return the path of a checkpoint: of one that comes with the package if `source` is a bare name.

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
