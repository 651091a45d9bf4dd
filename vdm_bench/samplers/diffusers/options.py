"""The options of `--sampler diffusers`, read before anything is loaded.

Options that are not in `Options` are arguments of the pipeline's own call, such as `num_inference_steps=50`.
"""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from inspect import Parameter

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import ASPECTS, RESIZE_RULES, Aspect, ResizeRule
from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.input_files import whole_number
from vdm_bench.samplers.diffusers.capabilities import LENGTHS, MASKS, Capabilities

DTYPES = ("fp32", "fp16", "bf16")
OFFLOADS = ("none", "model", "sequential")
SCHEDULER_OPTION = "scheduler."  # `scheduler.flow_shift=3`

_LONGEST_VALUE = 10_000  # characters of an option that may be more than a text
# Arguments of a call that the sampler sets itself.
_SET_HERE = frozenset(
    {
        *("self", "prompt", "generator", "height", "width", "output_type", "return_dict", "latents"),
        *("callback_on_step_end", "callback_on_step_end_tensor_inputs", "num_videos_per_prompt"),
        *("num_images_per_prompt", "image", "video", *LENGTHS, *MASKS),
    }
)


@dataclass(frozen=True)
class Options:
    """How a pipeline is loaded and asked.

    Attributes:
        pipeline: folder, or name on the Hub.
        class_name: class to load it as; None for the one it was saved as (option `class`).
        revision: of a pipeline on the Hub.
        variant: of the weights' files, such as `fp16`.
        dtype: of the weights, one of `DTYPES`.
        vae_dtype: of the autoencoder's weights; `dtype` if None.
        device_map: how weights are placed by diffusers: `balanced`, or a device.
        offload: which weights leave the GPU while they are not needed, one of `OFFLOADS`.
        vae_tiling: decode in overlapping tiles.
        vae_slicing: decode one clip at a time.
        lora: safetensors file, or folder with one.
        lora_scale: its weight.
        scheduler: class that replaces the pipeline's scheduler, made from the configuration of that one.
        scheduler_arguments: settings to change.
        prompt: of clips without a caption.
        batch: clips per call; predictions are made one by one.
        native_height, native_width: size of the clips that the pipeline makes; its default if None.
        native_frames: number of frames that it makes; the next valid length if None.
        native_fps: frame rate of what it makes, in frames per second.
        step: distance of the frames that are used; from the two frame rates if None.
        resize: rule by which clips are brought to the protocol's size.
        aspect: what happens to their aspect ratio; None to crop, and to stretch in predictions.
        arguments: of the pipeline's call.
    """

    pipeline: str
    class_name: str | None = None
    revision: str | None = None
    variant: str | None = None
    dtype: str = "fp32"
    vae_dtype: str | None = None
    device_map: str | None = None
    offload: str = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    lora: str | None = None
    lora_scale: float = 1.0
    scheduler: str | None = None
    scheduler_arguments: Mapping[str, object] = field(default_factory=dict)
    prompt: str = ""
    batch: int = 1
    native_height: int | None = None
    native_width: int | None = None
    native_frames: int | None = None
    native_fps: float | None = None
    step: int | None = None
    resize: ResizeRule = "antialias"
    aspect: Aspect | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)

    @property
    def described(self) -> dict[str, str | int | float | bool | None]:
        """The options for a record, by the names that users write."""
        plain = {_written(entry.name): getattr(self, entry.name) for entry in fields(self)}
        nested = {
            f"{SCHEDULER_OPTION}{name}": plain_value(value) for name, value in self.scheduler_arguments.items()
        }
        called = {name: plain_value(value) for name, value in self.arguments.items()}
        return {name: value for name, value in plain.items() if not name.endswith("arguments")} | nested | called


def _written(name: str) -> str:
    return "class" if name == "class_name" else name


