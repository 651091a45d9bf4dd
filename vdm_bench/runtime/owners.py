"""Whose a temporary file or a lock is, and whether that process still lives.

A process number alone does not tell: numbers are given again, and another machine or container that shares the
disk has the same ones. So a number counts only where it was given, and together with the time its process began.
"""

import functools
import hashlib
import os
import re
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER_LOCK = ".vdm-bench.lock"  # the file, in a folder that one process at a time writes into

_FORM = re.compile(r"(?P<place>[0-9a-f]{8})-(?P<process>[1-9]\d{0,9})-(?P<begun>[0-9a-f]{1,16})")
_DEAD = "ZX"  # states of processes that have ended, and whose parent has not asked for them yet


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        place: eight digits for a machine since it was started, and the view of processes it was seen in.
        process: its number.
        begun: when it began, in ticks since the machine was started; 0 where the system does not tell.
    """

    place: str
    process: int
    begun: int

    @classmethod
    def here(cls) -> "Owner":
        """Return this process."""
        return _this(os.getpid())

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """Find an owner at the beginning of a text; None where there is none.

        >>> Owner.parse(f"{Owner.here()}-anything") == Owner.here()
        True
        """
        match = _FORM.match(text)
        return cls(match["place"], int(match["process"]), int(match["begun"], 16)) if match else None

    def __str__(self) -> str:
        return f"{self.place}-{self.process}-{self.begun:x}"

    def lives(self) -> bool | None:
        """Say whether the process lives; None where that cannot be told from here."""
        if self.place != _place() or sys.platform == "win32":  # where signal 0 would be Ctrl-C
            return None
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # somebody else's
            pass
        state, begun = _state(self.process)
        return state not in _DEAD and begun in (0, self.begun)


@functools.cache
def _this(process: int) -> Owner:
    return Owner(_place(), process, _state(process)[1])


@functools.cache
def _place() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:8]


def _state(process: int) -> tuple[str, int]:
    """Return the letter of a process's state, and when it began; ("?", 0) where the system does not tell."""
    try:
        # What stands before the last bracket is the program's name, which may hold anything.
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, ValueError, IndexError):
        return "?", 0
