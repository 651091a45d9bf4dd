"""The contract of a sampler: anything that makes clips."""

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
from vdm_bench.video.clip import ClipDataset

Number = TypeVar("Number", bound=np.generic)

_LONGEST_MESSAGE = 500  # characters of what somebody else's error says
_SHOWN = 80  # characters of a dtype or a shape, in an error message


@dataclass(frozen=True, eq=False)
class SampleRequest:
    """What a sampler is asked for: N clips.

    Sample i must depend on its own seed (and its own context, label and caption) alone, never on the clips
    beside it, so that runs can be resumed, divided and repeated.

    Attributes:
        indices: positions of the clips within the run, N of them.
        seeds: one integer seed in [0, 2**63) a clip; made from the run's seed and the position.
        frames: T, including the context frames.
        height: in pixels.
        width: in pixels.
        context: the given first frames, uint8 [N, K, H, W, 3], or None.
        labels: class of each clip, int64 [N], or None.
        captions: caption of each clip, or None.
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
    """Makes clips. A subclass must define `sample`; everything else has a default.

    Objects of other classes are wrapped (`vdm_bench.samplers.callable.as_sampler`): nothing but their `sample` is
    called, whatever their other methods are named.
    """

    kind: str = "callable"
    """Kind of sampler, for the record."""

    def __init_subclass__(cls, **keywords: object) -> None:
        """Refuse a method in the place of a property: it would be read, and never called."""
        super().__init_subclass__(**keywords)
        for name in ("spec", "recorded_settings", "code_module", "code_digest"):
            if inspect.isfunction(vars(cls).get(name)):
                raise TypeError(f"{name} of the sampler {cls.__name__} is a method; write @property above it")

    @property
    def spec(self) -> str:
        """Name in the record of a sampler that was passed as an object; the name of its class by default."""
        return type(self).__name__

    @abstractmethod
    def sample(self, request: SampleRequest) -> NDArray[np.uint8]:
        """Make the clips of a request.

        Returns:
            uint8 [N, T, H, W, 3], RGB, the context frames first; an array, or a torch tensor on any device.
        """

    def sample_with_progress(self, request: SampleRequest, advance: Advance) -> NDArray[np.uint8]:
        """Make the clips of a request, and report progress meanwhile.

        The default calls `sample`, and reports once, at the end. Override it together with `evaluations`.

        Args:
            request: what is asked for.
            advance: call it with the number of clips after each evaluation of the network: the numbers add up to
                N times `evaluations(request)`, or to N where that is None.

        Returns:
            The clips, as of `sample`.
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
        """Settings by name, defaults included, for the record: a run with other settings is another run.

        None, the default, stands for the options of the run.
        """
        return None

    @property
    def code_module(self) -> str:
        """Name of the module that defines the sampler."""
        return type(self).__module__

    @property
    def code_digest(self) -> str | None:
        """12 hexadecimal digits of the SHA-256 of the file that defines the sampler; None if there is no file.

        An interrupted run must not go on with other code. What the file imports or loads is not covered.
        """
        return file_digest(getattr(sys.modules.get(self.code_module), "__file__", None))

    def set_scratch_folder(self, parent: Path) -> None:  # noqa: B027 - a default, not a gap
        """Set the folder for temporary files, before the first clip of a run; ignored by default.

        Make a folder of your own in it, by `vdm_bench.runtime.files.temporary_folder`: a run that goes on removes
        what a killed one left there.
        """

    def close(self) -> None:  # noqa: B027 - a default, not a gap
        """Release processes, memory and files, after the last clip of a run or when it fails; nothing by default.

        More clips may be asked for later.
        """


def file_digest(file: str | None) -> str | None:
    """Return 12 hexadecimal digits of the SHA-256 of a file; None if there is no such file."""
    if file is None or not Path(file).is_file():
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


