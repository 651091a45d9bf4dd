"""Architecture, training and sampling of a reference model: the three sections of a preset's TOML file.

The presets in `presets/` use the settings of the paper's appendix A.
"""

import dataclasses
import math
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, TypeAlias

from vdm_bench.errors import InputError
from vdm_bench.reference_model.process import SPACES, Space
from vdm_bench.reference_model.settings import from_table, from_texts, number
from vdm_bench.runtime.choose import check_known

__all__ = ["ModelConfig", "Preset", "SamplingConfig", "TrainingConfig", "get_preset"]

Clipping: TypeAlias = Literal["none", "static", "dynamic"]
CLIPPINGS: tuple[Clipping, ...] = ("none", "static", "dynamic")
SAMPLER_NAMES = ("ancestral", "predictor-corrector", "ddim", "dpm-solver")
Variant: TypeAlias = Literal["marginal", "conditional"]
VARIANTS: tuple[Variant, ...] = ("marginal", "conditional")
Method: TypeAlias = Literal[
    "reconstruction", "reconstruction-conditional", "replacement", "replacement-conditional"
]
# How context frames are used: (with reconstruction guidance, variant of the replacement).
METHODS: dict[Method, tuple[bool, Variant]] = {
    "reconstruction": (True, "marginal"),
    "reconstruction-conditional": (True, "conditional"),
    "replacement": (False, "marginal"),
    "replacement-conditional": (False, "conditional"),
}
PRECISIONS = ("fp32", "bf16")
Optimiser: TypeAlias = Literal["adam", "adamw", "muon"]
OPTIMISERS: tuple[Optimiser, ...] = ("adam", "adamw", "muon")
LearningRate: TypeAlias = Literal["constant", "cosine"]
SCHEDULES: tuple[LearningRate, ...] = ("constant", "cosine")

