"""Several processes compute one score: each computes some blocks of clips, and they exchange the features.

The processes are started by `torchrun` or another launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT (and LOCAL_RANK on machines with several GPUs). They exchange bytes through gloo, on the CPU, because
features are small. Every process computes a block in the same way, so the score has the same bits for any number
of processes. If a process dies, the others stop with a message.

The command line joins the processes automatically. In Python, users call `join_processes()` in all processes. It
is not automatic there, because a training job that scores on rank 0 alone must not wait for the others.
"""

import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from vdm_bench.errors import InputError, VdmBenchError
from vdm_bench.errors import PeerError as PeerError
from vdm_bench.runtime.input_files import whole_number

# Longest wait for a process that is still alive, such as one with a slower disk.
PATIENCE = timedelta(hours=2)
# Longest wait for all processes to join. Before that, a dead process looks the same as a slow one.
JOINING = timedelta(minutes=10)
_MOST_PROCESSES, _LAST_PORT = 1_000_000, 65_535

_SHORTEST, _LONGEST = 1e-4, 0.02  # seconds between two checks whether an exchange has finished

_left: list[KeyboardInterrupt] = []  # interrupts that ended the wait for an unfinished exchange


class ProcessGroup:
    """The processes of a job.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None) -> None:
        self.rank, self.size, self._group = rank, size, group

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def owner(self, number: int) -> int:
        """Return the rank that computes work item `number`."""
        return number % self.size

    def broadcast(self, data: bytes | None, owner: int) -> bytes:
        """Send the bytes of the process `owner` to all, and return them; the others pass None.

        Raises:
            PeerError: a process has stopped.
        """
        if self.size == 1:
            return data or b""
        import torch
        import torch.distributed as dist

        with _peers():
            length = torch.tensor([len(data or b"")])
            _finish(dist.broadcast(length, owner, self._group, async_op=True))
            buffer = torch.frombuffer(bytearray(data or bytes(int(length))), dtype=torch.uint8)
            if len(buffer):
                _finish(dist.broadcast(buffer, owner, self._group, async_op=True))
            return buffer.numpy().tobytes()

    def all_true(self, flags: list[bool]) -> list[bool]:
        """Return, for each flag, whether it is set in every process.

        Raises:
            PeerError: a process has stopped.
        """
        if self.size == 1 or not flags:
            return flags
        import torch
        import torch.distributed as dist

        with _peers():
            agreed = torch.tensor(flags, dtype=torch.uint8)
            _finish(dist.all_reduce(agreed, dist.ReduceOp.MIN, self._group, async_op=True))
            return [bool(flag) for flag in agreed]

    def wait(self) -> None:
        """Wait until all processes call this.

        Raises:
            PeerError: a process has stopped.
        """
        self.all_true([True])

    def agree(self, ready: bool) -> None:
        """Return if all processes are `ready`; all of them must call this.

        Raises:
            PeerError: this process is ready and another is not.
        """
        if not self.all_true([ready])[0] and ready:
            raise PeerError(_STOPPED)


def _finish(work: Any) -> None:
    """Wait for an exchange in short steps, because signals are not handled while the library waits."""
    pause = _SHORTEST
    try:
        while not work.is_completed():
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)
    except KeyboardInterrupt as error:
        _left.append(error)
        raise
    work.wait()


_STOPPED = (
    "another process of this job has stopped, so this one stops too; its own message says why; rerun the "
    "same command to resume"
)


@contextmanager
def _peers(fault: str = _STOPPED) -> Iterator[None]:
    try:
        yield
    except VdmBenchError:
        raise
    except (RuntimeError, ValueError) as error:  # ValueError: impossible values in the environment
        raise PeerError(fault) from error


def join_processes() -> ProcessGroup:
    """Join the processes that the environment names; without such variables, return a group of one.

    Raises:
        InputError: a variable has an impossible value.
        PeerError: the other processes cannot be reached.
    """
    size = _number("WORLD_SIZE", 1, _MOST_PROCESSES, default=1)
    if size == 1:
        return ProcessGroup()
    import torch.distributed as dist

    place = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    fault = f"the {size} processes of this job did not come together at {place}; start all of them again"
    with _peers(fault):
        if not dist.is_initialized():
            _number("RANK", 0, size - 1)
            _number("MASTER_PORT", 1, _LAST_PORT)
            dist.init_process_group("gloo", timeout=JOINING)
            atexit.register(_leave)
        # A separate group, because that of a training job mostly uses NCCL, which does not work on the CPU.
        return ProcessGroup(
            dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=PATIENCE)
        )


def _number(name: str, least: int, most: int, default: int | None = None) -> int:
    """Read a variable that job launchers set; torch's own error for a wrong value does not name the variable."""
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    value = None if text is None else whole_number(text)
    if value is not None and least <= value <= most:
        return value
    found = "not set" if text is None else repr(text[:20])
    raise InputError(
        f"the variable {name} is {found}, and must be a whole number from {least} to {most}; start the processes "
        "by torchrun, or unset WORLD_SIZE"
    )


def _leave() -> None:
    """End the threads of the process groups; otherwise the process sometimes aborts when the interpreter ends."""
    import torch.distributed as dist

    if _left:
        # torch would wait for the exchange to finish, that is, for a process that may compute for hours.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(128 + getattr(_left[-1], "signal", signal.SIGINT))
    if dist.is_initialized():
        dist.destroy_process_group()


def local_device(device: str) -> str:
    """Return this process's own GPU if `device` is `cuda` and several processes run on the machine."""
    local_rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{local_rank}" if device == "cuda" and local_rank is not None else device
