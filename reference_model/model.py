"""A network ready to be sampled."""

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
from vdm_bench.reference_model.config import ModelConfig, SamplingConfig, check_setting, get_preset
from vdm_bench.reference_model.embeddings import UNCONDITIONAL, Condition
from vdm_bench.reference_model.guidance import classifier_free_batched
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import Denoise, Prediction, from_uint8, to_uint8
from vdm_bench.reference_model.rollout import extend, schedule_windows, window_sampler
from vdm_bench.reference_model.samplers import evaluations
from vdm_bench.reference_model.settings import from_table
from vdm_bench.reference_model.unet import VideoUNet, check_size
from vdm_bench.runtime.bfloat16 import warn_if_slow

_LABEL_STREAM = 0x6C6162  # keeps the draw of a label apart from other uses of a seed


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
    """

    def __init__(
        self, network: VideoUNet, config: ModelConfig, sampling: SamplingConfig, name: str = "reference"
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config, self.sampling, self.name = config, sampling, name

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    def denoiser(
        self, condition: Condition | None = None, *, guidance_weight: float = 0.0, precision: str | None = None
    ) -> Denoise:
        """Return what samplers and guidance see of the model.

        Args:
            condition: what each example is conditioned on; None for nothing.
            guidance_weight: w of classifier-free guidance, `eps~ = (1 + w) eps(z, c) - w eps(z)`; both go through
                the network as one batch of 2 B, which counts as one evaluation. 0 is unguided; so is any weight
                without a condition.
            precision: `fp32` or `bf16`; that of the model's `sampling` by default.

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
        """Make clips, all in one batch.

        Args:
            seeds: one a clip, in [0, 2**63). Clip i depends on seed i alone, up to rounding.
            condition: what each clip is conditioned on.
            context: uint8 [N, K, H, W, 3], frames that the clips begin with.
            length: T of the clips; more than the model's are made block by block.
            sampling: how to sample; the model's own way by default.
            on_evaluation: is called after each evaluation of the network.

        Returns:
            uint8 [N, T, H, W, 3], RGB.

        Raises:
            InputError: the settings, the condition or the context do not go with the model or with the seeds.
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
            denoise = _watched(denoise, on_evaluation)
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
            labels: one a clip.
            lowest: the least that is allowed; -1 where clips may be unconditional.

        Raises:
            InputError: the model has no classes, or not this one.
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
        for name, given in (("labels", condition.labels), ("text", condition.text)):
            if given is not None and len(given) != len(seeds):
                raise InputError(
                    f"the condition has {name} for {len(given)} clips, and there are {len(seeds)} seeds"
                )
        if context is not None and (not isinstance(context, Tensor) or context.dtype != torch.uint8):
            kind = getattr(context, "dtype", "no dtype")
            raise InputError(
                f"the context is {type(context).__name__} of {kind}; give a torch tensor, uint8 [N, K, H, W, 3]"
            )

    def evaluations(self, sampling: SamplingConfig, *, length: int, context_frames: int = 0) -> int:
        """Return how often `sample` evaluates the network; with guidance each time for a batch of twice the size.

        Args:
            sampling: how clips are sampled.
            length: T of the clips.
            context_frames: frames that they begin with.
        """
        windows = schedule_windows(self.config.frames, self.overlap(sampling), length, known=context_frames)
        return len(list(windows)) * evaluations(sampling)

    def overlap(self, sampling: SamplingConfig) -> int:
        """Return how many frames a block has in common with the one before; half of a window by default.

        Raises:
            InputError: they are all that a window has.
        """
        frames = self.config.frames
        overlap = sampling.overlap or max(1, frames // 2)
        if overlap >= frames:
            raise InputError(
                f"the overlap {overlap} leaves nothing to make of a window of {frames} frames; "
                f"give 1 to {frames - 1}"
            )
        return overlap

    def side(self, sampling: SamplingConfig) -> int:
        """Return the height and width of the clips.

        Raises:
            InputError: the network cannot halve it often enough.
        """
        side = sampling.resolution or self.config.resolution
        check_size(self.config, side, side)
        return side

    def draw_labels(self, seeds: Sequence[int]) -> Tensor:
        """Draw a class for each clip with the clip's seed, all equally likely: int64 [N].

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
        """Add labels to a condition without, where the sampling draws them; return it on the model's device."""
        if sampling.labels == "random" and (condition is None or condition.labels is None):
            condition = dataclasses.replace(condition or Condition(), labels=self.draw_labels(seeds))
        return None if condition is None else condition.to(self.device)


def _watched(denoise: Denoise, on_evaluation: Callable[[], None]) -> Denoise:
    def watched(z: Tensor, log_snr: Tensor) -> Prediction:
        prediction = denoise(z, log_snr)
        on_evaluation()
        return prediction

    return watched


def load_reference_model(
    source: str | Path,
    *,
    preset: str | None = None,
    device: str | torch.device = "cpu",
    precision: str | None = None,
) -> ReferenceModel:
    """Load a trained reference model, ready to sample.

    Args:
        source: the name of a model that comes with the package, such as `shapes`, or the path of a checkpoint.
        preset: refuse models of another architecture than this preset's.
        device: where it computes.
        precision: of its arithmetic: `fp32`, or `bf16` for autocast; as the checkpoint says by default.

    Raises:
        InputError: the file is not there, or not sound (see `load_model`); no such precision.
    """
    if precision is not None:
        check_setting("precision", precision)
    network, info = load_model(checkpoint_path(source), preset=preset, device=device)
    sampling = info.sampling if precision is None else info.sampling.override({"precision": precision})
    return ReferenceModel(network, info.model, sampling, info.name)


def packaged_models() -> list[str]:
    """Return the names of the trained models that come with the package."""
    folder = _packaged_folder()
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}"))


def checkpoint_path(source: str | Path) -> Path:
    """Return the path of a checkpoint, for a path, the folder of a training run, or the name of a packaged model.

    Raises:
        InputError: a bare name of which there is no model.
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
    """Name a checkpoint by its file and 12 digits over the content: runs with other weights are other runs."""
    with checkpoint.open("rb") as file:
        return f"{checkpoint.name}@{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def _packaged_folder() -> Path:
    return Path(str(resources.files("vdm_bench.reference_model").joinpath("checkpoints")))
