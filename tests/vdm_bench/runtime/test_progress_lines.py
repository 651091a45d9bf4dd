"""Lines about a stage where there is no terminal: at least one every 30 seconds, whatever the work does."""

import sys
import threading

import pytest

from vdm_bench.runtime import progress
from vdm_bench.runtime.progress import Console


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("vdm_bench.runtime.progress.time.monotonic", clock)
    return clock


@pytest.fixture
def lines(clock: Clock) -> tuple[progress._Lines, list[str]]:
    said: list[str] = []
    return progress._Lines("features", 12, "passes", 2, 30.0, said.append), said


def test_a_line_is_due_every_30_seconds_also_without_a_step(
    clock: Clock, lines: tuple[progress._Lines, list[str]]
) -> None:
    """The first pass takes 65 seconds: until then the time so far is said, from then on the time left."""
    stage, said = lines
    assert stage.tick() == 30.0
    for now in (112.0, 130.0, 131.0, 160.0):
        clock.now = now
        stage.tick()
    assert said == ["features: 2 of 12 passes, 30 s so far", "features: 2 of 12 passes, 1 min so far"]
    clock.now = 165.0
    stage.advance(1)
    clock.now = 190.0
    assert stage.tick() == 30.0
    assert said[2:] == ["features: 3 of 12 passes, 0.0111 passes/s, 14 min left"]
    clock.now = 200.0
    assert stage.tick() == 20.0


def test_many_steps_make_few_lines(clock: Clock, lines: tuple[progress._Lines, list[str]]) -> None:
    stage, said = lines
    for _ in range(1000):
        clock.now += 0.1
        stage.advance(0)
        stage.tick()
    assert len(said) == 3
    stage.advance(10)
    stage.end()
    assert said[3:] == ["features: 10 passes in 2 min, 0.1 passes/s, 2 were there"]


def test_a_stage_speaks_while_its_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """The thread that prints ends with the stage."""
    with Console(every=0.01).stage("features", 3):
        threading.Event().wait(0.2)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "features: 0 of 3 clips, 0 s so far"
    assert said[-1].startswith("features: 0 clips in 0 s")
    for thread in threading.enumerate():
        if thread.name == "progress":
            thread.join(5)
            assert not thread.is_alive()


def test_the_time_left_is_shown_from_the_first_step_on(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bar; rich's own column shows none before the second."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Console().stage("features", 4, "passes") as advance:
        clock.now += 50.0
        advance(1)
    shown = capsys.readouterr().err
    assert "1/4" in shown
    assert "0.02 passes/s, 2 min left" in shown
