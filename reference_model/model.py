"""The reference model: a network, ready to sample clips."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.checkpoint import HOW_TO_TRAIN, SUFFIX, load_model
from vdm_bench.reference_model.conditional import window_sampler
from vdm_bench.reference_model.config import ModelConfig, SamplingConfig, check_setting, get_preset
from vdm_bench.reference_model.embeddings import UNCONDITIONAL, Condition
from vdm_bench.reference_model.guidance import classifier_free_batched
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import Denoise, Prediction, from_uint8, to_uint8
from vdm_bench.reference_model.rollout import extend, schedule_windows
from vdm_bench.reference_model.samplers import evaluations
from vdm_bench.reference_model.settings import from_table
from vdm_bench.reference_model.unet import VideoUNet, check_size
from vdm_bench.runtime.bfloat16 import warn_if_slow

_LABEL_STREAM = 0x6C6162  # separates the draw of a label from other uses of a seed


def build_model(preset: str | ModelConfig, **overrides: object) -> VideoUNet:
    """Make an untrained network.

    Args:
        preset: name of a preset, or the architecture itself.
        overrides: fields of `ModelConfig` to change, such as `base_channels=32`.

    Raises:
        InputError: there is no such preset or field, or a value is out of range.
    """
    config = get_preset(preset).model if isinstance(preset, str) else preset
    changed = {**dataclasses.asdict(config), **overrides}
    return VideoUNet(from_table(ModelConfig, changed, "the model"))


class ReferenceModel:
    """A network, the clips it makes, and its default sampling settings.

    Args:
        network: trained, or not.
        config: its architecture and clips.
        sampling: default sampling settings.
        name: of the model.
    """

    def __init__(
        self, network: VideoUNet, config: ModelConfig, sampling: SamplingConfig, name: str = "reference"
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config, self.sampling, self.name = config, sampling, name

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def denoiser(
        self, condition: Condition | None = None, *, guidance_weight: float = 0.0, precision: str | None = None
    ) -> Denoise:
        """Return the model as a denoiser, for samplers and guidance.

        Args:
            condition: what each example is conditioned on; None for nothing.
            guidance_weight: w of classifier-free guidance, `eps~ = (1 + w) eps(z, c) - w eps(z)`; the network
                evaluates both as one batch of 2 B, which counts as one evaluation. 0 is unguided; without a
                condition the weight has no effect.
            precision: `fp32` or `bf16`; by default that of the model's `sampling`.

        Raises:
            InputError: the weight is below -1, or there is no such precision.

        Warns:
            SlowWarning: bf16 is far slower than fp32 on this CPU.
        """
        precision = precision or self.sampling.precision
        check_setting("precision", precision)
        bfloat16 = precision == "bf16"
        if bfloat16:
            warn_if_slow(self.device)

        def predict(z: Tensor, log_snr: Tensor, condition: Condition | None) -> Prediction:
            with torch.autocast(z.device.type, torch.bfloat16, enabled=bfloat16):
                output = self.network(z, log_snr, condition)
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
        sampling: SamplingConfig | None = None,
        on_evaluation: Callable[[], None] | None = None,
    ) -> Tensor:
        """Sample clips, all in one batch.

        Args:
            seeds: one per clip, in [0, 2**63). Clip i depends on seed i alone, up to rounding.
            condition: what each clip is conditioned on.
            context: uint8 [N, K, H, W, 3], frames that the clips begin with.
            length: T of the clips; clips longer than the model's are made block by block.
            sampling: sampling settings; the model's own by default.
            on_evaluation: is called after each evaluation of the network.

        Returns:
            uint8 [N, T, H, W, 3], RGB.

        Raises:
            InputError: the settings, the condition or the context do not fit the model or the number of seeds.
        """
        sampling = sampling or self.sampling
        self._check_inputs(seeds, condition or Condition(), context)
        side = self.side(sampling)
        denoise = self.denoiser(
            self._labelled(condition, seeds, sampling),
            guidance_weight=sampling.guidance_weight,
            precision=sampling.precision,
        )
        if on_evaluation is not None:
            denoise = _with_callback(denoise, on_evaluation)
        clips = extend(
            window_sampler(denoise, sampling),
            NoiseStream(seeds, (self.config.channels, self.config.frames, side, side), self.device),
            length=length or self.config.frames,
            overlap=self.overlap(sampling),
            context=None if context is None else from_uint8(context.to(self.device)),
        )
        return to_uint8(clips)

    def check_labels(self, labels: Iterable[int], *, lowest: int = 0) -> None:
        """Refuse labels that are not classes of the model.

        Args:
            labels: one per clip.
            lowest: the lowest label allowed; -1 where clips may be unconditional.

        Raises:
            InputError: the model has no classes, or a label is out of range.
        """
        if not self.config.classes:
            raise InputError("labels are given, but the model was trained without classes; leave them out")
        outside = [int(label) for label in labels if not lowest <= label < self.config.classes]
        if outside:
            highest = self.config.classes - 1
            raise InputError(f"label {outside[0]} is not in {lowest} to {highest}, the model's classes")

    def _check_inputs(self, seeds: Sequence[int], condition: Condition, context: Tensor | None) -> None:
        if not len(seeds):
            raise InputError("there are no seeds; give one for each clip")
        if condition.labels is not None:
            self.check_labels(condition.labels.tolist(), lowest=UNCONDITIONAL)
        for name, values in (("labels", condition.labels), ("text", condition.text)):
            if values is not None and len(values) != len(seeds):
                raise InputError(
                    f"the condition has {name} for {len(values)} clips, and there are {len(seeds)} seeds"
                )
        if context is not None and (not isinstance(context, Tensor) or context.dtype != torch.uint8):
            kind = getattr(context, "dtype", "no dtype")
            raise InputError(
                f"the context is {type(context).__name__} of {kind}; give a torch tensor, uint8 [N, K, H, W, 3]"
            )

    def evaluations(self, sampling: SamplingConfig, *, length: int, context_frames: int = 0) -> int:
        """Return the number of function evaluations (NFE) of `sample`; guidance only doubles their batch.

        Args:
            sampling: sampling settings.
            length: T of the clips.
            context_frames: number of frames that the clips begin with.
        """
        windows = schedule_windows(self.config.frames, self.overlap(sampling), length, known=context_frames)
        return len(list(windows)) * evaluations(sampling)

    def overlap(self, sampling: SamplingConfig) -> int:
        """Return how many frames consecutive blocks share; half of a window by default.

        Raises:
            InputError: the overlap is as long as a window.
        """
        frames = self.config.frames
        overlap = sampling.overlap or max(1, frames // 2)
        if overlap >= frames:
            raise InputError(
                f"the overlap {overlap} leaves nothing to generate in a window of {frames} frames; "
                f"give 1 to {frames - 1}"
            )
        return overlap

    def side(self, sampling: SamplingConfig) -> int:
        """Return the height and width of the clips.

        Raises:
            InputError: it is not divisible by the network's stride.
        """
        side = sampling.resolution or self.config.resolution
        check_size(self.config, side, side)
        return side

    def draw_labels(self, seeds: Sequence[int]) -> Tensor:
        """Draw a uniformly random class for each clip from the clip's seed: int64 [N].

        Raises:
            InputError: the model has no classes.
        """
        if not self.config.classes:
            raise InputError("random labels need a model with classes, and this one has none; leave them out")
        streams = (np.random.default_rng([seed, _LABEL_STREAM]) for seed in seeds)
        return torch.tensor([stream.integers(self.config.classes) for stream in streams], dtype=torch.int64)

    def _labelled(
        self, condition: Condition | None, seeds: Sequence[int], sampling: SamplingConfig
    ) -> Condition | None:
        """Return the condition on the model's device, with random labels if the settings ask for them."""
        if sampling.labels == "random" and (condition is None or condition.labels is None):
            condition = dataclasses.replace(condition or Condition(), labels=self.draw_labels(seeds))
        return None if condition is None else condition.to(self.device)


