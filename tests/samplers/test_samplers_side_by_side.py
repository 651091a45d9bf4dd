import threading

import pytest
import torch

from vdm_bench.errors import InputError
from vdm_bench.runtime.threads import Stopped, mapped


def test_the_error_that_stopped_the_others_is_raised_and_not_that_they_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first batch hears of the second one's failure, and the third is never begun."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
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
