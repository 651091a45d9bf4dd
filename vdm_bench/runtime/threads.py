"""Work in parallel threads, results in order, a bounded number of them at a time.

Threads, because decoding (PyAV), hashing and array arithmetic let other threads run; nothing has to be
pickled, and a dataset needs no care to be used from a pool.

On a CPU, libraries choose their kernels, and with them the rounding, by the number of threads. So whatever makes
a number computes on one thread: passes through a network run side by side, as many as there are threads
(`mapped`), and decompositions of matrices one after another (`one_thread`). Then the result is the same to the
last bit on any number of cores.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from vdm_bench.runtime.outside import fault_of_the_machine

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

_POOLS = 3  # of NumPy's, SciPy's and torch's libraries, each with a thread a core
_MOST = 192  # threads that are tried


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield `function(item)` for each item, in order; at most `2 * workers` items are under way or waiting.

    An exception in `function` is raised where its result would have come.
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
    """Refuse to begin where numerical libraries cannot have their threads.

    These end the process when one cannot be started, each in its way: by exit code 1, or as if by Ctrl-C.

    Raises:
        MachineError: a thread cannot be started.
    """
    chosen = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    each = int(chosen) if chosen.isdecimal() else os.cpu_count() or 1
    over, started = threading.Event(), []
    try:
        for _ in range(min(_POOLS * each, _MOST)):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise fault_of_the_machine(error) from error
    finally:
        over.set()
        for thread in started:
            thread.join()


class Stopped(Exception):  # noqa: N818 - it is no error
    """The work of a batch is not needed any more: another has failed, or the user has interrupted."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread, and restore the setting.

    Little is lost: eigenvalues of 2048 x 2048 take 0.3 s on one thread and on two. Where other processes keep the
    cores busy much is won, since torch's threads wait for each other actively: 400 x 400 was seen to take a
    second on two, for 5 ms on one.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)  # part of the setting belongs to the process, not to the thread


def mapped(
    work: Callable[[T], R],
    batches: Sequence[T],
    device: "torch.device",
    stop: threading.Event | None = None,
) -> list[R]:
    """Return the result of each batch, in order: on a CPU side by side, each on one thread.

    Args:
        work: computes one batch; it may look at `stop` now and then, and raise `Stopped` if it is set.
        batches: what each is made of.
        device: where it is computed.
        stop: is set when one has failed, so that the others end early.
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
            stop.set()  # here, as the thread that waits for results may be slow to hear of it
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
    """Return the error that has stopped the others, once all have ended."""
    errors = [future.exception() for future in futures if not future.cancelled()]
    return next((error for error in errors if error and not isinstance(error, Stopped)), Stopped())
