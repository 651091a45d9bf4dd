"""What a reference model is, how it is trained and sampled: three sections of a preset's TOML file.

The presets in `presets/` carry the figures of the paper's appendix A.
"""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, TypeAlias, TypeVar

from vdm_bench.errors import InputError
from vdm_bench.reference_model.process import SPACES, Space
from vdm_bench.runtime.choose import check_known, lookup

Clipping: TypeAlias = Literal["none", "static", "dynamic"]
CLIPPINGS: tuple[Clipping, ...] = ("none", "static", "dynamic")
SAMPLER_NAMES = ("ancestral", "predictor-corrector", "ddim", "dpm-solver")
Optimiser: TypeAlias = Literal["adam", "adamw", "muon"]
OPTIMISERS: tuple[Optimiser, ...] = ("adam", "adamw", "muon")
LearningRate: TypeAlias = Literal["constant", "cosine"]
SCHEDULES: tuple[LearningRate, ...] = ("constant", "cosine")


_MOST = 2**63  # of a setting that is a whole number
_MOST_STEPS = 10**6  # of sampling: a list is made of them


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
            `muon.py`), with Adam for the rest.
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
        _require_shift(self.log_snr_shift)
        _require(self.loss in SPACES, f"loss {self.loss!r} is none of {', '.join(SPACES)}")


@dataclass(frozen=True)
class SamplingConfig:
    """How a model is sampled where the user says nothing else.

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

    def __post_init__(self) -> None:
        known = ", ".join(SAMPLER_NAMES)
        _require(self.sampler in SAMPLER_NAMES, f"there is no sampler {self.sampler!r}; choose one of {known}")
        _require(self.clip in CLIPPINGS, f"clip {self.clip!r} is none of {', '.join(CLIPPINGS)}")
        share = self.clip_percentile
        _require(0.0 < share <= 1.0, f"clip_percentile {share} is not in (0, 1]; .995 stands for 99.5 %")
        _require(self.steps >= 1, f"steps {self.steps} is not positive")
        _require(self.steps <= _MOST_STEPS, f"steps {self.steps} is more than {_MOST_STEPS:,}")
        _require_shift(self.log_snr_shift)
        _require(0.0 <= self.gamma <= 1.0, f"gamma {self.gamma} is not in [0, 1]")
        _require(self.delta > 0.0, f"delta {self.delta} is not positive")
        _require(self.reconstruction_weight >= 0.0, f"w_r {self.reconstruction_weight} is negative")


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
        old = dataclasses.asdict(getattr(self, section))
        changed = from_table(type(getattr(self, section)), {**old, **values}, f"{self.name}, {section}")
        return dataclasses.replace(self, **{section: changed})


T = TypeVar("T", ModelConfig, TrainingConfig, SamplingConfig)


def from_table(kind: type[T], table: Mapping[str, Any], source: str) -> T:
    """Make one section of a mapping, as TOML and JSON give it.

    Args:
        kind: the section's class.
        table: field names and values.
        source: how errors call it.

    Raises:
        InputError: an unknown key, a value of the wrong type, or one out of range.
    """
    known = {entry.name: entry.default for entry in dataclasses.fields(kind)}
    try:
        values = {key: _typed(value, lookup(key, known, "setting"), key) for key, value in table.items()}
        return kind(**values)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


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
    names = preset_names()
    check_known(name, names, "preset")
    text = _presets().joinpath(f"{name}.toml").read_text("utf-8")
    table = tomllib.loads(text)
    return Preset(
        name=name,
        title=str(table["title"]),
        model=from_table(ModelConfig, table["model"], f"{name}, model"),
        training=from_table(TrainingConfig, table["training"], f"{name}, training"),
        sampling=from_table(SamplingConfig, table["sampling"], f"{name}, sampling"),
    )


def _typed(value: Any, default: Any, where: str) -> Any:
    """Check a value's type against the default's; lists become tuples, whole numbers floats where needed."""
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} is {value!r}; it must be a list of numbers")
        kind = type(default[0]) if default else int
        return tuple(_number(item, kind, where) for item in value)
    if type(default) in (int, float):
        return _number(value, type(default), where)
    if type(value) is not type(default):
        raise InputError(f"{where} is {value!r}; it must be of type {type(default).__name__}")
    return value


def _number(value: Any, kind: type[float], where: str) -> float:
    """Check a number: finite where `kind` is float, else whole and one that an int64 holds."""
    if type(value) not in (int, kind):
        raise InputError(f"{where} is {value!r}; it must be of type {kind.__name__}")
    if not abs(value) < (_MOST if kind is int or type(value) is int else math.inf):  # false of NaN, too
        raise InputError(f"{where} is {value!r:.40}; it must be finite, a whole number less than 2^63")
    return kind(value)


def _require_shift(shift: float) -> None:
    _require(abs(shift) <= 10.0, f"log_snr_shift {shift} is not in [-10, 10]")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)
