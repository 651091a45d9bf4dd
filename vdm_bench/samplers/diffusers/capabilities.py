"""What a pipeline can make: lengths, sizes and conditioning, from its class and the configuration of its parts.

Nothing here needs weights. A video autoencoder that compresses time by r encodes r k + 1 frames; one that encodes
each frame by itself takes any number. Height and width are multiples of the autoencoder's spatial compression
times the patch size of the transformer.
"""

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Config: TypeAlias = Mapping[str, Any]

# How context frames are given to a pipeline, by the kind of its arguments:
# `image`: the last context frame; the clip continues it.
# `video`: the last context frames, as many as the autoencoder can encode; the clip begins with them.
# `edit`: a full clip to be changed: the context frames, then repeats of the last one.
# `inpaint`: a full clip, and a mask of the frames to be filled in.
FramesAs = Literal["image", "video", "edit", "inpaint"]

# Names of the argument for the number of frames, and of the autoencoder's attributes for its compression.
LENGTHS = ("num_frames", "video_length", "frames")
MASKS = ("mask", "mask_video")
_IN_TIME = ("scale_factor_temporal", "temporal_compression_ratio")
_IN_SPACE = ("scale_factor_spatial", "spatial_compression_ratio")

# The first one decodes overlapping tiles of a fixed number of frames. The second one decodes latent frames in
# pairs: only from an odd number of them it makes r k + 1 frames.
_ALLEGRO, _COGVIDEOX = "AutoencoderKLAllegro", "AutoencoderKLCogVideoX"

_NEEDS_FRAMES = re.compile(r"(Image|Video)\d?(To|2)(Video|World)|(?<!T)I2V|Edit|Inpaint|PIA|StableVideo")
# Their `video` holds what happened before the clip, not its beginning.
_HISTORY = ("HeliosPipeline", "HeliosPyramidPipeline")


@dataclass(frozen=True)
class Lengths:
    """The frame counts that a pipeline makes: `every` * k + `rest`, from `least` to `most`.

    >>> wan = Lengths(every=4, rest=1)
    >>> wan.at_least(16), 17 in wan, 16 in wan, str(wan)
    (17, True, False, '4k + 1')
    """

    every: int = 1
    rest: int = 0
    least: int = 1
    most: int | None = None

    def __contains__(self, frames: int) -> bool:
        return self.at_least(frames) == frames

    def at_least(self, frames: int) -> int | None:
        """Return the smallest valid length that is not less than `frames`; None if there is none."""
        frames = max(frames, self.least)
        valid = frames + (self.rest - frames) % self.every
        return None if self.most is not None and valid > self.most else valid

    def at_most(self, frames: int) -> int:
        """Return the largest valid length that is not more than `frames`; 0 if there is none."""
        frames = frames if self.most is None else min(frames, self.most)
        valid = frames - (frames - self.rest) % self.every
        return valid if valid >= self.least else 0

    def __str__(self) -> str:
        if self.least == self.most:
            return f"exactly {self.most}"
        form = "any" if self.every == 1 else f"{self.every}k" + (f" + {self.rest}" if self.rest else "")
        return form if self.most is None else f"{form}, at most {self.most}"


