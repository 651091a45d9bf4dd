"""Identify the process that owns a temporary file or a lock, and find out whether it is still alive.

A process id alone is ambiguous: ids are reused, and another machine or container that shares the disk uses the
same ones. So an identity also has the machine, and the time at which the process started.
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

_FORM = re.compile(r"(?P<place>[0-9a-f]{8})-(?P<process>[1-9]\d{0,9})-(?P<begun>[0-9a-f]{1,16})")
_DEAD = "ZX"  # states of processes that have ended, and that their parent has not waited for yet


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, unique across reboots, machines and containers.

    Attributes:
        place: hash of host name, boot and process namespace, eight hexadecimal digits.
        process: process id.
        begun: start time in clock ticks since boot; 0 if the system does not report it.
    """

    place: str
    process: int
    begun: int

    @classmethod
    def current(cls) -> "ProcessIdentity":
        """Return the identity of this process."""
        return _this(os.getpid())

    @classmethod
    def parse(cls, text: str) -> "ProcessIdentity | None":
        """Parse the identity at the beginning of a text; None if there is none.

        >>> ProcessIdentity.parse(f"{ProcessIdentity.current()}-anything") == ProcessIdentity.current()
        True
        """
        match = _FORM.match(text)
        return cls(match["place"], int(match["process"]), int(match["begun"], 16)) if match else None

    def __str__(self) -> str:
        return f"{self.place}-{self.process}-{self.begun:x}"

    def is_alive(self) -> bool | None:
        """Return whether the process is alive; None if this cannot be found out from here."""
        if self.place != _place() or sys.platform == "win32":  # on Windows signal 0 is Ctrl-C
            return None
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # it is another user's
            pass
        state, begun = _state(self.process)
        return state not in _DEAD and begun in (0, self.begun)


@functools.cache
def _this(process: int) -> ProcessIdentity:
    return ProcessIdentity(_place(), process, _state(process)[1])


@functools.cache
def _place() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:8]


def _state(process: int) -> tuple[str, int]:
    """Return the letter of a process's state and its start time; ("?", 0) if the system does not report them."""
    try:
        # The program's name, in brackets, may contain anything, so split after the last bracket.
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, ValueError, IndexError):
        return "?", 0
