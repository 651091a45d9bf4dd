"""What is said while something takes long."""

import sys

import pytest

from vdm_bench.runtime.progress import Console, duration


def test_times_are_said_in_words() -> None:
    assert [duration(s) for s in (59.4, 59.6, 3599, 5400, 86399, 90000)] == [
        "59 s",
        "1 min",
        "1 h 0 min",
        "1 h 30 min",
        "1 d 0 h",
        "1 d 1 h",
    ]


def test_a_stage_says_how_far_it_is_and_how_long_it_will_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock of the test's own: ten clips in 20 seconds, said every 45."""
    now = 100.0
    monkeypatch.setattr("vdm_bench.runtime.progress.time.monotonic", lambda: now)
    with Console(every=45.0).stage("samples", 50) as advance:
        for _ in range(5):
            now += 20.0
            advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "samples: 30 of 50 clips, 0.5 clips/s, 40 s left",
        "samples: 50 clips in 2 min, 0.5 clips/s",
    ]


def test_what_was_there_before_tells_nothing_of_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, with 1,000 clips that an interrupted run has left."""
    now = 100.0
    monkeypatch.setattr("vdm_bench.runtime.progress.time.monotonic", lambda: now)
    with Console(every=45.0).stage("samples", 1050, found=1000) as advance:
        for _ in range(5):
            now += 20.0
            advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "samples: 1,030 of 1,050 clips, 0.5 clips/s, 40 s left",
        "samples: 50 clips in 2 min, 0.5 clips/s, 1,000 were there",
    ]


def test_a_terminal_shows_a_bar_with_rate_and_unit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Console().stage("sampling [x]", 4, "evaluations") as advance:
        advance(2)
        advance(2)
    shown = capsys.readouterr().err
    assert "sampling [x]" in shown
    assert "4/4" in shown
    assert "evaluations/s" in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_said_is_one_printable_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "200")
    with Console().stage("features of a\x9b2J\udcff\n::error::b", 1) as advance:
        advance(1)
    Console().note("::warning::left \x07out")
    shown = capsys.readouterr().err
    assert r"features of a\x9b2J\udcff\n::error::b" in shown
    assert shown.splitlines()[-1].endswith(r"\x3a:warning::left \x07out")  # behind what shows the cursor again
