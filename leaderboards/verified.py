"""`verified.json`, the note that `vdm-bench verify` writes next to a record whose scores it has recomputed.

The note is valid only for the exact bytes that were verified; if the record changes, the note is ignored. It is
not signed: if you publish verified results, run `vdm-bench verify` yourself and accept nobody's `verified.json`.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from vdm_bench.errors import DamagedError
from vdm_bench.leaderboards.record import FileChecksum, first_wrong_field
from vdm_bench.runtime.checksums import read_json, write_json
from vdm_bench.runtime.run_folder import VERIFICATION_FILE

_WAY_OUT = "run `vdm-bench verify` again"


class Verification(BaseModel):
    """What was verified, when, and by which version."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1] = Field(default=1, description="Version of this format.")
    record_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the record file.")
    verified: AwareDatetime = Field(description="When it was verified, in UTC.")
    code_version: str = Field(description="Version of vdm-bench that verified it.")
    device: str = Field(description="Device that recomputed the features.")
    protocol: str = Field(description="Name of the protocol.")
    clips: Annotated[int, Field(ge=1)] = Field(description="Number of clips compared with the record.")
    computed_again: Annotated[int, Field(ge=1)] = Field(
        description="Number of clips whose features were recomputed."
    )
    seed: Annotated[int, Field(ge=0)] = Field(description="Seed that selected these clips.")
    checks: dict[str, str] = Field(description="Result of each check, by name.")
    checksum: FileChecksum = None


def record_digest(data: bytes) -> str:
    """Return the SHA-256 of the bytes of a record, as a note stores it."""
    return hashlib.sha256(data).hexdigest()


def verified_file(record: Path) -> Path:
    """Return the path of the note for a record."""
    return record.with_name(VERIFICATION_FILE)


def is_verified(record: Path, data: bytes) -> bool:
    """Return whether there is a note next to the record file `record` for its bytes `data`.

    Raises:
        InputError: the note is damaged or cannot be read.
    """
    path = verified_file(record)
    try:
        content = read_json(path, _WAY_OUT, required=False)
        found = Verification.model_validate_json(json.dumps(content))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValidationError as error:
        raise DamagedError(path, first_wrong_field(error), _WAY_OUT) from error
    return found.record_sha256 == record_digest(data)


def write_verification(verification: Verification, record: Path) -> Path:
    """Write a note next to a record, atomically, and return its path."""
    write_json(verified_file(record), verification.model_dump(mode="json"))
    return verified_file(record)
