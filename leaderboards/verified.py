"""The note that `vdm-bench verify` leaves beside a record whose scores it has computed again.

It counts for the very bytes that were verified, and for nothing else: where the record was changed since, it is
as if there were none. It is no signature. Whoever publishes verified rows runs `vdm-bench verify` and takes over
nobody's `verified.json`.
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
    record_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the bytes of the record.")
    verified: AwareDatetime = Field(description="When, in UTC.")
    code_version: str = Field(description="Version of vdm-bench that verified.")
    device: str = Field(description="Device that computed.")
    protocol: str = Field(description="Name of the protocol.")
    clips: Annotated[int, Field(ge=1)] = Field(description="Clips whose content was compared with the record.")
    computed_again: Annotated[int, Field(ge=1)] = Field(description="Clips whose features were computed again.")
    seed: Annotated[int, Field(ge=0)] = Field(description="By which these were chosen.")
    checks: dict[str, str] = Field(description="What was found, by check.")
    checksum: FileChecksum = None


def record_digest(data: bytes) -> str:
    """Return the SHA-256 that a note holds, of the bytes of a record."""
    return hashlib.sha256(data).hexdigest()


def verified_file(record: Path) -> Path:
    """Return the path of the note on a record."""
    return record.with_name(VERIFICATION_FILE)


def is_verified(record: Path, data: bytes) -> bool:
    """Say whether a note beside the record `record` says that its bytes, `data`, were verified.

    Raises:
        InputError: there is a note, and it is damaged or cannot be read.
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
    """Write a note beside a record, atomically; give its path."""
    write_json(verified_file(record), verification.model_dump(mode="json"))
    return verified_file(record)
