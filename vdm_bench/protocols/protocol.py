"""The fields of a protocol, their validation, and its digest."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from vdm_bench.datasets.registry import DatasetEntry, Options, check_options, dataset_entry, dataset_names
from vdm_bench.datasets.windows import WindowRule
from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import SSIM_WINDOW, Aspect, ResizeRule
from vdm_bench.video.view import View

DIGEST_LENGTH = 12

Task = Literal["unconditional", "class", "prediction", "text"]

# Upper bounds: more than any benchmark needs, and few enough to list.
Count = Annotated[int, Field(ge=1, le=10**8, strict=True)]
Frames = Annotated[int, Field(ge=1, le=10**5, strict=True)]
Side = Annotated[int, Field(ge=1, le=2**13, strict=True)]
_LONGEST = 100  # characters of a name, which folders are named after


def _known_dataset(name: str) -> str:
    if name not in (known := dataset_names()):
        raise ValueError(f"there is no dataset {name!r}; choose one of {', '.join(known)}")
    return name


class ClipChoice(BaseModel):
    """Which clips of the protocol's dataset to use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=_LONGEST, description="Split of the dataset.")
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        strict=True,
        description="Seed of random choices; for a computed dataset, such as `shapes`, the seed of the clips.",
    )
    windows: WindowRule = Field(
        default="first",
        description="Clips taken from a video: its `first` frames, `random` windows, or `every` window.",
    )
    per_video: Count = Field(default=1, description="Number of random windows per video.")
    crops: Literal[1, 3] = Field(
        default=1,
        description="1: one clip per window, according to `aspect`; 3: three square crops, at both ends and in "
        "the middle of the longer side.",
    )
    replacement: bool = Field(
        default=False,
        strict=True,
        description="For random windows: draw the videos with replacement, so some are used twice.",
    )

    @property
    def text(self) -> str:
        """The choice as short text, as in signatures: `test/random-seed1-x2-replaced`."""
        words: list[str] = [self.windows]
        if self.windows == "random":
            words += [f"seed{self.seed}", *([f"x{self.per_video}"] if self.per_video > 1 else [])]
        words += ["replaced"] if self.replacement else []
        words += ["crops3"] if self.crops == 3 else []
        return f"{self.split}/{'-'.join(words)}"


