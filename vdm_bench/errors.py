"""The exceptions of the project: each says in one sentence what is wrong and how to fix it.

The command line prints only the message and exits with `exit_code`; a traceback is printed only with `--debug`.
The four parts of the project share this module, `vdm_bench.version` and `vdm_bench.runtime`, and nothing else.
"""

from collections.abc import Sequence

from vdm_bench.runtime.printable import printable

__all__ = [
    "BrokenClipError",
    "BrokenClipsError",
    "DamagedError",
    "InputError",
    "MachineError",
    "NotComparableError",
    "PeerError",
    "SlowWarning",
    "VdmBenchError",
]

_LONGEST = 10_000  # characters of a message: it may name many clips


class VdmBenchError(Exception):
    """Base class of all exceptions of this project; the message says how to fix the problem.

    The message is one printable line, for terminals, logs and CI systems: unprintable characters in names are
    escaped. `args` and the attributes keep the names unchanged.
    """

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__(), _LONGEST)


class InputError(VdmBenchError, ValueError):
    """An option, an argument or a file that cannot be used.

    The message names a parameter by its Python keyword in backquotes, as in "`limit` 1 is too few"; the command
    line replaces it by the option, `--limit`.
    """


class DamagedError(InputError):
    """A damaged file of this project: its content is not what was written.

    Attributes:
        path: path of the file.
        reason: what is wrong, in a few words, without the name of the file.
        way_out: how to fix it.
    """

    def __init__(self, path: object, reason: str, way_out: str) -> None:
        super().__init__(f"{path} is damaged: {reason}; {way_out}")
        self.path, self.reason, self.way_out = str(path), reason, way_out

    def __reduce__(self) -> tuple[type["DamagedError"], tuple[str, str, str]]:
        return type(self), (self.path, self.reason, self.way_out)


class MachineError(VdmBenchError):
    """A fault of the machine rather than of a file: too many open files, no memory, an unreadable disk.

    It stops the work; no clip is skipped because of it.
    """


class PeerError(VdmBenchError):
    """Another process of the job has stopped; running the same command again resumes the work."""

    exit_code = 75  # sysexits.h: EX_TEMPFAIL


class BrokenClipError(InputError):
    """A clip that cannot be read completely.

    Attributes:
        source: the file or folder, as the user named it.
        reason: why, in a few words, without the name of the file.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type["BrokenClipError"], tuple[str, str]]:
        return type(self), (self.source, self.reason)


class BrokenClipsError(InputError):
    """Clips of one source that cannot be read; all of them are named."""

    def __init__(self, where: str, total: int, broken: Sequence[BrokenClipError], way_out: str) -> None:
        # Clips of an array file have its name, and often the same reason.
        named = "; ".join(dict.fromkeys(f"{error.source}: {error.reason}" for error in broken))
        super().__init__(f"{len(broken)} of {total} clips in {where} cannot be read ({named}); {way_out}")
        self.broken = tuple(broken)


class SlowWarning(UserWarning):
    """A much faster way exists on this machine; the command line prints only the message."""


class NotComparableError(VdmBenchError):
    """Scores that must not be compared, for example with different signatures."""

    exit_code = 3
