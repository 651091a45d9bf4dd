"""The run record: one JSON file with the scores of a run, and everything that they depend on.

Every record is validated. Unknown keys, NaN and infinity are refused: a score has either a value or a status
that says why it has none. A file may contain a checksum of its content, which reveals damage on disk; it is not
part of the record. The published JSON Schema is generated from the descriptions below:
`python -m vdm_bench.leaderboards.schema > leaderboards/record.schema.json`.
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
    # Checked before the union, because pydantic reports an error for each member of a union.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a setting must not be NaN or infinite")
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError("a setting is a text, a number, true, false or null")
    return encodable(value) if isinstance(value, str) else value


def _validate_score(score: Score, info: ValidationInfo) -> Score:
    if info.mode != "json":
        # Pydantic accepts an instance of a dataclass without validating its fields.
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
ValidScore = Annotated[Score, AfterValidator(_validate_score)]
Text = Annotated[str, AfterValidator(encodable)]
FilledText = Annotated[str, Field(min_length=1), AfterValidator(encodable)]
# Escaped before the pattern is checked, which needs text that UTF-8 can encode.
Name = Annotated[
    str,
    Field(min_length=1, max_length=_LONGEST_NAME, pattern=_NAME),
    BeforeValidator(lambda name: encodable(name) if isinstance(name, str) else name),
]
_NAMES = TypeAdapter(Name)
Setting = Annotated[str | int | float | bool | None, BeforeValidator(_one_setting)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
# Only in files: in memory it is None, so that equality does not depend on where an object came from.
FileChecksum = Annotated[
    str | None,
    AfterValidator(lambda _: None),
    Field(
        exclude=True,
        repr=False,
        description="XXH3 (128 bits, hexadecimal) of the rest of the object as JSON: sorted keys, no white "
        "space, ASCII only, integers without a decimal point; before it, its length as eight little-endian "
        "bytes. Optional: remove it if you edit the object.",
    ),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ProtocolInfo(_Part):
    """The protocol that a run followed."""

    name: FilledText = Field(description="Name of the protocol, such as `bair-prediction`.")
    digest: FilledText = Field(description="Digest of the protocol's canonical JSON.")
    departures: list[Text] = Field(
        description="How the run deviates from its protocol, such as `generated 64 of 2048 clips`."
    )


class SamplerInfo(_Part):
    """Where the generated clips came from."""

    kind: FilledText = Field(description="Kind of sampler, such as `baseline`, `callable` or `folder`.")
    spec: Text = Field(description="The sampler, as the user specified it.")
    settings: dict[Text, Setting] = Field(description="Settings of the sampler, by name.")
    seed: int | None = Field(ge=0, lt=2**63, description="Seed of the run, or null for existing clips.")


class Curve(_Part):
    """One value per frame of a clip."""

    frames: list[int] = Field(description="Indices of the frames, from 0; context frames are left out.")
    values: list[float] = Field(description="Mean over all clips, one per frame.")
    standard_errors: list[float] | None = Field(
        description="Standard error of each value over the conditioning clips; null if there is only one."
    )

    @model_validator(mode="after")
    def _a_value_a_frame(self) -> Self:
        if len({len(self.frames), len(self.values), len(self.standard_errors or self.frames)}) != 1:
            raise ValueError("a curve has one value, and one standard error, per frame")
        return self


class SkippedClip(_Part):
    """A clip that was expected but could not be scored."""

    source: Text = Field(description="File or folder of the clip, as the user gave it.")
    reason: FilledText = Field(description="Why it was skipped, in a few words.")


class ClipCounts(_Part):
    """Numbers of clips on one side of the comparison.

    Every expected clip is scored, skipped with a reason, or was never generated. The last are not listed, so
    scored and skipped clips together may be fewer than expected, but never more.
    """

    source: Text = Field(description="Where the clips came from: a path, a dataset or a sampler.")
    expected: Count = Field(description="Number of clips that the protocol asks for, or that the source holds.")
    scored: Count = Field(description="Number of clips that were scored.")
    skipped: list[SkippedClip] = Field(description="Expected clips that could not be scored.")
    repeated: Count = Field(description="Number of scored clips that repeat an earlier one.")
    lossy: bool = Field(description="Whether the clips were stored with lossy compression.")
    digest: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the SHA-256 digests of the scored clips, in order; null in older records, and if "
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
    """Software and hardware of the run; recorded, but not part of the signatures of the scores."""

    python: Text = Field(description="Version of Python.")
    platform: Text = Field(description="Operating system and architecture.")
    packages: dict[Text, Text] = Field(description="Versions of the relevant packages, by name.")
    device: Text = Field(description="Device that computed the features, such as `cpu` or the name of a GPU.")
    code_version: Text = Field(description="Version of vdm-bench.")
    code_revision: Text | None = Field(description="Git revision of its source, or null outside a checkout.")
    code_dirty: bool | None = Field(
        description="Whether the source had uncommitted changes, or null outside a checkout."
    )


class Record(_Part):
    """One run of vdm-bench: its scores, and everything that they depend on."""

    schema_version: Literal[1] = Field(description="Version of this format.")
    name: Name = Field(description="Name of the model in tables; one line.")
    created: AwareDatetime = Field(description="When the run finished, in UTC.")
    protocol: ProtocolInfo | None = Field(
        description="The protocol of the run, or null for a plain comparison of two sources."
    )
    sampler: SamplerInfo = Field(description="The sampler, or the source of existing clips.")
    reference: ClipCounts = Field(description="The real clips.")
    generated: ClipCounts = Field(description="The clips that were scored against them.")
    scores: list[ValidScore] = Field(description="One score per metric.")
    curves: dict[Text, Curve] = Field(
        default={}, description="Per-frame values of a prediction, by metric; empty in older records."
    )
    timing_seconds: dict[Text, Seconds] = Field(description="Wall-clock seconds per stage of the run.")
    environment: Environment = Field(description="Software and hardware of the run.")
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
            raise ValueError(f"{', '.join(sorted(twice))} appears more than once")
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
    """Refuse an invalid name of a run before any work is done; None and an empty text mean that there is none.

    Raises:
        InputError: the name is not one line of visible characters, or it is too long for a record.
    """
    if name not in (None, "") and not _is_name(name):
        raise InputError(
            f"{name!r} is not a name of a run; give one line of 1 to {_LONGEST_NAME} visible characters (--name)"
        )


def name_of(source: str) -> str:
    """Make a valid name from the source of clips, such as a path, which may contain any characters."""
    return source if _is_name(source) else printable(source if source.strip() else repr(source), _LONGEST_NAME)


def _is_name(name: object) -> bool:
    try:
        _NAMES.validate_python(name, strict=True)
    except ValidationError:
        return False
    return True


def write_record(record: Record, path: Path) -> None:
    """Write a record and its checksum as sorted, indented JSON, atomically; equal records give equal bytes."""
    write_text(path, json_text(sealed_record(record)))


def sealed_record(record: Record) -> dict[str, Any]:
    """Return the JSON object of a record, with its checksum."""
    return sealed(record.model_dump(mode="json"))


def require_unchanged(content: object, source: object, way_out: str) -> None:
    """Refuse the JSON object of a record that does not match its checksum.

    Args:
        content: the object as read. It may have no checksum, if an earlier version or another program wrote it.
        source: where it came from, for the error message.
        way_out: what the user can do, for the error message.

    Raises:
        DamagedError: the checksum does not match, or the content is not a JSON object.
    """
    way_out += f" (if you edited it on purpose, remove its line {CHECKSUM!r})"
    without_checksum(content, source, way_out, required=False)


def read_record(path: Path) -> Record:
    """Read a record and check every field.

    Raises:
        InputError: the file is missing, is not JSON, has a newer version, or is not a valid record.
        DamagedError: the content does not match its checksum.
    """
    return parse_record(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a record file, without parsing them.

    Raises:
        InputError: the file cannot be read.
    """
    return read_file(
        path,
        lambda source, reason: InputError(
            f"{source} cannot be read: {reason}; give a run folder, or the run.json in it"
        ),
    )