class Protocol(BaseModel):
    """A benchmark: the conditioning, the number of clips, and how they are scored.

    In addition to the fields below it has those of its dataset, such as BAIR's `camera`; see `dataset_options`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=_LONGEST, description="Name on the command line."
    )
    title: str = Field(description="One line for listings.")
    task: Task = Field(
        description="Conditioning of the sampler: none (`unconditional`), a label (`class`), the first frames "
        "(`prediction`) or a caption (`text`)."
    )
    dataset: Annotated[str, AfterValidator(_known_dataset)] = Field(description="The dataset.")
    frames: Frames = Field(description="Frames per clip, including the context frames.")
    stride: Frames = Field(default=1, description="Take every N-th frame of a video (frameskip).")
    fps: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        strict=True,
        description="Frame rate of the dataset's videos, if all have the same. It does not affect any score, so "
        "it is not part of the digest; clips with a different frame rate get a warning.",
    )
    context_frames: int = Field(ge=0, strict=True, description="Number of context frames.")
    resolution: Side = Field(description="Height and width at which clips are scored, in pixels.")
    generated_resolution: Side | None = Field(
        default=None, description="Height and width of generated clips, if different."
    )
    resize: ResizeRule | None = Field(
        default=None, description="Rule for resizing videos and generated clips of another size."
    )
    aspect: Aspect = Field(default="stretch", description="How resizing treats the aspect ratio.")
    reference: ClipChoice = Field(description="The real clips that generated clips are compared with.")
    reference_count: Count = Field(description="Number of reference clips.")
    conditions: ClipChoice = Field(
        description="Conditioning clips: the source of context frames, labels or captions, and of the baselines' "
        "clips."
    )
    condition_count: Count | None = Field(
        default=None,
        description="Number of conditioning clips, if smaller than `generated_count`: then they are reused "
        "cyclically.",
    )
    generated_count: Count = Field(description="Number of generated clips.")
    rounds: Literal["pooled", "averaged"] = Field(
        default="pooled",
        description="When each condition is sampled several times: score all clips as one set (`pooled`), or "
        "each round separately and average the scores (`averaged`).",
    )
    metrics: tuple[str, ...] = Field(min_length=1, description="Metrics: names of recipes.")
    frame_metrics: tuple[Literal["psnr", "ssim"], ...] = Field(
        default=(), description="Frame-wise metrics against the ground truth (prediction tasks only)."
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if (self.task == "prediction") != (0 < self.context_frames < self.frames):
            raise ValueError("a prediction has 0 < context_frames < frames, any other task has none")
        if self.frame_metrics and self.task != "prediction":
            raise ValueError("frame_metrics need ground-truth frames: they are for predictions only")
        if "ssim" in self.frame_metrics and self.resolution < SSIM_WINDOW:
            raise ValueError(f"ssim needs a resolution of at least {SSIM_WINDOW}")
        check_options(self.dataset, self.model_extra or {})
        if self.generated_resolution and not self.resize:
            raise ValueError("a generated_resolution needs a rule to resize by")
        if self.generated_count % self.conditions_used:
            raise ValueError("generated_count must be a multiple of condition_count")
        if self.rounds == "averaged" and self.conditions_used == self.generated_count:
            raise ValueError("rounds can be averaged only if condition_count is smaller than generated_count")
        return self

    _written: dict[str, str] = PrivateAttr(default_factory=dict)
    """Metrics that are files, by their paths: the paths as the protocol's file writes them."""

    def with_metrics_in(self, folder: Path) -> Self:
        """Return the protocol with metrics that are files, `*.toml`, looked up in a folder; the digest stays."""
        places = {name: str(folder / name) if name.endswith(".toml") else name for name in self.metrics}
        protocol = self.model_copy(update={"metrics": tuple(places.values())})
        protocol._written = {place: name for name, place in places.items() if place != name}
        return protocol

    @property
    def dataset_entry(self) -> DatasetEntry:
        """The dataset's row in the registry."""
        return dataset_entry(self.dataset)

    @property
    def dataset_options(self) -> Options:
        """The fields that belong to the dataset, in the order of its `DatasetEntry`."""
        return {name: getattr(self, name) for name in self.dataset_entry.options}

    @property
    def conditions_used(self) -> int:
        """The number of conditions; generated clip i uses condition `i % conditions_used`."""
        return self.condition_count or self.generated_count

    @property
    def sample_size(self) -> int:
        """Height and width in pixels of the clips that a sampler returns."""
        return self.generated_resolution or self.resolution

    @property
    def clip_fps(self) -> float | None:
        """Frame rate of a clip in frames per second, if known."""
        return None if self.fps is None else self.fps / self.stride

    @property
    def scored_view(self) -> View:
        """The frames and resolution at which generated clips are scored."""
        if self.generated_resolution is None:
            return View(frames=self.frames)
        size = (self.resolution, self.resolution)
        return View(self.frames, size=size, rule=self.resize, aspect=self.aspect)

    @property
    def fitted_view(self) -> View:
        """The frames and resolution of existing clips of any size, resized by the protocol's rule.

        Raises:
            InputError: the protocol has no resize rule, or is a prediction, whose clips begin with given pixels.
        """
        side = self.resolution
        if self.task == "prediction":
            raise InputError(f"{self.name} is a prediction, whose clips begin with given frames: leave out `fit`")
        if self.resize is None:
            raise InputError(f"{self.name} has no rule to resize by; resize the clips to {side}x{side} yourself")
        return View(self.frames, size=(side, side), rule=self.resize, aspect=self.aspect)

    @property
    def digest(self) -> str:
        """First 12 hex digits of a SHA-256 over everything that affects a score (title and fps do not).

        Fields at their defaults are left out, so that a new field changes only the digests of protocols that use
        it.
        """
        content = self.model_dump(mode="json", exclude={"title", "fps"}, exclude_defaults=True)
        content["metrics"] = [self._written.get(name, name) for name in self.metrics]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]
