"""Batches computed so that the number of threads does not show in a bit of the result.

On a CPU, libraries choose their kernels, and with them the rounding, by the number of threads. So a batch takes
one thread there, and as many batches run side by side as there are threads.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):  # noqa: N818 - it is no error
    """The work of a batch is not needed any more: another has failed, or the user has interrupted."""


def mapped(work: Callable[[T], R], batches: Sequence[T], device: torch.device, stop: threading.Event) -> list[R]:
    """Do the work of each batch, and give the results in order.

    Args:
        work: computes one batch; it looks at `stop` now and then, and raises `Stopped` if it is set.
        batches: what each is made of.
        device: where it is computed.
        stop: is set when one has failed, so that the others end early.
    """
    if device.type != "cpu":
        return [work(batch) for batch in batches]

    def attempt(batch: T) -> R:
        if stop.is_set():
            raise Stopped
        try:
            return work(batch)
        except BaseException:
            stop.set()  # here, as the thread that waits for results may be slow to hear of it
            raise

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "batches", torch.set_num_threads, (1,)) as pool:
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
    finally:
        torch.set_num_threads(threads)  # part of the setting belongs to the process, not to the thread


def _cause(futures: Sequence[Future[R]]) -> BaseException:
    """Return the error that has stopped the others, once all have ended."""
    errors = [future.exception() for future in futures if not future.cancelled()]
    return next((error for error in errors if error and not isinstance(error, Stopped)), Stopped())