def parse_record(data: bytes, path: Path) -> Record:
    """Parse a record from `data`, the bytes of the file `path`; see `read_record`."""
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
    """Parse the JSON of a record, and refuse a duplicate key, of which Python would silently take the last.

    A merge that keeps both sides of a conflict produces such keys.

    Raises:
        InputError: a key appears twice.
    """
    return parse_strict_json(text, path, "leave one of the two, or run the benchmark again")


def parse_json(data: bytes, path: Path) -> Any:
    """Parse the JSON of a file that should contain records.

    Raises:
        InputError: it is not JSON.
    """
    text = decode_text(data, path)
    try:
        return pydantic_core.from_json(text)
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON: {error}; it may be truncated, so run the benchmark again"
        ) from error


def _check_version(content: Any, path: Path) -> None:
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{path} was written by a newer version of vdm-bench (schema_version {version}, this one reads "
            f"{SCHEMA_VERSION}); update vdm-bench to read it"
        )


def first_wrong_field(error: ValidationError) -> str:
    """Return one printable line that names the first invalid field and says why."""
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
    """Return JSON that is easy to read and to diff: sorted keys, and each list of numbers on one line."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # A JSON string contains no line end, so this matches only lists.
    return re.sub(r'\[\n\s+([^][{}"]*?)\n\s+\]', lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


@dataclass(frozen=True)
class StoredRecord:
    """A record and the file it was read from.

    Attributes:
        path: path of the file.
        data: bytes of the file.
        record: the record that they contain.
    """

    path: Path
    data: bytes
    record: Record

    @classmethod
    def read(cls, path: Path) -> "StoredRecord":
        """Read a record.

        Raises:
            InputError: it cannot be read, or is not valid.
        """
        data = read_bytes(path)
        return cls(path, data, parse_record(data, path))
