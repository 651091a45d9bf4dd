"""What a protocol is: a frozen, validated model, and its digest."""

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vdm_bench.datasets.registry import DATASETS, DatasetEntry, Options, check_options
from vdm_bench.datasets.windows import WindowRule
from vdm_bench.metrics.choices import SSIM_WINDOW, Aspect, ResizeRule
from vdm_bench.video.view import View

DIGEST_LENGTH = 12

Task = Literal["unconditional", "class", "prediction", "text"]

# More than any benchmark has, and few enough for lists of them. Names are those of folders, too.
Count = Annotated[int, Field(ge=1, le=10**8, strict=True)]
Frames = Annotated[int, Field(ge=1, le=10**5, strict=True)]
Side = Annotated[int, Field(ge=1, le=2**13, strict=True)]
_LONGEST = 100  # characters of a name


def _known_dataset(name: str) -> str:
    if name not in DATASETS:
        raise ValueError(f"there is no dataset {name!r}; choose one of {', '.join(DATASETS)}")
    return name


class ClipChoice(BaseModel):
    """Which clips of the protocol's dataset are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=_LONGEST, description="Split of the dataset.")
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        strict=True,
        description="Seed of what is drawn; of a computed dataset, such as `shapes`, of the clips themselves.",
    )
    windows: WindowRule = Field(
        default="first", description="Clips of a video: its `first` frames, `random` windows, or `every` window."
    )
    per_video: Count = Field(default=1, description="Random windows of each video.")
    crops: Literal[1, 3] = Field(
        default=1,
        description="1: one clip of each window, as `aspect` says; 3: a clip each of the squares at both ends "
        "and in the middle of the longer side.",
    )
    replacement: bool = Field(
        default=False,
        strict=True,
        description="Random windows: draw the videos with replacement, so that some come twice.",
    )

    @property
    def text(self) -> str:
        """The choice in few words, as in signatures: `test/random-seed1-x2-replaced`."""
        words: list[str] = [self.windows]
        if self.windows == "random":
            words += [f"seed{self.seed}", *([f"x{self.per_video}"] if self.per_video > 1 else [])]
        words += ["replaced"] if self.replacement else []
        words += ["crops3"] if self.crops == 3 else []
        return f"{self.split}/{'-'.join(words)}"


class Protocol(BaseModel):
    """A benchmark: what is generated from what, how much of it, and how it is scored.

    Beside the fields below it has those of its dataset, such as BAIR's `camera`; see `dataset_options`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=_LONGEST, description="Name, as on the command line."
    )
    title: str = Field(description="One line for lists.")
    task: Task = Field(
        description="What a sampler is given: nothing (`unconditional`), a label (`class`), the first frames "
        "(`prediction`) or a caption (`text`)."
    )
    dataset: Annotated[str, AfterValidator(_known_dataset)] = Field(description="The dataset.")
    frames: Frames = Field(description="Frames of a clip, the given ones included.")
    stride: Frames = Field(default=1, description="Every how many-th frame of a video is taken (frameskip).")
    fps: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        strict=True,
        description="Frames a second of the dataset's videos, where all have one rate. No number hangs on it, so "
        "it is not in the digest: ready clips of another rate are marked.",
    )
    context_frames: int = Field(ge=0, strict=True, description="Frames that are given.")
    resolution: Side = Field(description="Height and width at which clips are scored, in pixels.")
    generated_resolution: Side | None = Field(
        default=None, description="Height and width of generated clips, where it is another one."
    )
    resize: ResizeRule | None = Field(
        default=None, description="Rule by which videos and generated clips of another size are resized."
    )
    aspect: Aspect = Field(default="stretch", description="What happens to the aspect ratio then.")
    reference: ClipChoice = Field(description="Real clips that generated clips are compared with.")
    reference_count: Count = Field(description="How many reference clips.")
    conditions: ClipChoice = Field(
        description="Clips whose frames, labels or captions are given; the baselines make their clips from them."
    )
    condition_count: Count | None = Field(
        default=None,
        description="How many conditions, where fewer than generated clips: then they come round again.",
    )
    generated_count: Count = Field(description="How many clips are generated.")
    rounds: Literal["pooled", "averaged"] = Field(
        default="pooled",
        description="Where conditions come round again: all clips are scored as one set, or each round by "
        "itself, and the scores are averaged.",
    )
    metrics: tuple[str, ...] = Field(min_length=1, description="Metrics, by recipe.")
    frame_metrics: tuple[Literal["psnr", "ssim"], ...] = Field(
        default=(), description="Of a prediction: how its frames are held against those that really followed."
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if (self.task == "prediction") != (0 < self.context_frames < self.frames):
            raise ValueError("a prediction has 0 < context_frames < frames, any other task has none")
        if self.frame_metrics and self.task != "prediction":
            raise ValueError("frame_metrics need frames that really followed: they are for predictions")
        if "ssim" in self.frame_metrics and self.resolution < SSIM_WINDOW:
            raise ValueError(f"ssim needs a resolution of at least {SSIM_WINDOW}")
        check_options(self.dataset, self.model_extra or {})
        if self.generated_resolution and not self.resize:
            raise ValueError("a generated_resolution needs a rule to resize by")
        if self.generated_count % self.conditions_used:
            raise ValueError("generated_count must be a multiple of condition_count")
        if self.rounds == "averaged" and self.conditions_used == self.generated_count:
            raise ValueError("rounds can be averaged only where conditions come round again")
        return self

    @property
    def dataset_entry(self) -> DatasetEntry:
        """What is known of the dataset."""
        return DATASETS[self.dataset]

    @property
    def dataset_options(self) -> Options:
        """The fields that are those of the dataset, in the order of its entry."""
        return {name: getattr(self, name) for name in self.dataset_entry.options}

    @property
    def conditions_used(self) -> int:
        """How many conditions there are; generated clip i gets condition i modulo this."""
        return self.condition_count or self.generated_count

    @property
    def sample_size(self) -> int:
        """Height and width of the clips that a sampler makes."""
        return self.generated_resolution or self.resolution

    @property
    def clip_fps(self) -> float | None:
        """Frames a second of a clip, where it is known."""
        return None if self.fps is None else self.fps / self.stride

    @property
    def scored_view(self) -> View:
        """How generated clips are looked at when they are scored."""
        if self.generated_resolution is None:
            return View(frames=self.frames)
        size = (self.resolution, self.resolution)
        return View(self.frames, size=size, rule=self.resize, aspect=self.aspect)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits over all that decides a number (title and fps do not).

        Fields at their defaults are left out, so that a new field changes no digest but where it is used.
        """
        content = self.model_dump(mode="json", exclude={"title", "fps"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]
