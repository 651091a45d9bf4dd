"""A diffusers video pipeline as a sampler: captions in, clips out.

    vdm-bench run text-video --data-root videos --sampler diffusers --option pipeline=FOLDER --option batch=4

Options next to `pipeline`, `batch`, `dtype` and `prompt` are arguments of the pipeline's own call, such as
`num_inference_steps=50`. Each clip has a random generator of its own, seeded with the clip's seed, so that the
size of a batch matters by rounding alone.
"""

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.runtime.bfloat16 import warn_if_slow
from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.input_files import whole_number
from vdm_bench.samplers.base import Sampler, SampleRequest, SamplerSetup

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# How pipelines call the number of frames, and what the sampler itself says.
_LENGTHS = ("num_frames", "video_length")
_OWN = ("pipeline", "batch", "dtype", "prompt")
_LONGEST_VALUE = 10_000  # characters of an option that may be more than a text
_SET_HERE = {"self", "generator", "height", "width", "output_type", "return_dict", "latents", *_LENGTHS}


class DiffusersSampler(Sampler):
    """A pipeline, asked in one way.

    Args:
        pipeline: a video pipeline of diffusers, on its device.
        arguments: of its call.
        source: where it came from, for records.
        prompt: for clips without a caption.
        batch: clips of one call.

    Raises:
        InputError: it is not a video pipeline, or takes no such argument.
    """

    def __init__(
        self, pipeline: Any, arguments: Mapping[str, object], *, source: str, prompt: str = "", batch: int = 1
    ) -> None:
        known = inspect.signature(pipeline.__call__).parameters
        length = next((name for name in _LENGTHS if name in known), None)
        kind = type(pipeline).__name__
        if length is None or "prompt" not in known:
            raise InputError(f"{source} is a {kind}, which makes no videos from captions; give a video pipeline")
        for name in arguments:
            check_known(name, [option for option in known if option not in _SET_HERE], f"{kind} option")
        self._pipeline, self._arguments, self._length = pipeline, dict(arguments), length
        self._source, self._prompt, self._batch = source, prompt, batch

    @property
    def recorded_settings(self) -> dict[str, str | int | float | bool | None]:
        """What a record says of this sampler."""
        import diffusers

        return {
            "pipeline": self._source,
            "class": type(self._pipeline).__name__,
            "diffusers": diffusers.__version__,
            "prompt": self._prompt,
            "batch": self._batch,
            **{
                name: value if isinstance(value, int | float) else str(value)
                for name, value in self._arguments.items()
            },
        }

    def sample(self, request: SampleRequest) -> NDArray[np.uint8]:
        """Make the clips of a request.

        Raises:
            InputError: the task gives frames or labels, which a pipeline of captions does not take.
        """
        if request.context is not None or request.labels is not None:
            what = "context frames" if request.context is not None else "labels"
            raise InputError(
                f"the sampler diffusers takes captions, not {what}; write a module:object of your own"
            )
        captions = request.captions or (self._prompt,) * len(request)
        parts = [
            self._call(request, captions[start : start + self._batch], request.seeds[start : start + self._batch])
            for start in range(0, len(request), self._batch)
        ]
        return np.concatenate(parts)

    def _call(
        self, request: SampleRequest, captions: tuple[str, ...], seeds: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        # On the CPU: there a seed gives the same noise for every device.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        output = self._pipeline(
            prompt=list(captions),
            generator=generators,
            height=request.height,
            width=request.width,
            output_type="np",
            **{self._length: request.frames},
            **self._arguments,
        )
        clips = np.asarray(output.frames, np.float32)
        if not np.isfinite(clips).all():
            raise InputError(f"{self._source} gave values that are not finite; try --option dtype=fp32")
        pixels: NDArray[np.uint8] = np.clip(np.rint(clips * 255.0), 0, 255).astype(np.uint8)
        return pixels


def make_diffusers(setup: SamplerSetup) -> DiffusersSampler:
    """Load a pipeline as the options say.

    Raises:
        InputError: diffusers is not installed, the pipeline cannot be loaded, or an option is not valid.
    """
    options = dict(setup.options)
    source = options.pop("pipeline", None)
    if source is None:
        raise InputError("the sampler diffusers needs --option pipeline=FOLDER_OR_NAME")
    dtype = options.pop("dtype", "fp32")
    if dtype not in _DTYPES:
        raise InputError(f"option dtype={dtype} must be one of {', '.join(_DTYPES)}")
    batch = whole_number(said := options.pop("batch", "1"))
    if not batch:
        raise InputError(f"option batch={said} must be a whole number, 1 or more")
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise InputError("the sampler diffusers needs the package; pip install 'vdm-bench[diffusers]'") from error
    try:
        # Safetensors alone: nothing is unpickled, and no code comes with a pipeline.
        load: Callable[..., Any] = DiffusionPipeline.from_pretrained
        pipeline = load(source, dtype=_DTYPES[dtype], use_safetensors=True)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"the pipeline {source} cannot be loaded ({first}); give a folder or a name") from error
    pipeline = pipeline.to(setup.device)
    if dtype == "bf16":
        warn_if_slow(pipeline.device)
    pipeline.set_progress_bar_config(disable=True)
    prompt = options.pop("prompt", "")
    arguments = {name: _value(text) for name, text in options.items()}
    return DiffusersSampler(pipeline, arguments, source=source, prompt=prompt, batch=batch)


def _value(text: str) -> object:
    """Read a number, True, None or a list as Python writes it; anything else is a text."""
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
