"""A record together with the file it was read from."""

from dataclasses import dataclass
from pathlib import Path

from vdm_bench.leaderboards.record import Record, parse_record, read_bytes


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
