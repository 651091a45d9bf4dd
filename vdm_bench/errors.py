"""The project's family of exceptions: what a person can mend, said in one sentence.

The command line prints the message alone and ends with `exit_code`; a traceback appears only with
`--debug`. The four parts of the project share this module, `vdm_bench.files` and `vdm_bench.bfloat16`, and
nothing else.
"""

from collections.abc import Sequence


class VdmBenchError(Exception):
    """Base of every error this project raises on purpose; the message names the way out."""

    exit_code = 2


class InputError(VdmBenchError, ValueError):
    """An option, an argument or a file that cannot be used as given."""


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
