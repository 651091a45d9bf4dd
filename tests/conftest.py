"""Fixtures that the whole test tree shares."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from paths import ROOT

from vdm_bench.runtime.bfloat16 import cpu_computes_bfloat16

# Processes that tests start import functions of test modules by names such as `tests.metrics.test_modules`. It is
# the last of the paths, so that the installed package is tested.
sys.path.append(str(ROOT))

# The same examples in every run, and no limit on the time of one: machines are shared.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


def pytest_configure() -> None:
    """Give the tests, and the programs that they start, the signals of a terminal.

    What is started in the background or by `nohup` ignores some of them, and so would all of its children.
    """
    usual = {"SIGINT": signal.default_int_handler, "SIGQUIT": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    for name, handler in usual.items():
        number = getattr(signal, name, None)  # Windows has only the first
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what a CPU without bfloat16 computes tens of times slower."""
    if item.get_closest_marker("bfloat16") and not cpu_computes_bfloat16():
        pytest.skip("this CPU has no bfloat16 arithmetic")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for this process of the tests, so that neither the user's nor another process's plays a part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written just now count as ones of yesterday: nothing else will write to them at once."""
    monkeypatch.setattr("vdm_bench.runtime.stamps.UNSETTLED_NS", 0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files that nobody on this project wrote; it stands beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the test data in {folder}")
    return folder


@pytest.fixture
def elsewhere() -> Iterator[torch.device]:
    """A device that refuses to be mixed with the CPU."""
    from other_device import other_device  # torch's compiler comes with it

    with other_device() as device:
        yield device
