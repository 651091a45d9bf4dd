"""Processes that start together, for tests of what they do to one another in one folder or file."""

import contextlib
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from vdm_bench.runtime.progress import Advance

LONGEST = 120.0  # seconds that a race may take

# What work imports on its way, so that it comes to its races at once.
PRELOADED = (
    *("accelerate", "av", "filelock", "vdm_bench.leaderboards.checks.check", "vdm_bench.generation.generate"),
    "vdm_bench.protocols.prepare",
    *("vdm_bench.reference_model.training.loop", "vdm_bench.runs.run", "vdm_bench.training.data"),
)


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        process: its number.
        status: negative after a signal.
        said: all that it printed.
    """

    process: int
    status: int
    said: str


class Gated:
    """A reporter that lets no stage begin until its gate, a file, is there."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips", *, found: int = 0) -> Iterator[Advance]:
        """Wait for the gate."""
        wait_for(self._gate)
        yield lambda steps: None

    def note(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + LONGEST
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)


def race(
    work: Callable[..., object],
    each: Sequence[Sequence[Any]],
    logs: Path,
    *,
    gate: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[Ended]:
    """Let a process for each list of arguments do a piece of work, all from the same moment on.

    Args:
        work: a function of a module; the project's errors become exit codes as in the command line.
        each: its arguments.
        logs: folder for what they print.
        gate: made once all but one have ended.
        environment: variables beside those of the server.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vdm_bench.cli", *PRELOADED])
    start = context.Barrier(len(each))
    logs.mkdir(parents=True, exist_ok=True)
    places = [logs / f"{number}.log" for number in range(len(each))]
    settings = {**os.environ, **(environment or {})}
    processes = [
        context.Process(target=_take_part, args=(work, list(arguments), start, place, settings))
        for arguments, place in zip(each, places, strict=True)
    ]
    for process in processes:
        process.start()
    try:
        _see_out({process.sentinel for process in processes}, gate)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [
        Ended(process.pid or 0, process.exitcode or 0, place.read_text() if place.exists() else "")
        for process, place in zip(processes, places, strict=True)
    ]


def command_line(*arguments: str) -> None:
    """Do what `vdm-bench` does."""
    from vdm_bench.cli import cli

    cli(list(arguments))


def _see_out(running: set[int], gate: Path | None) -> None:
    deadline = time.monotonic() + LONGEST
    while running:
        if gate is not None and len(running) == 1:
            gate.touch()
        ended = wait(list(running), deadline - time.monotonic())
        assert ended, "they hang"
        running -= {sentinel for sentinel in ended if isinstance(sentinel, int)}


def _take_part(
    work: Callable[..., object], arguments: list[Any], start: Any, log: Path, environment: Mapping[str, str]
) -> None:
    from vdm_bench.errors import VdmBenchError

    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    start.wait(LONGEST)
    try:
        work(*arguments)
    except VdmBenchError as error:
        print(f"Error: {error}", flush=True)
        sys.exit(error.exit_code)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(70)
