"""Stored blocks of values of clips: features, and frame metrics.

A block is a safetensors file of arrays with facts in its header and checksums of it all. It is named by a hash
over everything that its values depend on, so that nothing that has changed is ever taken for the same. A block
that is missing and one that is damaged are the same to its reader: the values are computed again, even where the
damage shows only as they are read for a score. Where several processes work together, one computes a block, and
then all have it.
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
        folder: where they lie; each process may see another.
        holds: what they hold, as notes name it: `features`.
        reporter: gets a note of each damaged file.
        processes: the processes that share the work.
    """

    folder: Path
    holds: str
    reporter: Reporter
    processes: ProcessGroup = field(default_factory=ProcessGroup)
    _noted: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)  # damaged files

    def find(self, path: Path, read: Callable[[Path], T], clips: int) -> T | None:
        """Read a block that may be there.

        Args:
            path: of its file.
            read: reads it; raises a `DamagedError` where it is not the block that is wanted.
            clips: whose values it holds, for notes.

        Returns:
            What `read` returns, or None where the block is missing or damaged.
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
        """Read a block that was there; where it is damaged since, read it once more when it is restored.

        Args:
            path: of its file.
            read: reads it; raises a `DamagedError` where it cannot.
            restore: computes its values again, and writes them.

        Raises:
            DamagedError: the restored block cannot be read either.
        """
        try:
            return read(path)
        except DamagedError:
            restore()
            return read(path)

    def give_up(self, path: Path, clips: int) -> None:
        """Say that a file of the values of so many clips is damaged, and make room for another."""
        named = f"{clips} clip{'' if clips == 1 else 's'}"
        self.reporter.note(f"{self.holds} of {named} in {path} were damaged and are computed again")
        if not path.is_file():
            discard(path)

    def share(self, path: Path, owner: int) -> None:
        """Bring a file from the process that has written it to all others."""
        if self.processes.size == 1:
            return
        mine = self.processes.rank == owner
        data = self.processes.broadcast(path.read_bytes() if mine else None, owner)
        if not mine:
            write_bytes(path, data)

    def lost(self) -> InputError:
        """Return the error that says that a block that has just been written is not there."""
        return InputError(
            f"{self.holds} in {self.folder} were damaged as soon as they were written; check the disk"
        )


def write_block(path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write a block, atomically, readable by all who may read the folder."""
    # `save_file` would make a file that only its owner may read, and the cache may be shared.
    write_bytes(path, save_arrays(arrays, facts))


def content_key(title: str, parts: Iterable[str]) -> str:
    """Return the name of a block: 40 hexadecimal digits of the SHA-256 over its title and parts, a line each."""
    digest = hashlib.sha256(title.encode())
    for part in parts:
        digest.update(f"\n{part}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:40]