@dataclass(frozen=True)
class SamplerSetup:
    """What the harness offers a sampler that is being made.

    Attributes:
        conditions: the protocol's condition clips, whole: the baselines are made from them.
        options: `key=value` pairs of the user.
        device: where the harness computes.
        fps: frame rate of the protocol's clips in frames per second; None if it has none.
    """

    conditions: ClipDataset
    options: dict[str, str]
    device: str = "cpu"
    fps: float | None = None


def sample_seed(run_seed: int, index: int) -> int:
    """Return the seed of sample `index`, in [0, 2**63): a function of the run's seed and the index alone."""
    word = np.random.SeedSequence([run_seed, index]).generate_state(1, np.uint64)[0]
    return int(word) >> 1


def checked_samples(output: object, request: SampleRequest, name: str) -> NDArray[np.uint8]:
    """Check what a sampler returned; a torch tensor on any device is taken as an array.

    Raises:
        InputError: wrong type, shape or dtype, masked, NaN, or context frames that were changed.
    """
    # What is under a mask would be taken for pixels.
    if isinstance(output, np.ma.MaskedArray) and np.ma.is_masked(output):
        raise InputError(
            f"sampler {name} returned a masked array; it must return {_wanted(request)}, all of them set"
        )
    try:
        # Told by what they can do: torch is not imported here.
        clips = np.asarray(output.detach().cpu() if hasattr(output, "detach") else output)
    except Exception as error:
        raise InputError(
            f"sampler {name} returned {type(output).__name__}, which is not an array ({said(error)})"
        ) from error
    if np.issubdtype(clips.dtype, np.floating) and np.isnan(clips).any():
        raise InputError(f"sampler {name} returned NaN; it must return {_wanted(request)}")
    check_kind(clips.shape, clips.dtype, request, name)
    if request.context is not None:
        given = request.context.shape[1]
        if not np.array_equal(clips[:, :given], request.context):
            raise InputError(f"sampler {name} changed the {given} context frames; return them as they were given")
    return clips


def said(error: BaseException) -> str:
    """Return what an error of somebody else's says, cut to a length; it may fail to."""
    try:
        return printable(error, _LONGEST_MESSAGE)
    except Exception as failure:
        return f"its message fails with {type(failure).__name__}"


def check_kind(shape: Sequence[int], dtype: np.dtype[Any], request: SampleRequest, name: str) -> None:
    """Refuse clips of another shape or dtype than those of a request.

    Raises:
        InputError: the shape or the dtype is another.
    """
    if dtype != np.uint8:
        raise InputError(f"sampler {name} returned {printable(dtype, _SHOWN)}; it must return {_wanted(request)}")
    if tuple(shape) != _shape(request):
        shown = printable(list(shape), _SHOWN)
        raise InputError(f"sampler {name} returned shape {shown}; it must return {_wanted(request)}")


def _shape(request: SampleRequest) -> tuple[int, ...]:
    return (len(request), request.frames, request.height, request.width, 3)


def _wanted(request: SampleRequest) -> str:
    return f"uint8 [{', '.join(map(str, _shape(request)))}], RGB in 0..255"


def call_sampler(sampler: Sampler, request: SampleRequest, name: str, advance: Advance) -> NDArray[np.uint8]:
    """Ask a sampler for clips, and check them.

    Args:
        sampler: to ask.
        request: what is asked for.
        name: of the sampler, for errors.
        advance: is called with steps of progress; see `Sampler.sample_with_progress`.

    Raises:
        InputError: it failed, or what it gave is not what was asked for.
    """
    # Of its own, as it may write into it: what it returns is held against what was asked for.
    asked = replace(request, context=_copied(request.context), labels=_copied(request.labels))
    try:
        clips = sampler.sample_with_progress(asked, advance)
    except VdmBenchError:
        raise
    except (Exception, SystemExit) as error:  # an exit of the sampler's would pass for one of the harness
        raise InputError(
            f"sampler {name} failed on clips {request.indices[0]} to {request.indices[-1]} "
            f"({type(error).__name__}: {said(error)}); --debug shows where"
        ) from error
    return checked_samples(clips, request, name)


def _copied(array: NDArray[Number] | None) -> NDArray[Number] | None:
    return None if array is None else array.copy()
