"""Parallel work in threads, with results in order and a bounded number of them in memory.

Threads suffice, because decoding (PyAV), hashing and array arithmetic release the GIL; nothing has to be pickled.

On a CPU, libraries choose their kernels, and thereby the rounding, by the number of threads. So everything that
affects a score computes on one thread: as many network passes as there are threads run in parallel (`mapped`),
and matrix decompositions run one after another (`one_thread`). The result then has the same bits on any number of
cores.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from vdm_bench.runtime.input_files import fault_of_the_machine

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

_POOLS = 3  # thread pools of NumPy, SciPy and torch, each with a thread per core
_MOST = 192  # threads that `check_threads` starts


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield `function(item)` for each item, in order; at most `2 * workers` items are in progress or waiting.

    An exception of `function` is raised in place of its result.
    """
    remaining = iter(items)
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="clips") as pool:
        try:
            for item in islice(remaining, 2 * workers):
                pending.append(pool.submit(function, item))
            while pending:
                result = pending.popleft().result()
                for item in islice(remaining, 1):
                    pending.append(pool.submit(function, item))
                yield result
        finally:
            for future in pending:
                future.cancel()


def check_threads() -> None:
    """Check that numerical libraries will be able to start their threads.

    If a thread cannot be started, these libraries end the process without a message.

    Raises:
        MachineError: a thread cannot be started.
    """
    chosen = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    per_pool = int(chosen) if chosen.isdecimal() else os.cpu_count() or 1
    done, started = threading.Event(), []
    try:
        for _ in range(min(_POOLS * per_pool, _MOST)):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise fault_of_the_machine(error) from error
    finally:
        done.set()
        for thread in started:
            thread.join()


class Stopped(Exception):  # noqa: N818 - it is not an error
    """The work on a batch is no longer needed, because another batch failed or the user interrupted."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, torch computes on one thread; afterwards the setting is restored.

    This costs little: the eigenvalues of a 2048 x 2048 matrix take 0.3 s on one thread and on two. If other
    processes keep the cores busy it is much faster, because torch's threads wait actively for each other: 400 x
    400 took a second on two threads, and 5 ms on one.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)  # the setting is partly global to the process


def mapped(
    work: Callable[[T], R],
    batches: Sequence[T],
    device: "torch.device",
    stop: threading.Event | None = None,
) -> list[R]:
    """Return the result of each batch, in order; on a CPU batches run in parallel, each on one thread.

    Args:
        work: computes one batch; it may check `stop` from time to time, and raise `Stopped` if it is set.
        batches: the inputs.
        device: where `work` computes.
        stop: set when a batch fails, so that the others end early.
    """
    import torch

    if device.type != "cpu":
        return [work(batch) for batch in batches]
    stop = stop or threading.Event()

    def attempt(batch: T) -> R:
        if stop.is_set():
            raise Stopped
        try:
            return work(batch)
        except BaseException:
            stop.set()  # here, because the thread that waits for results may notice it late
            raise

    threads = torch.get_num_threads()
    with one_thread(), ThreadPoolExecutor(threads, "batches", torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(attempt, batch) for batch in batches]
        try:
            return [future.result() for future in futures]
        except Stopped:
            pool.shutdown(cancel_futures=True)
            raise _cause(futures) from None
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _cause(futures: Sequence[Future[R]]) -> BaseException:
    """Return the exception that stopped the other batches, after all have ended."""
    errors = [future.exception() for future in futures if not future.cancelled()]
    return next((error for error in errors if error and not isinstance(error, Stopped)), Stopped())
