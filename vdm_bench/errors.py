"""The project's family of exceptions: what a person can mend, said in one sentence.

The command line prints the message alone and ends with `exit_code`; a traceback appears only with
`--debug`. The four parts of the project share this module and `vdm_bench.runtime`, and nothing else.
"""

from collections.abc import Sequence

from vdm_bench.runtime.printable import printable

_LONGEST = 10_000  # characters of a message: it may name many clips


class VdmBenchError(Exception):
    """Base of every error this project raises on purpose; the message names the way out.

    The message is one printable line, whatever names it holds: it goes to terminals, logs and CI systems. `args`
    and the attributes hold names as they are.
    """

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__(), _LONGEST)


class InputError(VdmBenchError, ValueError):
    """An option, an argument or a file that cannot be used as given.

    The message names a parameter by its Python keyword in backquotes, as in "`limit` 1 is too few"; the command
    line puts its own name for it, `--limit`, in that place.
    """


class DamagedError(InputError):
    """A file of this project whose bytes are not those that were written.

    Attributes:
        path: of the file.
        reason: why, in a few words and without the name of the file.
    """

    def __init__(self, path: object, reason: str, way_out: str) -> None:
        super().__init__(f"{path} is damaged: {reason}; {way_out}")
        self.path, self.reason, self.way_out = str(path), reason, way_out

    def __reduce__(self) -> tuple[type["DamagedError"], tuple[str, str, str]]:
        return type(self), (self.path, self.reason, self.way_out)


class MachineError(VdmBenchError):
    """A fault of the machine and not of a file: too many open files, no memory, a disk that cannot be read.

    It ends the work; nothing is skipped because of it.
    """


class PeerError(VdmBenchError):
    """Another process of the job has stopped; to run again goes on with what is there."""

    exit_code = 75  # sysexits.h: EX_TEMPFAIL


class BrokenClipError(InputError):
    """One clip that cannot be read whole.

    Attributes:
        source: the file or folder, as the user named it.
        reason: why, in a few words and without the name of the file.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type["BrokenClipError"], tuple[str, str]]:
        return type(self), (self.source, self.reason)


class BrokenClipsError(InputError):
    """Several clips of one source that cannot be read; all of them are named."""

    def __init__(self, where: str, total: int, broken: Sequence[BrokenClipError], way_out: str) -> None:
        # Clips of one array have the name of its file, and often one reason.
        named = "; ".join(dict.fromkeys(f"{error.source}: {error.reason}" for error in broken))
        super().__init__(f"{len(broken)} of {total} clips in {where} cannot be read ({named}); {way_out}")
        self.broken = tuple(broken)


class SlowWarning(UserWarning):
    """What was asked for takes far longer here than another way; the command line prints its sentence."""


class NotComparableError(VdmBenchError):
    """Two scores, or a score and a baseline, that must not be compared."""

    exit_code = 3