def _with_callback(denoise: Denoise, on_evaluation: Callable[[], None]) -> Denoise:
    def denoise_and_call(z: Tensor, log_snr: Tensor) -> Prediction:
        prediction = denoise(z, log_snr)
        on_evaluation()
        return prediction

    return denoise_and_call


def load_reference_model(
    source: str | Path,
    *,
    preset: str | None = None,
    device: str | torch.device = "cpu",
    precision: str | None = None,
) -> ReferenceModel:
    """Load a trained reference model, ready to sample.

    Args:
        source: the name of a model in the package, such as `shapes`, or the path of a checkpoint.
        preset: refuse models with another architecture than this preset's.
        device: of the network.
        precision: `fp32`, or `bf16` for autocast; by default that of the checkpoint.

    Raises:
        InputError: the file does not exist or is not valid (see `load_model`), or there is no such precision.
    """
    if precision is not None:
        check_setting("precision", precision)
    network, info = load_model(checkpoint_path(source), preset=preset, device=device)
    sampling = info.sampling if precision is None else info.sampling.override({"precision": precision})
    return ReferenceModel(network, info.model, sampling, info.name)


def packaged_models() -> list[str]:
    """Return the names of the trained models in the package."""
    folder = _packaged_folder()
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}"))


def checkpoint_path(source: str | Path) -> Path:
    """Return the path of a checkpoint, for a path, the folder of a training run, or the name of a packaged model.

    Raises:
        InputError: the package has no model of this name.
    """
    path = Path(source)
    trained = path / f"model{SUFFIX}"  # of a training run
    if trained.is_file():
        return trained
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
    """Return a checkpoint's file name with 12 digits of its SHA-256, which tell runs with other weights apart."""
    with checkpoint.open("rb") as file:
        return f"{checkpoint.name}@{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def _packaged_folder() -> Path:
    return Path(str(resources.files("vdm_bench.reference_model").joinpath("checkpoints")))
