"""The run record: one JSON file that says what was scored, how, on what, and what came out.

A record is strict in both directions. Unknown keys, NaN and infinity are refused, so that a number either
has a value or a status that says why it has none. A file may hold a checksum of its content, by which a record
that rotted on a disk is found out; it is no part of the record. The published JSON Schema is made from the
descriptions below; `python -m vdm_bench.leaderboards.schema > leaderboards/record.schema.json` writes it again.
"""

import json
import math
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import pydantic_core
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.text import encodable
from vdm_bench.metrics.score import Score, Signature, check_signed_counts
from vdm_bench.runtime.checksums import CHECKSUM, sealed, without_checksum
from vdm_bench.runtime.files import decode_text, write_text
from vdm_bench.runtime.input_files import parse_json as parse_strict_json
from vdm_bench.runtime.input_files import read_file
from vdm_bench.runtime.printable import printable

SCHEMA_VERSION: Final = 1

# Control characters, line separators and the characters that reverse the direction of the text around them.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_LONGEST_NAME = 200
_NAME = rf"^[^{_CONTROLS}]*[^\s{_CONTROLS}][^{_CONTROLS}]*$"


def _one_setting(value: Any) -> Any:
    # Checked before the union is tried, because a union complains once for each of its members.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a setting must not be NaN or infinite")
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError("a setting is a text, a number, true, false or null")
    return encodable(value) if isinstance(value, str) else value


def _sound_score(score: Score, info: ValidationInfo) -> Score:
    if info.mode != "json":
        # Pydantic takes an instance of a dataclass as it is, so the fields of one are validated here.
        score = _SCORE.validate_python(asdict(score))
    signature = Signature.parse(score.signature)
    if signature.digest != score.digest:
        raise ValueError(f"the digest {score.digest} is not that of the signature, {signature.digest}")
    if signature.metric != score.metric:
        raise ValueError(f"the signature of {score.metric} is that of {signature.metric}")
    if (score.value is None) != (score.status != "ok"):
        raise ValueError(
            f"value {score.value} and status {score.status!r} of {score.metric} contradict each other"
        )
    if min(score.n_reference, score.n_generated) < 0:
        raise ValueError(f"a number of clips of {score.metric} is negative")
    interval = score.interval
    if interval and not (interval.low <= interval.high and 0 < interval.level < 1):
        raise ValueError(f"{interval} of {score.metric} is not an interval")
    if len(score.jackknife) == 1:
        raise ValueError(f"the jackknife of {score.metric} has one group; it needs two or more, or none")
    status, marks = encodable(score.status), tuple(encodable(mark) for mark in score.marks)
    return score if (status, marks) == (score.status, score.marks) else replace(score, status=status, marks=marks)