_CHOICES: dict[str, Collection[str]] = {
    "sampler": SAMPLER_NAMES,
    "clip": CLIPPINGS,
    "method": METHODS,
    "precision": PRECISIONS,
    "labels": ("none", "random"),
}
# The range of each number of `SamplingConfig`, and what to choose instead of a value outside; NaN is always
# outside. Nothing larger than the highest steps, overlap, batch and resolution fits in memory.
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "steps": (lambda count: 1 <= count <= 10**6, "1 to 1,000,000"),
    "log_snr_shift": (lambda shift: -10.0 <= shift <= 10.0, "-10 to 10"),
    "gamma": (lambda gamma: 0.0 <= gamma <= 1.0, "0 to 1"),
    "delta": (lambda delta: 0.0 < delta < math.inf, "a positive number"),
    "clip_percentile": (lambda share: 0.0 < share <= 1.0, "a share in (0, 1]: 0.995 is 99.5 %"),
    "guidance_weight": (
        lambda w: -1.0 <= w < math.inf,
        "w of -1 (unconditional) or more, or a guidance_scale (1 + w) of 0 or more",
    ),
    "reconstruction_weight": (lambda w_r: 0.0 <= w_r < math.inf, "w_r of 0 (replacement alone) or more"),
    "overlap": (lambda frames: 1 <= frames <= 2**16, "1 to 65,536"),
    "batch": (lambda clips: 1 <= clips <= 2**16, "1 to 65,536"),
    "resolution": (lambda side: 1 <= side <= 2**13, "1 to 8,192"),
}


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of the Video U-Net, and the clips it is made for.

    Attributes:
        frames: T of the training clips.
        resolution: height and width of the clips.
        channels: per pixel.
        patch: patch size: the network treats squares of this side, in pixels, as one position; 1 in the paper.
        base_channels: channels at full resolution.
        multipliers: channels at each resolution as multiples of `base_channels`; each resolution is half of the
            one before.
        blocks: residual blocks per resolution in the encoder (one more in the decoder).
        attention_resolutions: sides, in positions, at which spatial and temporal attention follow each block.
        head_dim: width of an attention head.
        embedding_dim: width of the embedding of log-SNR and condition.
        embedding_layers: layers of each of the two MLPs, of the log-SNR and of the condition.
        relative_distance: largest distance between frames with an embedding of its own; longer distances share
            it (k in Shaw et al. 2018; the paper does not state it).
        dropout: in residual blocks.
        scale_and_shift: embeddings scale and shift the second norm of a block instead of being added before it.
        classes: number of class labels; 0 for a model without classes.
        class_factors: for labels that combine several attributes, the number of values of each, the last one
            changing fastest; a label is then embedded as the sum of one vector per attribute. Empty: one vector
            per class. Ignored without classes.
        text_dim: width of the text embeddings; 0 for a model without text.
        prediction: what the network predicts: `x`, `eps` or `v`.
    """

    frames: int = 16
    resolution: int = 64
    channels: int = 3
    patch: int = 1
    base_channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks: int = 2
    attention_resolutions: tuple[int, ...] = (8, 16, 32)
    head_dim: int = 64
    embedding_dim: int = 1024
    embedding_layers: int = 2
    relative_distance: int = 16
    dropout: float = 0.0
    scale_and_shift: bool = False
    classes: int = 0
    class_factors: tuple[int, ...] = ()
    text_dim: int = 0
    prediction: Space = "v"

    def __post_init__(self) -> None:
        whole = ("frames", "resolution", "channels", "patch", "base_channels", "blocks", "head_dim")
        for name in (*whole, "embedding_layers", "embedding_dim", "relative_distance"):
            _require(getattr(self, name) >= 1, f"{name} {getattr(self, name)} is not positive")
        _require(bool(self.multipliers) and min(self.multipliers) >= 1, "multipliers must be positive")
        _require(0.0 <= self.dropout < 1.0, f"dropout {self.dropout} is not in [0, 1)")
        _require(self.classes >= 0 and self.text_dim >= 0, "classes and text_dim must not be negative")
        _require(
            not (self.classes and self.class_factors) or math.prod(self.class_factors) == self.classes,
            f"class_factors {list(self.class_factors)} do not multiply to classes {self.classes}",
        )
        _require(self.prediction in SPACES, f"prediction {self.prediction!r} is none of {', '.join(SPACES)}")
        _require(
            self.resolution % self.stride == 0,
            f"resolution {self.resolution} is not divisible by the network's stride {self.stride} "
            f"({len(self.multipliers)} multipliers, patches of {self.patch})",
        )

    @property
    def stride(self) -> int:
        """What height and width of clips must be divisible by."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(C, T, H, W)."""
        return self.channels, self.frames, self.resolution, self.resolution


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        dataset: `shapes`, or the name of another dataset.
        steps: optimiser steps.
        batch: examples per step, over all processes.
        accumulation: micro-batches per process and step (gradient accumulation), to save memory.
        learning_rate: peak value.
        warmup_steps: steps over which the learning rate rises linearly.
        schedule: `constant`, or `cosine` down to zero at the last step.
        optimiser: `adam`; `adamw` decouples the weight decay; `muon` for the matrices inside the network (see
            `training/optimisers.py`), with Adam for the rest.
        betas: of Adam.
        weight_decay: see `optimiser`.
        clip_norm: largest norm of the gradient; 0 for no gradient clipping.
        ema: decay of the moving average of the weights, reached after a warm-up.
        joint_images: independent images appended to each example.
        drop_condition: share of examples trained without their condition.
        loss: whether the error of `x`, `eps` or `v` is squared.
        log_snr_shift: of the schedule from which noise levels are drawn, 0 in the paper; see
            `process.CosineSchedule`.
        frame_stride: take every n-th frame of a video (the paper's frameskip).
        flip: mirror half of the clips.
    """

    dataset: str = "shapes"
    steps: int = 1000
    batch: int = 32
    accumulation: int = 1
    learning_rate: float = 2e-4
    warmup_steps: int = 0
    schedule: LearningRate = "constant"
    optimiser: Optimiser = "adam"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema: float = 0.9999
    joint_images: int = 0
    drop_condition: float = 0.1
    loss: Space = "v"
    log_snr_shift: float = 0.0
    frame_stride: int = 1
    flip: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulation", "learning_rate", "frame_stride"):
            _require(getattr(self, name) > 0, f"{name} {getattr(self, name)} is not positive")
        for name in ("ema", "drop_condition"):
            _require(0.0 <= getattr(self, name) < 1.0, f"{name} {getattr(self, name)} is not in [0, 1)")
        _require(self.joint_images >= 0, f"joint_images {self.joint_images} is negative")
        known = ", ".join(OPTIMISERS)
        _require(self.optimiser in OPTIMISERS, f"optimiser {self.optimiser!r} is none of {known}")
        _require(len(self.betas) == 2 and all(0.0 <= b < 1.0 for b in self.betas), "betas are not two in [0, 1)")
        for name in ("warmup_steps", "weight_decay", "clip_norm"):
            _require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")
        known_schedules = ", ".join(SCHEDULES)
        _require(self.schedule in SCHEDULES, f"schedule {self.schedule!r} is none of {known_schedules}")
        muon_decays = self.optimiser == "muon" and self.weight_decay > 0.0
        _require(not muon_decays, "weight_decay goes with adam and adamw; set it to 0, or take one of them")
        check_setting("log_snr_shift", self.log_snr_shift)
        _require(self.loss in SPACES, f"loss {self.loss!r} is none of {', '.join(SPACES)}")


def check_setting(name: str, value: Any) -> None:
    """Refuse a value that a setting of `SamplingConfig` cannot have.

    Raises:
        InputError: it is not among the setting's choices, or out of its range.
    """
    if name in _CHOICES:
        check_known(value, _CHOICES[name], name)
    elif name in _RANGES and not _RANGES[name][0](value):
        raise InputError(f"{name} {value} is out of range; give {_RANGES[name][1]}")


@dataclass(frozen=True)
class SamplingConfig:
    """How clips are sampled from a model.

    A checkpoint stores its defaults; options of the command line, `--option key=value` and the experiments of a
    reproduction change them (`override`). Settings are validated here, and nowhere after.

    Attributes:
        sampler: name in `samplers.SAMPLERS`.
        steps: predictor steps.
        log_snr_shift: of the schedule of the steps, 0 in the paper; see `process.CosineSchedule`.
        gamma: variance of the ancestral sampler, from 0 (lower bound) to 1 (upper bound).
        delta: step size of the Langevin corrector.
        last_step_noise: add noise at the last step, too (ancestral and predictor-corrector).
        correct_last: correct after the last step, too.
        corrector_guidance: use guidance in the corrector, too.
        clip: thresholding of predictions of x; see `samplers.clipped`.
        clip_percentile: of dynamic thresholding, a share in (0, 1].
        guidance_weight: w of classifier-free guidance, 0 for none.
        reconstruction_weight: w_r of reconstruction guidance.
        method: how context frames are used. `replacement`: they replace the model's own frames, with noise drawn
            again from q(z | x) at each evaluation. `reconstruction`: reconstruction guidance in addition. With
            `-conditional`, the noisy frames are drawn by the sampler's own steps around the context frames (see
            `guidance.replacement`).
        overlap: frames shared by consecutive blocks of a longer clip; None for half of the model's window.
        batch: clips per forward pass of the sampler `reference`; None for 1 on a CPU and 16 elsewhere.
        precision: of the network: `fp32`, or `bf16` by autocast.
        resolution: height and width of the clips; None for the model's own.
        labels: of clips requested without a label: `none`, or drawn with the clip's seed (`random`).

    Raises:
        InputError: a setting is out of range, or two contradict each other.
    """

    sampler: str = "ancestral"
    steps: int = 256
    log_snr_shift: float = 0.0
    gamma: float = 0.0
    delta: float = 0.1
    last_step_noise: bool = False
    correct_last: bool = False
    corrector_guidance: bool = True
    clip: Clipping = "static"
    clip_percentile: float = 0.995
    guidance_weight: float = 0.0
    reconstruction_weight: float = 2.0
    method: Method = "reconstruction"
    overlap: int | None = None
    batch: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    resolution: int | None = None
    labels: Literal["none", "random"] = "none"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                check_setting(name, value)
        if self.variant == "conditional" and self.clip == "dynamic":
            raise InputError(
                "dynamic thresholding rescales the context frames, from which the conditional replacement draws; "
                "choose clip static, or a method without -conditional"
            )

    @property
    def variant(self) -> Variant:
        """The variant of the replacement, see `guidance.replacement`."""
        return METHODS[self.method][1]

    @property
    def w_r(self) -> float:
        """The weight of reconstruction guidance, 0 for methods without it."""
        return self.reconstruction_weight if METHODS[self.method][0] else 0.0

    @property
    def described(self) -> dict[str, str | int | float | bool]:
        """The settings by name, as in records: all that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def stored(self) -> dict[str, str | int | float | bool]:
        """The settings by name, as in a checkpoint's header; newer settings only if they are not the default."""
        default = vars(SamplingConfig())
        return {
            name: value
            for name, value in self.described.items()
            if name not in _LATER_SETTINGS or value != default[name]
        }

    def override(self, chosen: Mapping[str, object]) -> "SamplingConfig":
        """Return a copy with other settings.

        Args:
            chosen: values by name (`setting_names`); None leaves a setting unchanged. `guidance_scale` is 1 + w,
                an alternative to `guidance_weight` (1 is unguided).

        Raises:
            InputError: a setting is unknown, of the wrong type or out of range, or both guidance settings are
                chosen.
        """
        settings = {name: value for name, value in chosen.items() if value is not None}
        if _SCALE in settings:
            if "guidance_weight" in settings:
                raise InputError(f"guidance_weight w and {_SCALE} 1 + w say the same thing; give one of the two")
            settings["guidance_weight"] = number(settings.pop(_SCALE), float, _SCALE) - 1.0
        return from_table(SamplingConfig, {**vars(self), **settings}, "")


