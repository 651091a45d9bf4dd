"""When files are taken for unchanged, and when not."""

import errno
import os
import time
from pathlib import Path

import pytest

from vdm_bench.errors import MachineError
from vdm_bench.runtime import stamps
from vdm_bench.runtime.stamps import stamp

LONG_AGO = 315532800


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"one")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time_ns() + round(seconds * 1e9)
    monkeypatch.setattr(stamps.time, "time_ns", lambda: now)


def test_an_unchanged_file_has_the_same_stamp(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 3)
    assert stamp([video]) == stamp([video]) is not None


@pytest.mark.usefixtures("settled")
def test_other_bytes_of_the_same_size_and_time_have_another_stamp(video: Path) -> None:
    """As `tar`, container layers and `cp -p` leave them: written in place, or in place of the file."""
    before = stamp([video])
    time.sleep(0.02)  # a clock of the kernel's ticks: 10 ms at most
    video.write_bytes(b"two")
    os.utime(video, (LONG_AGO, LONG_AGO))
    in_place = stamp([video])
    (video.parent / "new").write_bytes(b"six")
    os.utime(video.parent / "new", (LONG_AGO, LONG_AGO))
    (video.parent / "new").replace(video)
    assert video.stat().st_mtime == LONG_AGO
    assert len({before, in_place, stamp([video])}) == 3


@pytest.mark.usefixtures("settled")
def test_a_link_that_leads_elsewhere_has_another_stamp(video: Path) -> None:
    other = video.with_name("other.mp4")
    other.write_bytes(b"two")
    os.utime(other, (LONG_AGO, LONG_AGO))
    link = video.with_name("link.mp4")
    link.symlink_to(video)
    before = stamp([link])
    link.unlink()
    link.symlink_to(other)
    assert stamp([link]) != before


def test_a_file_that_has_just_been_changed_has_no_stamp(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time of modification lies far back, yet it may be written again within one tick of the clock."""
    assert stamp([video]) is None
    later(monkeypatch, 1.9)
    assert stamp([video]) is None
    later(monkeypatch, 2.5)
    assert stamp([video]) is not None


def test_a_file_of_the_future_has_no_stamp(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 3)
    os.utime(video, (time.time() + 3600, time.time() + 3600))
    assert stamp([video]) is None


@pytest.mark.usefixtures("settled")
def test_a_file_that_is_not_there_is_told_as_such(video: Path) -> None:
    gone, below = video.with_name("gone.mp4"), video / "no folder"
    assert stamp([gone, below]) == f"{gone} is not there\n{below} is not there"
    assert stamp([gone]) != stamp([below])


def test_what_may_not_be_asked_about_is_not_told(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        def stat_of(path: Path) -> os.stat_result:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(stamps, "stat_of", stat_of)

    for number in (errno.EACCES, errno.ENAMETOOLONG):
        fail(number)
        assert stamp([video]) is None
    for number in (errno.EIO, errno.ESTALE, errno.ENFILE):
        fail(number)
        with pytest.raises(MachineError, match=r"video\.mp4 cannot be read now"):
            stamp([video])
