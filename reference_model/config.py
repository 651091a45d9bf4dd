"""What a reference model is, how it is trained and sampled: three sections of a preset's TOML file.

The presets in `presets/` carry the figures of the paper's appendix A.
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
# How given frames enter: (by reconstruction guidance, too; variant of the replacement).
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
# The range of each number of `SamplingConfig`, and what to give instead of one outside; NaN is outside of all.
# Above the highest steps, overlap, batch and resolution no memory holds what is made of them.
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
    """The Video U-Net and what it is asked for.

    Attributes:
        frames: T of the clips it is trained on.
        resolution: height and width of the clips.
        channels: of a pixel.
        patch: side of the squares of pixels that enter and leave the network as one position; 1 in the paper.
        base_channels: channels at full resolution.
        multipliers: channels at each resolution as multiples of `base_channels`; each is half of the one before.
        blocks: residual blocks per resolution on the way down (one more on the way up).
        attention_resolutions: sides, in positions, at which spatial and temporal attention follow each block.
        head_dim: width of an attention head.
        embedding_dim: width of the embedding of log-SNR and condition.
        embedding_layers: layers of the two MLPs, of the log-SNR and of the condition.
        relative_distance: frames further apart share the embedding of this distance (k in Shaw et al. 2018;
            the paper does not say it).
        dropout: in residual blocks.
        scale_and_shift: embeddings scale and shift the second norm of a block instead of being added before it.
        classes: class labels; 0 for a model without.
        class_factors: of labels that stand for several attributes, how many values each of them has, the last
            one changing fastest: a label is then embedded as the sum of a vector for each attribute. Empty: a
            vector for each class. Of no meaning without classes.
        text_dim: width of the text embeddings it attends to; 0 for a model without.
        prediction: what the network's output means.
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
        """Sides of clips must be divisible by this."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(C, T, H, W)."""
        return self.channels, self.frames, self.resolution, self.resolution


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        dataset: `shapes`, or what the harness can open.
        steps: optimiser steps.
        batch: examples a step, over all processes.
        accumulation: pieces in which each process computes its share of a batch, to save memory.
        learning_rate: its highest value.
        warmup_steps: steps over which the learning rate rises linearly.
        schedule: `constant`, or `cosine` down to zero at the last step.
        optimiser: `adam`; `adamw` decouples the weight decay; `muon` for the matrices inside the network (see
            `training/optimisers.py`), with Adam for the rest.
        betas: of Adam.
        weight_decay: see `optimiser`.
        clip_norm: the gradient's norm is clipped to this; 0 for not at all.
        ema: decay of the moving average of the weights, reached after a warm-up.
        joint_images: independent images appended to each example.
        drop_condition: share of examples trained without their condition.
        loss: space in which errors are squared.
        log_snr_shift: of the schedule that the noise levels are drawn from, 0 in the paper; see
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

    A checkpoint carries one with its defaults; options of the command line, `--option key=value` and the cases
    of a reproduction change it (`override`). It checks itself when it is made: nothing behind it has to.

    Attributes:
        sampler: name in `samplers.SAMPLERS`.
        steps: predictor steps.
        log_snr_shift: of the schedule of the steps, 0 in the paper; see `process.CosineSchedule`.
        gamma: noise of the ancestral sampler, 0 lower and 1 upper bound of the variance.
        delta: step size of the Langevin corrector.
        last_step_noise: add noise at the last step, too (ancestral and predictor-corrector).
        correct_last: correct after the last step, too.
        corrector_guidance: guidance acts in the corrector, too.
        clip: how predictions of x are kept in range; see `samplers.clipped`.
        clip_percentile: of dynamic clipping, a share in (0, 1].
        guidance_weight: w of classifier-free guidance, 0 for none.
        reconstruction_weight: w_r of reconstruction guidance.
        method: how given frames enter. `reconstruction`: by reconstruction guidance, and with noise in the place
            of the model's own frames, drawn anew from q(z | x) at each evaluation; `replacement`: in their place
            alone. With `-conditional`, the frames with noise are the sampler's own, which draws them around what
            is given (see `guidance.replacement`).
        overlap: frames that a block of a longer clip has in common with the one before; None for half of the
            model's window.
        batch: clips of one forward pass of the sampler `reference`; None for 1 on a CPU and 16 elsewhere.
        precision: of the network: `fp32`, or `bf16` by autocast.
        resolution: height and width of the clips; None for the model's own.
        labels: what a clip gets that is asked for without a label: `none`, or one drawn with its seed (`random`).

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
        """The weight of reconstruction guidance, 0 where the method goes without."""
        return self.reconstruction_weight if METHODS[self.method][0] else 0.0

    @property
    def described(self) -> dict[str, str | int | float | bool]:
        """The settings by name, as in records: all but those that are left open (None)."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def stored(self) -> dict[str, str | int | float | bool]:
        """The settings by name, as in the header of a checkpoint: those of later versions only if chosen."""
        default = vars(SamplingConfig())
        return {
            name: value
            for name, value in self.described.items()
            if name not in _OF_LATE or value != default[name]
        }

    def override(self, chosen: Mapping[str, object]) -> "SamplingConfig":
        """Return a copy with other settings.

        Args:
            chosen: values by name (`setting_names`); None leaves a setting as it is. `guidance_scale` is 1 + w,
                another way to say `guidance_weight` (1 is unguided).

        Raises:
            InputError: a setting is unknown, of the wrong type or out of range, or the guidance is given twice.
        """
        given = {name: value for name, value in chosen.items() if value is not None}
        if _SCALE in given:
            if "guidance_weight" in given:
                raise InputError(f"guidance_weight w and {_SCALE} 1 + w say the same thing; give one of the two")
            given["guidance_weight"] = number(given.pop(_SCALE), float, _SCALE) - 1.0
        return from_table(SamplingConfig, {**vars(self), **given}, "")


_OF_LATE = ("method", "overlap", "batch", "precision", "resolution", "labels")
_SCALE = "guidance_scale"


def setting_names() -> list[str]:
    """Return the names of all settings that `SamplingConfig.override` takes."""
    return [*(entry.name for entry in dataclasses.fields(SamplingConfig)), _SCALE]


def settings_from_text(options: Mapping[str, str], others: Collection[str] = ()) -> dict[str, object]:
    """Read settings from texts, as `--option key=value` gives them, for `SamplingConfig.override`.

    Args:
        options: texts by name.
        others: what else there is to choose from, for the error message.

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
        title: one line for lists.
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
        """Return a copy with other values in one section: `model`, `training` or `sampling`."""
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
