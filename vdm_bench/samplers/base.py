"""The `Sampler` interface, and the checks of what a sampler returns."""

import hashlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError, VdmBenchError
from vdm_bench.runtime.printable import printable
from vdm_bench.runtime.progress import Advance
from vdm_bench.samplers.output import ClipFormat, suggest_format
from vdm_bench.video.clip import ClipDataset

Number = TypeVar("Number", bound=np.generic)

_LONGEST_MESSAGE = 500  # characters shown of the error message of a user's code
_SHOWN = 80  # characters of a dtype or shape in an error message


@dataclass(frozen=True, eq=False)
class SampleRequest:
    """A request for N clips.

    Clip i must depend only on its own seed, context, label and caption, not on the other clips of the request, so
    that runs can be resumed, sharded and repeated.

    Attributes:
        indices: positions of the clips in the run, N integers.
        seeds: one integer seed in [0, 2**63) per clip, derived from the run's seed and the clip's position.
        frames: T, including the context frames.
        height: in pixels.
        width: in pixels.
        context: context frames, uint8 [N, K, H, W, 3], or None.
        labels: class labels, int64 [N], or None.
        captions: one caption per clip, or None.
    """

    indices: tuple[int, ...]
    seeds: tuple[int, ...]
    frames: int
    height: int
    width: int
    context: NDArray[np.uint8] | None = None
    labels: NDArray[np.int64] | None = None
    captions: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.indices)


class Sampler(ABC):
    """Base class of samplers. A subclass must define `sample`; everything else has a default.

    Objects of other classes are wrapped (`vdm_bench.samplers.callable.as_sampler`): only their `sample` is
    called, even if they have other methods named like those below.
    """

    kind: str = "callable"
    """Kind of sampler, for the record."""

    clip_format: ClipFormat = ClipFormat()
    """Layout and value range of the clips that `sample` returns: uint8 [N, T, H, W, 3] by default."""

    def __init_subclass__(cls, **keywords: object) -> None:
        """Refuse a plain method where a property is expected, which would never be called, and a wrong format."""
        super().__init_subclass__(**keywords)
        for name in ("spec", "recorded_settings", "code_module", "code_digest"):
            if inspect.isfunction(vars(cls).get(name)):
                raise TypeError(f"{name} of the sampler {cls.__name__} is a method; write @property above it")
        if not isinstance(cls.clip_format, ClipFormat):
            raise TypeError(
                f"clip_format of the sampler {cls.__name__} is not a vdm_bench.ClipFormat; make it one"
            )

    @property
    def spec(self) -> str:
        """Name of the sampler in the record, if it was passed as an object; its class name by default."""
        return type(self).__name__

    @abstractmethod
    def sample(self, request: SampleRequest) -> NDArray[np.uint8]:
        """Generate the clips of a request.

        Returns:
            uint8 [N, T, H, W, 3], RGB, starting with the context frames; an array, or a torch tensor on any
            device.
        """

    def sample_with_progress(self, request: SampleRequest, advance: Advance) -> NDArray[np.uint8]:
        """Generate the clips of a request, reporting progress.

        The default calls `sample` and reports once, at the end. Override it together with `evaluations`.

        Args:
            request: for N clips.
            advance: call it after each network evaluation with the number of clips in the batch. The numbers add
                up to N times `evaluations(request)`, or to N if that is None.

        Returns:
            The clips, as `sample` returns them.
        """
        clips = self.sample(request)
        evaluations = self.evaluations(request)
        advance(len(request) if evaluations is None else len(request) * evaluations)
        return clips

    def evaluations(self, request: SampleRequest) -> int | None:
        """Return the number of network evaluations (NFE) for one clip of a request; None if unknown."""
        return None

    @property
    def recorded_settings(self) -> Mapping[str, str | int | float | bool | None] | None:
        """All settings by name, including defaults, for the record. A run resumes only with the same settings.

        None, the default, records the options of the run instead.
        """
        return None

    @property
    def code_module(self) -> str:
        """Name of the module that defines the sampler."""
        return type(self).__module__

    @property
    def code_digest(self) -> str | None:
        """First 12 hex digits of the SHA-256 of the file that defines the sampler; None if there is no file.

        A run resumes only with the same code. Files that this one imports or loads are not covered.
        """
        return file_digest(getattr(sys.modules.get(self.code_module), "__file__", None))

    def set_scratch_folder(self, parent: Path) -> None:  # noqa: B027 - a default, not a gap
        """Set the folder for temporary files, before the first clip of a run; ignored by default.

        Create a folder in it with `vdm_bench.runtime.files.temporary_folder`: if the run is killed, the resumed
        run removes it.
        """

    def close(self) -> None:  # noqa: B027 - a default, not a gap
        """Release processes, memory and files after the last clip of a run, or when it fails; nothing by default.

        More clips may be requested later.
        """


def file_digest(file: str | None) -> str | None:
    """Return the first 12 hex digits of the SHA-256 of a file; None if there is no such file."""
    if file is None or not Path(file).is_file():
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