_SCORE = TypeAdapter(Score)
SoundScore = Annotated[Score, AfterValidator(_sound_score)]
Text = Annotated[str, AfterValidator(encodable)]
FilledText = Annotated[str, Field(min_length=1), AfterValidator(encodable)]
# Mended before its pattern is looked for, for which it must be text that UTF-8 can hold.
Name = Annotated[
    str,
    Field(min_length=1, max_length=_LONGEST_NAME, pattern=_NAME),
    BeforeValidator(lambda name: encodable(name) if isinstance(name, str) else name),
]
_NAMES = TypeAdapter(Name)
Setting = Annotated[str | int | float | bool | None, BeforeValidator(_one_setting)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
# A field of files alone: in memory there is none, so that nothing hangs on how an object came about.
FileChecksum = Annotated[
    str | None,
    AfterValidator(lambda _: None),
    Field(
        exclude=True,
        repr=False,
        description="XXH3 (128 bits, hexadecimal) over the rest of the object as JSON: sorted keys, no white "
        "space, in ASCII, whole numbers without a point; before it its length, eight bytes, little-endian. "
        "Optional: take it out when you change the rest.",
    ),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ProtocolInfo(_Part):
    """The protocol that a run followed."""

    name: FilledText = Field(description="Name of the protocol, such as `bair-prediction`.")
    digest: FilledText = Field(description="Digest over the protocol's canonical JSON.")
    departures: list[Text] = Field(
        description="How the run departs from its protocol, such as `generated 64 of 2048 clips`."
    )


class SamplerInfo(_Part):
    """Where the generated clips came from."""

    kind: FilledText = Field(description="Kind of sampler, such as `baseline`, `callable` or `folder`.")
    spec: Text = Field(description="The sampler as the user gave it.")
    settings: dict[Text, Setting] = Field(description="Settings of the sampler, by name.")
    seed: int | None = Field(
        ge=0, lt=2**63, description="Seed of the run, or null where the clips came ready-made."
    )


class Curve(_Part):
    """A value for each frame of a clip."""

    frames: list[int] = Field(description="Numbers of the frames, from 0; given frames are left out.")
    values: list[float] = Field(description="Mean over all clips, a frame each.")
    standard_errors: list[float] | None = Field(
        description="Standard error of each value, over conditions; null for a single one."
    )

    @model_validator(mode="after")
    def _a_value_a_frame(self) -> Self:
        if len({len(self.frames), len(self.values), len(self.standard_errors or self.frames)}) != 1:
            raise ValueError("a curve has one value, and one standard error, for each frame")
        return self


class SkippedClip(_Part):
    """A clip that was expected but could not be scored."""

    source: Text = Field(description="File or folder of the clip, as the user named it.")
    reason: FilledText = Field(description="Why it was skipped, in a few words.")


class ClipCounts(_Part):
    """How many clips one side of the comparison had.

    Every expected clip is scored, or skipped with a reason, or was never made; only the last sort is not
    listed, so scored and skipped together cannot be more than expected.
    """

    source: Text = Field(description="Where the clips came from: a path, a data set or a sampler.")
    expected: Count = Field(description="Clips that the protocol asks for, or that the source holds.")
    scored: Count = Field(description="Clips that the scores were made from.")
    skipped: list[SkippedClip] = Field(description="Expected clips that could not be scored.")
    repeated: Count = Field(description="Scored clips that repeat an earlier one.")
    lossy: bool = Field(description="Whether the clips were stored with lossy compression.")
    digest: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 over the SHA-256 of the scored clips, in order; null in older records, and where "
        "only the features of the clips are known.",
    )

    @model_validator(mode="after")
    def _counts_add_up(self) -> Self:
        if self.scored + len(self.skipped) > self.expected:
            raise ValueError(
                f"{self.scored} scored and {len(self.skipped)} skipped clips are more than the "
                f"{self.expected} expected"
            )
        if self.repeated > max(self.scored - 1, 0):
            raise ValueError(f"{self.repeated} of {self.scored} scored clips cannot repeat an earlier one")
        return self


class Environment(_Part):
    """What the run was made with; recorded beside the scores, and no part of their signatures."""

    python: Text = Field(description="Version of Python.")
    platform: Text = Field(description="Operating system and architecture.")
    packages: dict[Text, Text] = Field(description="Versions of the packages in use, by name.")
    device: Text = Field(description="Device that computed, such as `cpu` or the name of a GPU.")
    code_version: Text = Field(description="Version of vdm-bench.")
    code_revision: Text | None = Field(description="Revision of its source, or null outside a checkout.")
    code_dirty: bool | None = Field(
        description="Whether the source had uncommitted changes, or null outside a checkout."
    )


class Record(_Part):
    """One run of vdm-bench: what was scored, how, on what, and what came out."""

    schema_version: Literal[1] = Field(description="Version of this format.")
    name: Name = Field(description="How the model is called in tables; one line.")
    created: AwareDatetime = Field(description="When the run ended, in UTC.")
    protocol: ProtocolInfo | None = Field(
        description="The protocol followed, or null for a plain comparison of two sources."
    )
    sampler: SamplerInfo = Field(description="What made the generated clips.")
    reference: ClipCounts = Field(description="The real clips.")
    generated: ClipCounts = Field(description="The clips that were judged.")
    scores: list[SoundScore] = Field(description="One score a metric; no metric twice.")
    curves: dict[Text, Curve] = Field(
        default={}, description="Frame by frame values of a prediction, by metric; older records have none."
    )
    timing_seconds: dict[Text, Seconds] = Field(description="Wall-clock seconds, by stage of the run.")
    environment: Environment = Field(description="What the run was made with.")
    checksum: FileChecksum = None

    @field_validator("created")
    @classmethod
    def _created_is_utc(cls, value: AwareDatetime) -> AwareDatetime:
        if value.utcoffset() != timedelta(0):
            raise ValueError("the time must be given in UTC")
        return value.replace(tzinfo=UTC)

    @field_validator("scores")
    @classmethod
    def _no_metric_twice(cls, scores: list[Score]) -> list[Score]:
        names = [score.metric for score in scores]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} is there more than once")
        return scores

    @model_validator(mode="after")
    def _scores_fit_the_counts(self) -> Self:
        for score in self.scores:
            if score.n_reference > self.reference.scored or score.n_generated > self.generated.scored:
                raise ValueError(
                    f"{score.metric} claims {score.n_reference} reference and {score.n_generated} generated "
                    f"clips, but {self.reference.scored} and {self.generated.scored} were scored"
                )
            check_signed_counts(score, len(self.generated.skipped))
        return self