def read_options(texts: Mapping[str, str]) -> Options:
    """Read `key=value` options.

    Raises:
        InputError: `pipeline` is missing, or a value is not valid. Names of arguments are checked by
            `check_arguments`, when the class of the pipeline is known.
    """
    if not texts.get("pipeline"):
        raise InputError("the sampler diffusers needs --option pipeline=FOLDER_OR_NAME")
    names = {
        _written(entry.name): entry.name for entry in fields(Options) if not entry.name.endswith("arguments")
    }
    found: dict[str, object] = {}
    scheduler, arguments = {}, {}
    for key, text in texts.items():
        if key in names:
            found[names[key]] = _option(key, text)
        elif key.startswith(SCHEDULER_OPTION):
            scheduler[key.removeprefix(SCHEDULER_OPTION)] = read_value(text)
        else:
            arguments[key] = read_value(text)
    options = Options(**found, scheduler_arguments=scheduler, arguments=arguments)  # type: ignore[arg-type]
    if (options.native_height is None) != (options.native_width is None):
        raise InputError("give the options native_height and native_width together, or neither")
    if options.device_map is not None and options.offload != "none":
        raise InputError("the options device_map and offload both place the weights; give one of the two")
    return options


def _option(key: str, text: str) -> object:
    """Read an option of the sampler by its name."""
    choices = {
        "dtype": DTYPES,
        "vae_dtype": DTYPES,
        "offload": OFFLOADS,
        "resize": RESIZE_RULES,
        "aspect": ASPECTS,
        "vae_tiling": ("true", "false"),
        "vae_slicing": ("true", "false"),
    }
    if key in choices:
        text = text.lower() if key.startswith("vae_") else text
        if text not in choices[key]:
            raise InputError(f"option {key}={text} must be one of {', '.join(choices[key])}")
        return text == "true" if choices[key] == ("true", "false") else text
    if key in ("batch", "native_height", "native_width", "native_frames", "step"):
        if not (number := whole_number(text)):
            raise InputError(f"option {key}={text} must be a whole number, 1 or more")
        return number
    if key in ("lora_scale", "native_fps"):
        value = read_value(text)
        if not isinstance(value, int | float) or not math.isfinite(value) or (key == "native_fps" and value <= 0):
            raise InputError(f"option {key}={text} must be a number{', above 0' if key == 'native_fps' else ''}")
        return float(value)
    return text


def check_arguments(options: Options, can: Capabilities) -> None:
    """Check that the pipeline's call takes the arguments, and makes clips of the native size and length.

    Raises:
        InputError: it does not.
    """
    own = [_written(entry.name) for entry in fields(Options) if not entry.name.endswith("arguments")]
    known = [*own, *(name for name in can.arguments if name not in _SET_HERE)]
    for name in options.arguments:
        if name in ("height", "width", *LENGTHS):
            native = "native_frames" if name in LENGTHS else f"native_{name}"
            raise InputError(
                f"the option {name} is named {native}: protocols say which size and length is scored"
            )
        check_known(name, known, f"{can.kind} option")
    for name, parameter in can.arguments.items():
        if name not in _SET_HERE and name not in options.arguments and parameter.default is Parameter.empty:
            raise InputError(
                f"a {can.kind} needs the argument {name}, which no protocol gives; use another class"
            )
    _check_size(options, can)
    frames, lengths = options.native_frames, can.lengths
    if frames is None:
        return
    if can.length_argument is None:
        raise InputError(f"a {can.kind} makes clips as long as its input; leave out the option native_frames")
    if frames not in lengths:
        near = [str(number) for number in (lengths.at_most(frames), lengths.at_least(frames)) if number]
        raise InputError(
            f"a {can.kind} does not make {frames} frames: valid lengths are {lengths}; "
            f"give native_frames={' or '.join(near)}"
        )


def _check_size(options: Options, can: Capabilities) -> None:
    height, width = options.native_height, options.native_width
    if height is None or width is None:
        return
    if not can.takes_size:
        raise InputError(f"a {can.kind} decides on its size itself; leave out native_height and native_width")
    multiple = can.side_multiple
    if height % multiple or width % multiple:
        near = [max(round(side / multiple), 1) * multiple for side in (height, width)]
        raise InputError(
            f"a {can.kind} makes clips with sides that are multiples of {multiple} pixels, not {height}x{width}; "
            f"give native_height={near[0]} native_width={near[1]}"
        )


def read_value(text: str) -> object:
    """Read a number, True, None or a list as Python writes it; anything else is a text."""
    if text in ("true", "false"):
        return text == "true"
    if len(text) > _LONGEST_VALUE:
        return text
    try:
        return ast.literal_eval(text)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        MemoryError,
        RecursionError,
    ):  # two of them for what nests too deeply
        return text


def plain_value(value: object) -> str | int | float | bool | None:
    """Return a value as a record takes it."""
    return value if value is None or isinstance(value, int | float) else str(value)
