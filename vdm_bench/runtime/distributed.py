"""Several processes for one score: blocks are shared out, and their features are exchanged.

The processes are started by `torchrun` or anything else that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT
(and LOCAL_RANK on machines with several GPUs). They exchange bytes through gloo, on the CPU: features are small,
and a block is computed in the same way whoever does it, so the score is the same to the last bit for any number
of processes. A process that dies makes the others stop with a message.

The command line joins the processes by itself. In Python `join_processes()` is called by the user, in all
processes: whoever scores on rank 0 alone, inside a training job, must not wait for the others.
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
from vdm_bench.runtime.outside import whole_number

# Longest wait for a process that is still alive, such as one with a slower disk.
PATIENCE = timedelta(hours=2)
# And for all to come together: who dies before that cannot be told from who is slow.
JOINING = timedelta(minutes=10)
_MOST_PROCESSES, _LAST_PORT = 1_000_000, 65_535

_SHORTEST, _LONGEST = 1e-4, 0.02  # seconds between two looks whether an exchange is finished

_left: list[KeyboardInterrupt] = []  # what has ended the wait for an exchange that was still going on


class ProcessGroup:
    """The processes of a job.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None) -> None:
        self.rank, self.size, self._group = rank, size, group

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def owner(self, number: int) -> int:
        """Return the rank that does the piece of work `number`."""
        return number % self.size

    def broadcast(self, data: bytes | None, owner: int) -> bytes:
        """Return every process the bytes of its `owner`; the others pass None.

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
        """Give, for each flag, whether it is set in every process.

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
        """Wait until all processes are here.

        Raises:
            PeerError: a process has stopped.
        """
        self.all_true([True])

    def agree(self, well: bool) -> None:
        """Go on only if every process may; all of them call it.

        Raises:
            PeerError: this one may, and another may not.
        """
        if not self.all_true([well])[0] and well:
            raise PeerError(_STOPPED)


def _finish(work: Any) -> None:
    """Wait for an exchange, in short steps: a process that waits in the library hears of no signal."""
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
    except (RuntimeError, ValueError) as error:  # ValueError: what the environment says of them cannot be
        raise PeerError(fault) from error


def join_processes() -> ProcessGroup:
    """Join the processes that the environment names; alone where it names none.

    Raises:
        InputError: a variable that names them cannot be one.
        PeerError: the others cannot be reached.
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
        # A group of our own: that of a training job is NCCL's mostly, which does not serve the CPU.
        return ProcessGroup(
            dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=PATIENCE)
        )


def _number(name: str, least: int, most: int, default: int | None = None) -> int:
    """Read a variable that starters of jobs set; torch's own words for a wrong one name none."""
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
    """End the threads of the process groups: where the interpreter ends first, the process aborts at times."""
    import torch.distributed as dist

    if _left:
        # torch would wait for the end of the exchange, that is, for a process that may compute for hours.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(128 + getattr(_left[-1], "signal", signal.SIGINT))
    if dist.is_initialized():
        dist.destroy_process_group()


def local_device(device: str) -> str:
    """Return this process's own GPU where `device` is `cuda` and a machine runs several processes."""
    local_rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{local_rank}" if device == "cuda" and local_rank is not None else device
