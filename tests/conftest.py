"""Fixtures that the whole test tree shares."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, and no limit on the time of one: machines are shared.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written just now count as ones of yesterday: nothing else will write to them at once."""
    monkeypatch.setattr("vdm_bench.datasets.stamps.UNSETTLED_NS", 0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files that nobody on this project wrote; it stands beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the test data in {folder}")
    return folder
