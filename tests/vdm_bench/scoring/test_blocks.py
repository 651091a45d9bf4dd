"""Stored blocks of values of clips: found, refused where they are damaged, and shared over processes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_data import MemoryClips, measure_frames

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.runtime.checksums import open_arrays
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Console
from vdm_bench.scoring.blocks import BlockStore, content_key, write_block

VALUES = {"a": np.arange(6, dtype=np.float32).reshape(3, 2)}
FRAMES = np.random.default_rng(0).integers(0, 256, (70, 16, 32, 32, 3), np.uint8)  # two blocks


def read(path: Path) -> bytes:
    with open_arrays(path) as stored:
        return stored.read("a").tobytes()


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    return BlockStore(tmp_path, "features", Console())


def test_a_block_is_found_and_a_missing_one_is_not(store: BlockStore, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.folder / "block.safetensors"
    assert store.find(path, read, 3) is None
    write_block(path, VALUES, {"of": "clips"})
    assert store.find(path, read, 3) == VALUES["a"].tobytes()
    assert capsys.readouterr().err == ""


def test_a_damaged_block_is_noted_once_and_makes_room(
    store: BlockStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store.folder / "block.safetensors"
    path.mkdir()
    assert store.find(path, read, 1) is None
    assert f"features of 1 clip in {path} were damaged and are computed again" in capsys.readouterr().err
    assert not path.exists()
    path.write_bytes(b"")
    assert store.find(path, read, 1) is None
    assert capsys.readouterr().err == ""


def test_a_block_that_is_damaged_later_is_restored_once(store: BlockStore) -> None:
    path, restored = store.folder / "block.safetensors", list[int]()
    path.write_bytes(b"")

    def restore() -> None:
        restored.append(1)
        write_block(path, VALUES, {})

    assert store.read(path, read, restore) == VALUES["a"].tobytes()
    assert store.read(path, read, restore) == VALUES["a"].tobytes()
    assert restored == [1]
    path.write_bytes(b"")
    with pytest.raises(DamagedError):
        store.read(path, read, lambda: None)


def test_parts_of_a_key_are_kept_apart() -> None:
    keys = {content_key("a", parts) for parts in (["b", "c"], ["bc"], ["c", "b"], ["b"])}
    assert len(keys | {content_key("b", ["b", "c"])}) == 5


class Threads(ProcessGroup):
    """Two processes that are threads of this one."""

    barrier = threading.Barrier(2, timeout=20)
    said: dict[int, object] = {}  # noqa: RUF012 - of all

    def _exchange(self, value: object) -> dict[int, object]:
        self.said[self.rank] = value
        self.barrier.wait()
        found = dict(self.said)
        self.barrier.wait()
        return found

    def broadcast(self, data: bytes | None, owner: int) -> bytes:
        found = self._exchange(data)[owner]
        assert isinstance(found, bytes)
        return found

    def all_true(self, flags: list[bool]) -> list[bool]:
        found = self._exchange(flags)
        return [all(both) for both in zip(found[0], found[1], strict=True)]  # type: ignore[call-overload]


def test_processes_that_see_other_folders_share_frame_metrics(tmp_path: Path) -> None:
    expected = measure_frames(MemoryClips(FRAMES), 70, tmp_path / "alone")
    sides = [MemoryClips(FRAMES), MemoryClips(FRAMES)]

    def work(rank: int) -> bytes:
        group = Threads(rank, 2)
        return measure_frames(sides[rank], 70, tmp_path / str(rank), processes=group).tables["psnr"].tobytes()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, range(2))) == [expected.tables["psnr"].tobytes()] * 2
    assert [sorted(side.read) for side in sides] == [list(range(64)), list(range(64, 70))]
    names = [sorted(path.name for path in (tmp_path / side).iterdir()) for side in ("alone", "0", "1")]
    assert names[0] == names[1] == names[2]


def test_a_block_that_cannot_be_read_at_once_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockStore, "find", lambda *arguments: None)
    with pytest.raises(InputError, match=r"frame measures in .* were damaged as soon as they were written"):
        measure_frames(MemoryClips(FRAMES), 3, tmp_path)