@dataclass(frozen=True)
class Capabilities:
    """What a pipeline can make.

    Attributes:
        kind: name of its class.
        arguments: of its call, by name.
        length_argument: name of the argument for the number of frames; None if it follows from the input.
        lengths: valid numbers of frames.
        side_multiple: height and width are multiples of this many pixels.
        native_size: height and width that the pipeline makes by default; None if it decides itself.
        native_frames: number of frames that it makes by default, if known.
        native_fps: frame rate that it makes by default, in frames per second, if its call has such an argument.
        compression: of time by the autoencoder: r frames become one latent frame.
        frames_as: ways to give context frames, the preferred one first; empty if it takes none.
        needs_frames: whether it makes nothing without context frames.
    """

    kind: str
    arguments: Mapping[str, inspect.Parameter]
    length_argument: str | None
    lengths: Lengths
    side_multiple: int
    native_size: tuple[int, int] | None
    native_frames: int | None
    native_fps: float | None
    compression: int
    frames_as: tuple[FramesAs, ...]
    needs_frames: bool

    @property
    def takes_captions(self) -> bool:
        """Whether the call has a prompt."""
        return "prompt" in self.arguments

    @property
    def takes_size(self) -> bool:
        """Whether the user can choose the size: the call has a height and a width, or changes a given clip."""
        return "edit" in self.frames_as or self.size_is_argument

    @property
    def size_is_argument(self) -> bool:
        """Whether the call has a height and a width."""
        return {"height", "width"} <= self.arguments.keys()

    @property
    def makes_videos(self) -> bool:
        """Whether it makes videos of what a protocol can give."""
        return self.length_argument is not None or bool(set(self.frames_as) - {"image"})

    def usable_context(self, context_frames: int, way: FramesAs) -> int:
        """Return how many of the last context frames the pipeline can be given."""
        if way == "image":
            return min(context_frames, 1)
        if way == "video":
            return min(context_frames, 1 + (context_frames - 1) // self.compression * self.compression)
        return context_frames

    def way_of(self, context_frames: int) -> FramesAs:
        """Return the way to give context frames: as a video if the autoencoder can encode more than one."""
        ways = self.frames_as
        if "image" in ways and "video" in ways:
            return "video" if self.usable_context(context_frames, "video") > 1 else "image"
        return ways[0]


def capabilities_of(kind: type, configs: Mapping[str, Config], vae: object | None) -> Capabilities:
    """Derive what a pipeline can make.

    Args:
        kind: its class.
        configs: configuration of its parts by name, such as `transformer`.
        vae: its autoencoder; one without weights will do.
    """
    signature = list(inspect.signature(kind.__call__).parameters.items())[1:]  # without self
    arguments = {name: value for name, value in signature if value.kind is not inspect.Parameter.VAR_KEYWORD}
    length = next((name for name in LENGTHS if name in arguments), None)
    denoiser = next((configs[name] for name in ("transformer", "transformer_2", "unet") if name in configs), {})
    ways = _ways(kind.__name__, arguments, length)
    needs = _NEEDS_FRAMES.search(kind.__name__) is not None or _required(arguments, "image", "video")
    in_time, in_space = _compression(vae, _IN_TIME, 1), _compression(vae, _IN_SPACE, _levels(vae))
    return Capabilities(
        kind=kind.__name__,
        arguments=arguments,
        length_argument=length,
        lengths=_lengths(vae, in_time, {**configs, "denoiser": denoiser}),
        side_multiple=math.lcm(in_space * _patch(denoiser), _own_check(kind)),
        native_size=_native_size(arguments, denoiser, in_space),
        native_frames=_native_frames(arguments, length, denoiser, in_time if _is(vae, _ALLEGRO) else 1),
        native_fps=next((value for name in ("frame_rate", "fps") if (value := _number(arguments, name))), None),
        compression=in_time,
        frames_as=tuple(ways),
        needs_frames=bool(ways) and needs,
    )


def _ways(kind: str, arguments: Mapping[str, object], length: str | None) -> list[FramesAs]:
    ways: list[FramesAs] = ["image"] if "image" in arguments else []
    if "video" not in arguments or kind in _HISTORY:
        return ways
    if length is None or "Edit" in kind:
        return ["edit"]
    return ["inpaint"] if any(name in arguments for name in MASKS) else [*ways, "video"]


def _is(vae: object | None, name: str) -> bool:
    return type(vae).__name__ == name


def _lengths(vae: object | None, compression: int, configs: Mapping[str, Config]) -> Lengths:
    motion = configs.get("motion_adapter") or configs["denoiser"]
    if most := motion.get("motion_max_seq_length"):  # positions that a motion module knows
        return Lengths(most=int(most))
    if exact := configs["denoiser"].get("video_length"):  # Latte adds a table of so many positions
        return Lengths(least=int(exact), most=int(exact))
    if compression == 1:
        return Lengths()
    if _is(vae, _ALLEGRO):
        tile, stride = (int(getattr(vae, name)[0]) for name in ("kernel", "stride"))
        return Lengths(stride, tile % stride, tile)
    return Lengths(compression * (2 if _is(vae, _COGVIDEOX) else 1), 1)


def _compression(vae: object | None, names: tuple[str, ...], otherwise: int) -> int:
    config = getattr(vae, "config", {})
    found = (config.get(name) or getattr(vae, name, None) for name in names)
    return int(next((value for value in found if value), otherwise))


def _levels(vae: object | None) -> int:
    """Return the compression of an autoencoder that halves a picture between its levels."""
    channels = getattr(vae, "config", {}).get("block_out_channels")
    return 2 ** (len(channels) - 1) if channels else 8


def _patch(denoiser: Config) -> int:
    patch = denoiser.get("patch_size") or 1
    return int(patch if isinstance(patch, int) else patch[-1])


def _own_check(kind: type) -> int:
    """Return what a pipeline's own check of its inputs divides height and width by."""
    check = getattr(kind, "check_inputs", None)
    source = inspect.getsource(check) if check is not None else ""
    return math.lcm(*(int(number) for number in re.findall(r"(?:height|width) % (\d+)", source)))


def _native_size(
    arguments: Mapping[str, inspect.Parameter], denoiser: Config, in_space: int
) -> tuple[int, int] | None:
    height, width = _number(arguments, "height"), _number(arguments, "width")
    if height is None or width is None:
        side = denoiser.get("sample_size")
        pair = side if isinstance(side, list | tuple) else (side, side)
        latent = denoiser.get("sample_height") or pair[0], denoiser.get("sample_width") or pair[1]
        if None in latent or "height" not in arguments:
            return None
        height, width = (int(side) * in_space for side in latent)
    return int(height), int(width)


def _native_frames(
    arguments: Mapping[str, inspect.Parameter], length: str | None, denoiser: Config, frames_of_sample: int
) -> int | None:
    if length is None:
        return None
    if number := _number(arguments, length):
        return int(number)
    if frames := denoiser.get("sample_frames"):
        return int(frames) * frames_of_sample
    return denoiser.get("num_frames")


def _number(arguments: Mapping[str, inspect.Parameter], name: str) -> float | None:
    default = arguments[name].default if name in arguments else None
    return default if isinstance(default, int | float) and not isinstance(default, bool) else None


def _required(arguments: Mapping[str, inspect.Parameter], *names: str) -> bool:
    return any(name in arguments and arguments[name].default is inspect.Parameter.empty for name in names)
