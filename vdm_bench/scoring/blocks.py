"""Stored blocks of per-clip values: features and frame metrics.

A block is a safetensors file with arrays, facts in its header, and checksums of both. Its name is a hash of
everything that its values depend on, so a changed input never matches. A damaged block is treated like a missing
one: its values are computed again, even if the damage is noticed only while a score reads them. With several
processes, one computes a block and sends it to the others.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.runtime.checksums import save_arrays
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.files import discard, write_bytes
from vdm_bench.runtime.progress import Reporter

T = TypeVar("T")


@dataclass(frozen=True)
class BlockStore:
    """Blocks of one kind in a folder.

    Attributes:
        folder: their folder; each process may see a different one.
        holds: what they contain, for notes: `features`.
        reporter: receives a note about each damaged file.
        processes: processes that share the work.
    """

    folder: Path
    holds: str
    reporter: Reporter
    processes: ProcessGroup = field(default_factory=ProcessGroup)
    _noted: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)  # damaged files

    def find(self, path: Path, read: Callable[[Path], T], clips: int) -> T | None:
        """Read a block if it exists.

        Args:
            path: path of its file.
            read: reads it; raises a `DamagedError` if it is not the expected block.
            clips: number of clips in it, for notes.

        Returns:
            What `read` returns, or None if the block is missing or damaged.
        """
        try:
            return read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except InputError as error:
            damaged = Path(error.path) if isinstance(error, DamagedError) else path
        if os.path.lexists(damaged) and damaged not in self._noted:
            self._noted.add(damaged)
            self.give_up(damaged, clips)
        return None

    def read(self, path: Path, read: Callable[[Path], T], restore: Callable[[], None]) -> T:
        """Read a block that exists; if it has been damaged since, restore it and read it again.

        Args:
            path: path of its file.
            read: reads it; raises a `DamagedError` if it cannot.
            restore: computes its values again and writes them.

        Raises:
            DamagedError: the restored block cannot be read either.
        """
        try:
            return read(path)
        except DamagedError:
            restore()
            return read(path)

    def give_up(self, path: Path, clips: int) -> None:
        """Report that a file with the values of so many clips is damaged, and make room for a new one."""
        named = f"{clips} clip{'' if clips == 1 else 's'}"
        self.reporter.note(f"{self.holds} of {named} in {path} were damaged and are computed again")
        if not path.is_file():
            discard(path)

    def share(self, path: Path, owner: int) -> None:
        """Send a file from the process that has written it to all others."""
        if self.processes.size == 1:
            return
        mine = self.processes.rank == owner
        data = self.processes.broadcast(path.read_bytes() if mine else None, owner)
        if not mine:
            write_bytes(path, data)

    def lost(self) -> InputError:
        """Return the error for a block that is missing right after it was written."""
        return InputError(
            f"{self.holds} in {self.folder} were damaged as soon as they were written; check the disk"
        )


def write_block(path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write a block, atomically, readable by all who may read the folder."""
    # `save_file` makes files that only their owner may read, but the cache may be shared.
    write_bytes(path, save_arrays(arrays, facts))


def content_key(title: str, parts: Iterable[str]) -> str:
    """Return the name of a block: 40 hexadecimal digits of the SHA-256 of its title and parts, one per line."""
    digest = hashlib.sha256(title.encode())
    for part in parts:
        digest.update(f"\n{part}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:40]
