"""How the reference model is asked for clips: as its checkpoint says, changed where the user says otherwise.

The command line and the sampler `reference` share this, so that both know the same settings by the same names.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import CLIPPINGS, SAMPLER_NAMES, SamplingConfig, from_table
from vdm_bench.reference_model.guidance import Variant, weight_of_scale
from vdm_bench.reference_model.model import PRECISIONS
from vdm_bench.runtime.choose import check_known

Method: TypeAlias = Literal[
    "reconstruction", "reconstruction-conditional", "replacement", "replacement-conditional"
]
METHODS: tuple[Method, ...] = (
    "reconstruction",
    "reconstruction-conditional",
    "replacement",
    "replacement-conditional",
)
Labels: TypeAlias = Literal["none", "random"]

# Clips of one forward pass. One on a CPU: there passes run side by side, a thread each, and a clip has no
# companion that its rounding could depend on. On a GPU as many as keep it busy, at the cost of that.
CPU_BATCH = 1
GPU_BATCH = 16


@dataclass(frozen=True)
class Settings:
    """How clips are made.

    Attributes:
        sampling: sampler, steps, guidance and clipping.
        method: how given frames enter. `reconstruction`: by reconstruction guidance, and with noise in the place
            of the model's own frames, drawn anew from q(z | x) each time; `replacement`: in their place alone.
            With `-conditional`, the frames with noise are the sampler's own, which draws them around what is
            given (see `reference_model.guidance.replacement`).
        overlap: frames that a block of a longer clip has in common with the one before; None for half of the
            model's window.
        batch: clips of one forward pass; None for 1 on a CPU and 16 elsewhere.
        precision: of the network: `fp32`, or `bf16` by autocast.
        resolution: sides of the clips; None for the model's own.
        labels: what a clip gets that is asked for without a label: `none`, or one drawn with its seed.
    """

    sampling: SamplingConfig
    method: Method = "reconstruction"
    overlap: int | None = None
    batch: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    resolution: int | None = None
    labels: Labels = "none"

    @property
    def variant(self) -> Variant:
        """The variant of the replacement."""
        return "conditional" if self.method.endswith("-conditional") else "marginal"

    @property
    def effective(self) -> SamplingConfig:
        """The sampling as the method has it: without reconstruction guidance where there is none."""
        if self.method.startswith("reconstruction"):
            return self.sampling
        return dataclasses.replace(self.sampling, reconstruction_weight=0.0)

    @property
    def described(self) -> dict[str, str | int | float | bool | None]:
        """The settings by name, as in records."""
        own = {name: getattr(self, name) for name in _OWN if name != "guidance_scale"}
        return {**dataclasses.asdict(self.sampling), **{name: value for name, value in own.items() if value}}


# Settings beside those of `SamplingConfig`, with a value of their type.
_OWN: dict[str, object] = {
    "method": "",
    "overlap": 0,
    "batch": 0,
    "precision": "",
    "resolution": 0,
    "labels": "",
    "guidance_scale": 0.0,
}
# Above these no memory holds a batch; and lists are made of some before anything else is.
_MOST = {"overlap": 2**16, "batch": 2**16, "resolution": 2**13}
_CHOICES: dict[str, tuple[str, ...]] = {
    "sampler": SAMPLER_NAMES,
    "clip": CLIPPINGS,
    "method": METHODS,
    "precision": PRECISIONS,
    "labels": ("none", "random"),
}


def setting_names() -> list[str]:
    """Name all settings."""
    return [*(entry.name for entry in dataclasses.fields(SamplingConfig)), *_OWN]


def choose(defaults: SamplingConfig, chosen: Mapping[str, object]) -> Settings:
    """Change the defaults where something is chosen.

    Args:
        defaults: the checkpoint's.
        chosen: by name (`setting_names`), of the right types; None is not chosen.

    Raises:
        InputError: a setting is unknown or out of range, or both ways to say the guidance are given.
    """
    given = {key: value for key, value in chosen.items() if value is not None}
    for key in given:
        check_known(key, setting_names(), "setting")
    for key, known in _CHOICES.items():
        if key in given:
            check_known(str(given[key]), known, key)
    if "guidance_scale" in given:
        if "guidance_weight" in given:
            raise InputError("guidance_weight w and guidance_scale 1 + w say the same thing; give one of the two")
        given["guidance_weight"] = weight_of_scale(_number(given.pop("guidance_scale"), "guidance_scale"))
    _require_weights(given)
    own = {key: given.pop(key) for key in tuple(given) if key in _OWN}
    for key, most in _MOST.items():
        if key in own and _number(own[key], key) < 1:
            raise InputError(f"{key} {own[key]} is not positive; give 1 or more")
        if key in own and _number(own[key], key) > most:
            raise InputError(f"{key} {own[key]} is more than {most:,}; give less")
    sampling = from_table(SamplingConfig, {**dataclasses.asdict(defaults), **given}, "sampling")
    return Settings(sampling, **own)  # type: ignore[arg-type]  # types were checked above


def _require_weights(given: Mapping[str, object]) -> None:
    """Refuse numbers that no sampler or guidance can work with, in words that name the way out."""
    for key in ("guidance_weight", "reconstruction_weight", "gamma", "delta"):
        if not math.isfinite(_number(given.get(key, 0.0), key)):
            raise InputError(f"{key} {given[key]} is not finite; give a number")
    if _number(given.get("guidance_weight", 0.0), "guidance_weight") < -1.0:
        raise InputError(
            f"guidance_weight w {given['guidance_weight']:g} is below -1, which is unconditional; give -1 or "
            "more, or a guidance_scale (1 + w) of 0 or more"
        )
    if _number(given.get("reconstruction_weight", 0.0), "reconstruction_weight") < 0.0:
        raise InputError(
            f"reconstruction_weight w_r {given['reconstruction_weight']} is negative; give 0 or more, "
            "or choose the method replacement"
        )


def parsed(options: Mapping[str, str], others: Collection[str] = ()) -> dict[str, object]:
    """Read settings from texts, as `--option key=value` gives them.

    Args:
        options: texts by name.
        others: what else there is to choose from, for the error message.

    Raises:
        InputError: an unknown name, or a text that is no value of its setting.
    """
    kinds = {entry.name: entry.default for entry in dataclasses.fields(SamplingConfig)} | _OWN
    values: dict[str, object] = {}
    for key, text in options.items():
        check_known(key, [*setting_names(), *others], "option")
        values[key] = _value(key, text, kinds[key])
    return values


def _value(key: str, text: str, like: object) -> object:
    if isinstance(like, str):
        return text
    if isinstance(like, bool):
        if text not in ("true", "false"):
            raise InputError(f"option {key}={text} must be true or false")
        return text == "true"
    kind = type(like)
    try:
        return int(text) if kind is int else float(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"option {key}={text} must be {wanted}") from error


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} {value!r} must be a number")
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(f"{name} {value!r:.40}... is too large; give another number") from error
