"""Faults of the machine end a run in one sentence; none of them is taken for a broken clip, and left out."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import av
import av.error
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vdm_bench.cli import cli
from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import BrokenClipError, MachineError
from vdm_bench.runtime import input_files
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.video import reader
from vdm_bench.video.clip import clip_digest
from vdm_bench.video.contents import load_clip
from vdm_bench.video.decode import read_video
from vdm_bench.video.write import write_clip

CLIPS = [Shapes("test")[i].frames for i in range(4)]
FORMS = ("mp4", "gif", "webm", "npy", "npz", "png", "webp")
THE_MACHINES = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ENOSPC]


def put(folder: Path, name: str, form: str, frames: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{form}"
    if form in ("mp4", "gif", "webm"):
        write_clip(path, frames)
    elif form == "npy":
        np.save(path, frames)
    elif form == "npz":
        np.savez_compressed(path, frames)
    elif form == "webp":
        first, *rest = [Image.fromarray(frame) for frame in frames]
        first.save(path, save_all=True, append_images=rest, duration=100, lossless=True)
    else:
        path = folder / name
        path.mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"{number}.png")
    return path


@pytest.fixture
def set_of_all(tmp_path: Path) -> Path:
    for number, form in enumerate(FORMS):
        for clip in range(3):
            put(tmp_path / "set", f"{number}{clip}", form, CLIPS[clip])
    return tmp_path / "set"


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Allow so many descriptors more than there are."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow(more: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        with open(os.devnull) as probe:  # noqa: PTH123 - the lowest number that is free
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + more, before[1]))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_too_few_descriptors_leave_no_clip_out(set_of_all: Path, limit: Callable[[int], None]) -> None:
    dataset = open_clips(set_of_all)
    expected = [clip_digest(dataset[index].frames) for index in range(len(dataset))]
    assert len(expected) == 3 * len(FORMS)
    ends = set()
    for more in (*range(8), 30):
        limit(more)
        try:
            clips = open_clips(set_of_all)
            found = list(ordered_map(lambda index, clips=clips: load_clip(clips, index), range(len(clips)), 4))
        except MachineError as error:
            ends.add("too many open files" in str(error))
        else:
            assert [getattr(item, "digest", item) for item in found] == expected
            ends.add("all")  # type: ignore[arg-type]
    assert ends == {True, "all"}


def load_all(path: Path) -> None:
    """Read all clips, as --skip-broken does."""
    clips = open_clips(path)
    for index in range(len(clips)):
        load_clip(clips, index)


def fail_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, path: Path, error: BaseException) -> None:
    """Let a function fail for one file, and what lies below it."""
    call = getattr(module, name)

    def failing(place: Any, *given: Any, **named: Any) -> Any:
        if isinstance(place, str | Path) and str(place).removeprefix("file:").startswith(str(path)):
            raise error
        return call(place, *given, **named)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize("number", THE_MACHINES)
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_cannot_be_opened_now_ends_the_run(
    tmp_path: Path, form: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "set", "sound", "npy", CLIPS[0])
    path = put(tmp_path / "set", "bad", form, CLIPS[1])
    fail_at(monkeypatch, os, "open", path, OSError(number, os.strerror(number)))
    with pytest.raises(MachineError, match=r"bad.* cannot be read now: "):
        load_all(tmp_path / "set")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_cannot_be_read_on_ends_the_run(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened well, and read from a disk that fails."""
    path = put(tmp_path / "set", "bad", form, CLIPS[1])
    opened = os.fdopen

    class Failing:
        def __init__(self, descriptor: int) -> None:
            self._file = opened(descriptor, "rb")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

        def read(self, *size: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(input_files.os, "fdopen", lambda descriptor, mode: Failing(descriptor))
    with pytest.raises(MachineError, match=r"bad.* cannot be read now: input/output error"):
        load_all(path)


@pytest.mark.parametrize("call", ["stat", "scandir", "listdir"])
def test_folders_that_cannot_be_asked_now_end_the_run(
    set_of_all: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_clips(set_of_all)
    fail_at(monkeypatch, os, call, set_of_all / "50", OSError(errno.ESTALE, os.strerror(errno.ESTALE)))
    with pytest.raises(MachineError, match="cannot be read now: "):
        _ = [dataset.fingerprint(index) for index in range(len(dataset))], open_clips(set_of_all)


@pytest.mark.parametrize("skip", [[], ["--skip-broken"]])
def test_score_ends_in_one_sentence(set_of_all: Path, skip: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(set_of_all.with_name("real.npy"), np.stack(CLIPS))
    fail_at(monkeypatch, av, "open", set_of_all / "01.mp4", OSError(errno.EIO, os.strerror(errno.EIO)))
    score = ["score", str(set_of_all), "--reference", str(set_of_all.with_name("real.npy"))]
    found = CliRunner().invoke(cli, [*score, "--metric", "embedded/fvd", *skip])
    assert found.exit_code == 2
    assert found.stderr.count("Error: ") == 1
    assert "01.mp4 cannot be read now: input/output error; check the disk" in found.stderr


def test_what_ffmpeg_says_is_held_against_what_the_system_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg says "input/output error" and the like of damaged files, too."""
    video = put(tmp_path, "video", "mp4", CLIPS[0])
    made_up = {}
    for number in (errno.EIO, errno.ENOSYS):
        made_up[number] = av.error.OSError(number, os.strerror(number), "video")
    made_up[errno.EAGAIN] = av.error.BlockingIOError(errno.EAGAIN, "again", "video")  # type: ignore[assignment]
    made_up[errno.ENOMEM] = av.error.MemoryError(errno.ENOMEM, "no memory", "video")  # type: ignore[assignment]
    for number, error in made_up.items():
        with monkeypatch.context() as patched:
            fail_at(patched, av, "open", video, error)
            with pytest.raises(BrokenClipError, match=r"video\.mp4: damaged: it cannot be opened"):
                read_video(video)
            if number != errno.ENOMEM:
                patched.setattr(reader, "open_file", lambda path: _unreadable(path))
            else:
                patched.setattr(reader, "_ENOUGH_MEMORY", 1 << 62)
            with pytest.raises(MachineError, match=r"video\.mp4 cannot be read now"):
                read_video(video)
    for number in (errno.EMFILE, errno.ENFILE, errno.ESTALE):
        with monkeypatch.context() as patched:
            fail_at(patched, av, "open", video, av.error.OSError(number, os.strerror(number), "video"))
            with pytest.raises(MachineError, match=r"video\.mp4 cannot be read now"):
                read_video(video)
    assert read_video(video).shape == CLIPS[0].shape


def _unreadable(path: Path) -> Any:
    raise MachineError(f"{path} cannot be read now: input/output error")
