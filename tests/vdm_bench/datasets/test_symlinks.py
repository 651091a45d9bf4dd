"""Each folder is searched once, whatever links lead to it; only files are clips."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vdm_bench.cli import cli
from vdm_bench.datasets.folder import FolderDataset, open_clips
from vdm_bench.errors import BrokenClipError, InputError

PIXELS = np.random.default_rng(5).integers(0, 256, (4, 6, 6, 3), np.uint8)


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, PIXELS)


def keys(path: Path) -> list[str]:
    dataset = FolderDataset(path)
    return [dataset.info(index).key for index in range(len(dataset))]


@pytest.mark.parametrize("target", [".", "..", "../..", "../../.."])
def test_a_link_to_a_folder_that_it_lies_in_is_left_out(tmp_path: Path, target: str) -> None:
    put(tmp_path / "a" / "set" / "videos" / "0.npy", tmp_path / "a" / "alien.npy")
    for name in ("all", "again"):
        (tmp_path / "a" / "set" / "videos" / name).symlink_to(target)
    dataset = FolderDataset(tmp_path / "a" / "set")
    assert [dataset.info(index).key for index in range(len(dataset))] == ["videos/0.npy"]
    assert [path.name for path in dataset.left_out] == ["again", "all"]
    assert dataset.notes == [f"{tmp_path / 'a' / 'set'}: 2 links to folders left out: again, all"]


def test_links_that_lead_to_one_another_end(tmp_path: Path) -> None:
    put(tmp_path / "a" / "0.npy", tmp_path / "b" / "1.npy")
    for number in range(3):
        (tmp_path / "a" / f"to-b{number}").symlink_to("../b")
        (tmp_path / "b" / f"to-a{number}").symlink_to("../a")
    assert keys(tmp_path) == ["a/0.npy", "b/1.npy"]


def test_links_to_folders_elsewhere_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "disk" / "one" / "0.npy", tmp_path / "disk" / "two" / "1.npy", tmp_path / "set" / "own.npy")
    (tmp_path / "disk" / "two" / "back").symlink_to(tmp_path / "set")
    (tmp_path / "disk" / "two" / "loop").symlink_to("../..")
    (tmp_path / "set" / "a").symlink_to(tmp_path / "disk" / "one")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "disk")
    (tmp_path / "set" / "c").symlink_to("b/two")
    dataset = FolderDataset(tmp_path / "set")
    found = [dataset.info(index).key for index in range(len(dataset))]
    assert found == ["a/0.npy", "b/two/1.npy", "own.npy"]
    assert {str(path.relative_to(tmp_path / "set")) for path in dataset.left_out} == {
        "b/one",
        "b/two/back",
        "b/two/loop",
        "c",
    }


def test_a_path_that_is_itself_a_link_is_searched(tmp_path: Path) -> None:
    put(tmp_path / "disk" / "0.npy")
    (tmp_path / "set").symlink_to("disk")
    (tmp_path / "disk" / "self").symlink_to(tmp_path / "set")
    assert keys(tmp_path / "set") == ["0.npy"]


def test_folders_too_deep_to_be_searched_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    put(folder.joinpath(*"x" * 90) / "0.npy")
    assert len(FolderDataset(folder)) == 1
    put(folder.joinpath(*"x" * 500) / "1.npy")
    with pytest.raises(InputError, match=r"folders deep in .*; move its clips up"):
        FolderDataset(folder)


NAMES = ("0.mp4", "0.png", "0.webp", "0.npy", "0.npz", "0.gif", "0.jpg")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_file_is_a_broken_clip_and_is_not_waited_for(
    tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "set" / "sound.npy")
    is_frame = name.endswith(("png", "jpg"))
    place = tmp_path / "set" / "frames" / name if is_frame else tmp_path / "set" / name
    if is_frame:
        place.parent.mkdir()
        Image.fromarray(PIXELS[0]).save(place.with_name("1.png"))
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "pipe":
            os.mkfifo(place)
        else:
            monkeypatch.chdir(place.parent)  # names of sockets are short
            listening.bind(place.name)
        dataset = open_clips(tmp_path / "set")
        if name.endswith("webp"):  # an animation by its content alone
            assert [path.name for path in dataset.ignored] == [name]  # type: ignore[union-attr]
            return
        broken = []
        for index in range(len(dataset)):
            dataset.fingerprint(index)
            try:
                dataset[index]
            except BrokenClipError as error:
                broken.append(error)
        assert [error.source for error in broken] == [str(place)]
        assert "a pipe or a device" in broken[0].reason


@pytest.mark.parametrize("name", ["0.npy", "0.png", "0"])
def test_a_pipe_that_is_given_for_the_clips_is_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path / "real.npy")
    os.mkfifo(tmp_path / name)
    for order in ((name, "real.npy"), ("real.npy", name)):
        generated, real = (str(tmp_path / given) for given in order)
        found = CliRunner().invoke(cli, ["score", generated, "--reference", real, "--metric", "embedded/fvd"])
        assert found.exit_code == 2
        assert f"{tmp_path / name} is a pipe or a device" in found.stderr
