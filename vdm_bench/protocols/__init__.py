"""Benchmark protocols: everything that decides a number, in one TOML file each."""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from vdm_bench.datasets.base import ClipDataset
from vdm_bench.errors import InputError

DIGEST_LENGTH = 12


class ClipChoice(BaseModel):
    """Which clips of the protocol's dataset are taken: the first ones of a split, under a seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = Field(description="Split of the dataset.")
    seed: int = Field(ge=0, lt=2**32, description="Seed of the choice.")


class Protocol(BaseModel):
    """A benchmark: what is generated from what, how much of it, and how it is scored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name, as on the command line.")
    title: str = Field(description="One line for lists.")
    task: Literal["unconditional", "prediction"] = Field(
        description="`unconditional`: nothing is given; `prediction`: the first frames are given."
    )
    dataset: Literal["shapes"] = Field(description="The dataset.")
    frames: PositiveInt = Field(description="Frames of a clip, the given ones included.")
    context_frames: int = Field(ge=0, description="Frames that are given.")
    resolution: PositiveInt = Field(description="Height and width in pixels.")
    reference: ClipChoice = Field(description="Real clips that generated clips are compared with.")
    reference_count: PositiveInt = Field(description="How many reference clips.")
    conditions: ClipChoice = Field(
        description="Clips whose first frames are given; the baselines make their clips from them."
    )
    generated_count: PositiveInt = Field(description="How many clips are generated; clip i gets condition i.")
    metrics: tuple[str, ...] = Field(min_length=1, description="Metrics, by recipe.")

    @model_validator(mode="after")
    def _task_fits_context(self) -> Self:
        if (self.task == "prediction") != (0 < self.context_frames < self.frames):
            raise ValueError("a prediction has 0 < context_frames < frames, any other task has none")
        return self

    @property
    def digest(self) -> str:
        """12 hexadecimal digits over all that decides a number (the title does not)."""
        canonical = json.dumps(self.model_dump(mode="json", exclude={"title"}), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:DIGEST_LENGTH]

    @property
    def task_signature(self) -> str:
        """The task as in signatures: what was given, and from which clips."""
        if self.task == "unconditional":
            return self.task
        conditions = self.open_dataset(self.conditions).identity
        return f"prediction-{self.context_frames}-of-{self.frames}@{conditions}"

    def open_dataset(self, choice: ClipChoice) -> ClipDataset:
        """Open the clips of a choice, at the protocol's length and resolution."""
        from vdm_bench.datasets.shapes import Shapes

        return Shapes(choice.split, seed=choice.seed, resolution=self.resolution, frames=self.frames)


def protocol_names() -> list[str]:
    """Name the protocols that come with the package, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def get_protocol(name: str) -> Protocol:
    """Load a protocol by its name, or from a TOML file.

    Raises:
        InputError: there is none (the message gives the nearest name), or the file is not sound.
    """
    if name.endswith(".toml"):
        return _parse(name, Path(name).read_text)
    if name not in protocol_names():
        near = difflib.get_close_matches(name, protocol_names(), 1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else "`vdm-bench list protocols` shows them"
        raise InputError(f"there is no protocol {name!r}; {hint}")
    return _parse(name, resources.files(__package__).joinpath(f"{name}.toml").read_text)


def _parse(source: str, read: Callable[[str], str]) -> Protocol:
    try:
        return Protocol.model_validate(tomllib.loads(read("utf-8")))
    except OSError as error:
        raise InputError(f"{source} cannot be read ({error.strerror}); give a protocol's name or file") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{source} is no protocol: {where}: {first['msg']}; mend the field") from error
    except ValueError as error:
        raise InputError(f"{source} is not TOML: {error}") from error
