"""Real processes that die at chosen points: just before a file operation, or in the middle of a file.

File operations are counted by an audit hook, so the code under test knows nothing of it. Processes are forked
from a server that has imported everything already: a kill costs a fraction of a second. A sampler's child imports
this module, too, so it needs the standard library alone.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

VARIABLE = "KILL_OF_TESTS"  # a child of the process under test learns from it where to die
_CHANGES = ("os.rename", "os.remove", "os.chmod", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_NOT_FLUSHED = 120  # Python's exit code where that fails


@dataclass(frozen=True)
class Kill:
    """Where a process dies.

    Attributes:
        event: the file operation below `watched` that it does not live to do, counted from 1.
        torn: instead, it does that operation and dies in the first file that grows beyond so many bytes.
    """

    event: int
    torn: int | None = None

    def to_text(self) -> str:
        """Give what `VARIABLE` holds."""
        return json.dumps(asdict(self))


def arm(kill: Kill | None, watched: Sequence[str]) -> list[int]:
    """Count this process's file operations below the watched folders, and die where told.

    Returns:
        A list of one number, which is always the count so far.
    """
    count = [0]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if kill is not None and kill.torn is not None:  # Python ignores it: a file that is too long would be an error
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not _changes(event, arguments) or not _place(arguments[0]).startswith(tuple(watched)):
            return
        count[0] += 1
        if kill is None or count[0] != kill.event:
            return
        if kill.torn is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            sys.dont_write_bytecode = True  # it would be cut short, and kept
            resource.setrlimit(resource.RLIMIT_FSIZE, (kill.torn, resource.RLIM_INFINITY))

    sys.addaudithook(hook)
    return count


def arm_by_environment(watched: Sequence[str]) -> None:
    """Arm a sampler's child, where `VARIABLE` is set."""
    if text := os.environ.get(VARIABLE):
        arm(Kill(**json.loads(text)), watched)


def noise(request: Any) -> Any:
    """A sampler that dies where `DIE_AT` says rank/first clip."""
    import numpy as np

    if os.environ.get("DIE_AT") == f"{os.environ.get('RANK')}/{request.indices[0]}":
        os.kill(os.getpid(), signal.SIGKILL)
    shape = (request.frames, request.height, request.width, 3)
    clips = np.stack([np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in request.seeds])
    clips[:, : request.context.shape[1]] = request.context
    return clips


def _place(named: Any) -> str:
    """Name a file that is operated on; a descriptor is its number."""
    return str(named) if isinstance(named, int) else os.path.abspath(os.fsdecode(named))  # noqa: PTH100 - no links


def _changes(event: str, arguments: tuple[object, ...]) -> bool:
    if event != "open":
        return event in _CHANGES
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def start(
    arguments: Sequence[str],
    watched: Sequence[Path],
    log: Path,
    environment: Mapping[str, str],
    kill: Kill | None,
    *,
    errors: Path | None = None,
    setup: Callable[[], None] | None = None,
    preload: Sequence[str] = (),
) -> ForkServerProcess:
    """Start the command line in a process of its own.

    Args:
        arguments: of `vdm-bench`.
        watched: folders whose file operations count.
        log: file that gets what it prints, and in its last line the number of operations.
        environment: variables besides those of the server.
        kill: where it dies, if anywhere.
        errors: file that gets its standard error, instead of `log`.
        setup: called before the command line begins.
        preload: modules that the server imports besides, where this is the first process that it starts.
    """
    context = multiprocessing.get_context("forkserver")
    # All that a run imports on its way: it shall not import in every process anew.
    context.set_forkserver_preload(["vdm_bench.cli", "vdm_bench.runs.run", "av", *preload])
    names = [str(folder) for folder in watched]
    place = (list(arguments), names, log, errors, dict(environment), kill, setup)
    process = context.Process(target=_command_line, args=place)
    process.start()
    return process


def _command_line(
    arguments: list[str],
    watched: list[str],
    log: Path,
    errors: Path | None,
    environment: dict[str, str],
    kill: Kill | None,
    setup: Callable[[], None] | None,
) -> None:
    from vdm_bench.cli import main

    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if errors is not None:
        with errors.open("w") as file:
            os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    if setup is not None:
        setup()
    count, status = arm(kill, watched), 0
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as error:
        status = int(error.code or 0)
    status = _flushed(status)
    with contextlib.suppress(OSError):
        os.write(1, f"\n{count[0]}".encode())
    sys.exit(status)


def _flushed(status: int) -> int:
    """Write what is still to be written, as Python does at its end; return the exit code that comes of it."""
    for name in ("stdout", "stderr"):
        try:
            if stream := getattr(sys, name):
                stream.flush()
        except OSError:
            status = _NOT_FLUSHED
            setattr(sys, name, None)
    return status