@dataclass(frozen=True)
class SamplerSetup:
    """What a sampler is built from.

    Attributes:
        conditions: whole conditioning clips of the protocol, which the baselines change.
        options: `key=value` pairs of the user.
        device: on which the harness computes.
        fps: frame rate of the protocol's clips in frames per second; None if it has none.
    """

    conditions: ClipDataset
    options: dict[str, str]
    device: str = "cpu"
    fps: float | None = None


def sample_seed(run_seed: int, index: int) -> int:
    """Return the seed of clip `index`, in [0, 2**63); it depends only on the run's seed and the index."""
    word = np.random.SeedSequence([run_seed, index]).generate_state(1, np.uint64)[0]
    return int(word) >> 1


def checked_samples(
    output: object, request: SampleRequest, name: str, clip_format: ClipFormat | None = None
) -> NDArray[np.uint8]:
    """Check the clips that a sampler returned, and convert them to uint8 [N, T, H, W, 3].

    Args:
        output: of the sampler: an array, or a torch tensor on any device.
        request: that it answers.
        name: of the sampler, for errors.
        clip_format: that the sampler declares.

    Raises:
        InputError: wrong type, shape or dtype, a masked array, NaN, or changed context frames.
    """
    clip_format = clip_format or ClipFormat()
    # Masked values would be read as pixels.
    if isinstance(output, np.ma.MaskedArray) and np.ma.is_masked(output):
        wanted = clip_format.describe(_shape(request))
        raise InputError(f"sampler {name} returned a masked array; it must return {wanted}, all of them set")
    try:
        clips = clip_format.read(output)
    except InputError as error:
        raise InputError(f"sampler {name}: {error}") from error
    except Exception as error:
        raise InputError(
            f"sampler {name} returned {type(output).__name__}, which is not an array ({said(error)})"
        ) from error
    if np.issubdtype(clips.dtype, np.floating) and np.isnan(clips).any():
        raise InputError(f"sampler {name} returned NaN; it must return {clip_format.describe(_shape(request))}")
    check_kind(clips.shape, clips.dtype, request, name, clip_format)
    if request.context is not None:
        count = request.context.shape[1]
        if not np.array_equal(clips[:, :count], request.context):
            raise InputError(f"sampler {name} changed the {count} context frames; return them as they were given")
    return clips


def said(error: BaseException) -> str:
    """Return the shortened message of an error of a user's code, whose `__str__` may fail."""
    try:
        return printable(error, _LONGEST_MESSAGE)
    except Exception as failure:
        return f"its message fails with {type(failure).__name__}"


def check_kind(
    shape: Sequence[int],
    dtype: np.dtype[Any],
    request: SampleRequest,
    name: str,
    clip_format: ClipFormat | None = None,
) -> None:
    """Refuse clips whose shape or dtype is not that of the request.

    Args:
        shape: of the clips, in the order [N, T, H, W, 3].
        dtype: of the clips.
        request: that they answer.
        name: of the sampler, for errors.
        clip_format: that the sampler declares; None if it cannot declare one.

    Raises:
        InputError: the shape or the dtype differs.
    """
    wanted = _shape(request)
    if dtype == np.uint8 and tuple(shape) == wanted:
        return
    hint = ""
    if clip_format is not None:
        shape = clip_format.shape(shape) if len(shape) == len(wanted) else shape  # as it was returned
        hint = suggest_format(shape, wanted, clip_format, is_float=np.issubdtype(dtype, np.floating))
    found = printable(dtype if dtype != np.uint8 else list(shape), _SHOWN)
    raise InputError(
        f"sampler {name} returned {'shape ' * (dtype == np.uint8)}{found}; it must return "
        f"{(clip_format or ClipFormat()).describe(wanted)}{hint}"
    )


def _shape(request: SampleRequest) -> tuple[int, ...]:
    return (len(request), request.frames, request.height, request.width, 3)


def call_sampler(sampler: Sampler, request: SampleRequest, name: str, advance: Advance) -> NDArray[np.uint8]:
    """Have a sampler generate clips, and check them.

    Args:
        sampler: the sampler.
        request: for the clips.
        name: of the sampler, for errors.
        advance: called with steps of progress; see `Sampler.sample_with_progress`.

    Raises:
        InputError: the sampler failed, or returned something else than requested.
    """
    # The sampler gets a copy, which it may write to: the result is compared with the original.
    asked = replace(request, context=_copied(request.context), labels=_copied(request.labels))
    try:
        clips = sampler.sample_with_progress(asked, advance)
    except VdmBenchError:
        raise
    except (Exception, SystemExit) as error:  # a sampler that exits must not set the exit code of the harness
        first, last = request.indices[0], request.indices[-1]
        raise InputError(
            f"sampler {name} failed on {f'clip {first}' if first == last else f'clips {first} to {last}'} "
            f"({type(error).__name__}: {said(error)}); --debug shows where"
        ) from error
    return checked_samples(clips, request, name, sampler.clip_format)


def _copied(array: NDArray[Number] | None) -> NDArray[Number] | None:
    return None if array is None else array.copy()
