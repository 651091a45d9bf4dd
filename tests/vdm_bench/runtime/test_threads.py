"""One thread for whatever makes a number; passes side by side, results in order."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from vdm_bench.errors import InputError
from vdm_bench.runtime.threads import Stopped, mapped, one_thread


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_error_that_stopped_the_others_is_the_one_raised(
    two_threads: None,
) -> None:
    """The first batch hears of the second one's failure, and the third is never begun."""
    stop, begun = threading.Event(), list[int]()

    def work(batch: int) -> int:
        begun.append(batch)
        if batch == 1:
            raise InputError("the disk is full")
        assert stop.wait(30)
        raise Stopped

    with pytest.raises(InputError, match="the disk is full"):
        mapped(work, range(20), torch.device("cpu"), stop)
    assert sorted(begun) == [0, 1]


def test_passes_run_side_by_side_on_one_thread_each(two_threads: None) -> None:
    together, threads = threading.Barrier(2, timeout=30), set[int]()

    def work(batch: int) -> int:
        together.wait()  # breaks where a pass waits for the end of another
        threads.add(torch.get_num_threads())
        return 10 * batch

    assert mapped(work, range(4), torch.device("cpu")) == [0, 10, 20, 30]
    assert (threads, torch.get_num_threads()) == ({1}, 2)


def test_the_number_of_threads_is_restored_after_an_error(two_threads: None) -> None:
    def fail() -> None:
        with one_thread():
            raise InputError(f"on {torch.get_num_threads()} thread")

    with pytest.raises(InputError, match="on 1 thread"):
        fail()
    assert torch.get_num_threads() == 2


def test_torch_is_loaded_only_where_it_computes() -> None:
    code = "import sys, vdm_bench.runtime.threads; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