def check_name(name: str | None) -> None:
    """Refuse what cannot be the name of a run, before any work; None and an empty one are for no name.

    Raises:
        InputError: it is not one line of visible characters, or longer than a record holds.
    """
    if name not in (None, "") and not _is_name(name):
        raise InputError(
            f"{name!r} is not a name of a run; give one line of 1 to {_LONGEST_NAME} visible characters (--name)"
        )


def name_of(source: str) -> str:
    """Make a name out of where clips came from: a path may hold anything."""
    return source if _is_name(source) else printable(source if source.strip() else repr(source), _LONGEST_NAME)


def _is_name(name: object) -> bool:
    try:
        _NAMES.validate_python(name, strict=True)
    except ValidationError:
        return False
    return True


def write_record(record: Record, path: Path) -> None:
    """Write a record with its checksum as sorted, indented JSON, atomically; equal records give equal bytes."""
    write_text(path, json_text(sealed_record(record)))


def sealed_record(record: Record) -> dict[str, Any]:
    """Return the JSON object of a record, with its checksum."""
    return sealed(record.model_dump(mode="json"))


def require_unchanged(content: object, source: object, way_out: str) -> None:
    """Refuse the JSON object of a record that holds a checksum and is not the one that was written.

    Args:
        content: as it was read; without a checksum it may be of an earlier version, or of another program.
        source: names it in the error message.
        way_out: what to do then.

    Raises:
        DamagedError: its checksum is not that of its content, or it is no JSON object.
    """
    way_out += f" (if it was changed on purpose, take out its line {CHECKSUM!r})"
    without_checksum(content, source, way_out, required=False)


def read_record(path: Path) -> Record:
    """Read a record and check every field of it.

    Raises:
        InputError: the file is missing, no JSON, of a newer version, or not a sound record.
        DamagedError: it is not the one that was written.
    """
    return parse_record(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """Read the file of a record, whatever it holds.

    Raises:
        InputError: it cannot be read.
    """
    return read_file(
        path,
        lambda source, reason: InputError(
            f"{source} cannot be read: {reason}; give a run folder, or the run.json in it"
        ),
    )


def parse_record(data: bytes, path: Path) -> Record:
    """Read a record from the bytes of the file `path`; see `read_record`."""
    text = decode_text(data, path)
    try:
        record = Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        _check_version(parse_json(data, path), path)
        raise InputError(
            f"{path} is not a run record: {first_wrong_field(error)}; fix the field (record.schema.json "
            "describes it) or run the benchmark again"
        ) from error
    content = unambiguous_json(text, path)
    if CHECKSUM in record.model_fields_set:
        require_unchanged(content, path, "restore it, or delete it and run the benchmark again")
    return record


def unambiguous_json(text: str, path: Path) -> Any:
    """Parse the JSON of sound records, of which each key stands once: the last would be taken, unsaid.

    Whoever merges two versions of a file, and keeps both sides of a conflict, has keys that stand twice.

    Raises:
        InputError: one does.
    """
    return parse_strict_json(text, path, "leave one of the two, or run the benchmark again")


def parse_json(data: bytes, path: Path) -> Any:
    """Read JSON of a file that should hold records.

    Raises:
        InputError: it is no JSON.
    """
    text = decode_text(data, path)
    try:
        return pydantic_core.from_json(text)
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON: {error}; it may have been cut short, so run the benchmark again"
        ) from error


def _check_version(content: Any, path: Path) -> None:
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a newer version of vdm-bench (schema_version {version}, this one reads "
            f"{SCHEMA_VERSION}); update vdm-bench to read it"
        )


def first_wrong_field(error: ValidationError) -> str:
    """Name the first field that is wrong, and say why, in one printable line."""
    first = error.errors(include_url=False)[0]
    field = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"]).lstrip(".")
    match first["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            message = "there is no such field"
        case "missing" | "missing_argument":
            message = "the field is missing"
        case "string_pattern_mismatch" if field == "name":
            message = "a name is one line of visible characters"
        case _:
            message = first["msg"].removeprefix("Value error, ")
    return printable(f"{field}: {message}" if field else message)


def json_text(content: Any) -> str:
    """Write JSON as people, and their tools for differences, like it: sorted keys, lists of numbers on a line."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # Within a text of JSON no line ends, so this finds lists alone.
    return re.sub(r'\[\n\s+([^][{}"]*?)\n\s+\]', lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


@dataclass(frozen=True)
class StoredRecord:
    """A record that was read.

    Attributes:
        path: of its file.
        data: the bytes of the file.
        record: what they say.
    """

    path: Path
    data: bytes
    record: Record

    @classmethod
    def read(cls, path: Path) -> "StoredRecord":
        """Read a record.

        Raises:
            InputError: it cannot be read, or is not sound.
        """
        data = read_bytes(path)
        return cls(path, data, parse_record(data, path))