_LATER_SETTINGS = ("method", "overlap", "batch", "precision", "resolution", "labels")
_SCALE = "guidance_scale"


def setting_names() -> list[str]:
    """Return the names of all settings that `SamplingConfig.override` takes."""
    return [*(entry.name for entry in dataclasses.fields(SamplingConfig)), _SCALE]


def settings_from_text(options: Mapping[str, str], others: Collection[str] = ()) -> dict[str, object]:
    """Parse settings from texts, such as those of `--option key=value`, for `SamplingConfig.override`.

    Args:
        options: texts by name.
        others: names of other options, for the error message.

    Raises:
        InputError: an unknown name, or a text that is not a value of its setting.
    """
    defaults = {entry.name: entry.default for entry in dataclasses.fields(SamplingConfig)}
    return from_texts({**defaults, _SCALE: 0.0}, options, others)


@dataclass(frozen=True)
class Preset:
    """A model with its training and its sampling.

    Attributes:
        name: of the preset.
        title: one line, for lists of presets.
        model: the network.
        training: how it is trained.
        sampling: how it is sampled by default.
    """

    name: str
    title: str
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def override(self, section: str, **values: object) -> "Preset":
        """Return a copy with some values of a section (`model`, `training` or `sampling`) replaced."""
        check_known(section, ("model", "training", "sampling"), "section of a preset")
        old = dataclasses.asdict(getattr(self, section))
        changed = from_table(type(getattr(self, section)), {**old, **values}, f"{self.name}, {section}")
        return dataclasses.replace(self, **{section: changed})


def _presets() -> Traversable:
    return resources.files("vdm_bench.reference_model").joinpath("presets")


def preset_names() -> list[str]:
    """Return the names of the presets in the package."""
    return sorted(file.name.removesuffix(".toml") for file in _presets().iterdir())


def get_preset(name: str) -> Preset:
    """Read a preset of the package.

    Raises:
        InputError: there is none of this name.
    """
    check_known(name, preset_names(), "preset")
    text = _presets().joinpath(f"{name}.toml").read_text("utf-8")
    table = tomllib.loads(text)
    return Preset(
        name=name,
        title=str(table["title"]),
        model=from_table(ModelConfig, table["model"], f"{name}, model"),
        training=from_table(TrainingConfig, table["training"], f"{name}, training"),
        sampling=from_table(SamplingConfig, table["sampling"], f"{name}, sampling"),
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)
