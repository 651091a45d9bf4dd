"""Every bit of a stored file counts: with any one flipped, it is refused, and never read as something else."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.runtime.checksums import (
    array_checksum,
    open_arrays,
    read_json,
    save_arrays,
    unsealed,
    write_arrays,
    write_json,
)

ARRAYS = {"0.pool": np.arange(12, dtype=np.float32).reshape(3, 4), "empty": np.zeros((0, 5), np.float64)}
FACTS = {"digests": ["abc"], "refused": {}}
CONTENT = {"clips": 64, "name": "küche", "rate": 12.5, "nested": {"none": None, "list": [1, 2.0, "x"]}}


def flips(data: bytes) -> list[bytes]:
    """Give the file with each of its bits flipped in turn."""
    return [
        data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        for place in range(len(data))
        for bit in range(8)
    ]


def read_all(path: Path) -> tuple[dict[str, bytes], object]:
    with open_arrays(path) as stored:
        return {name: stored.read(name).tobytes() for name in stored.shapes}, dict(stored.facts)


@pytest.mark.parametrize(
    ("data", "read"), [(save_arrays(ARRAYS, FACTS), read_all), (None, read_json)], ids=["arrays", "json"]
)
def test_any_flipped_bit_is_refused_or_changes_nothing(
    data: bytes | None, read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "stored"
    if data is None:
        write_json(path, CONTENT)
        data = path.read_bytes()
    path.write_bytes(data)
    whole, refused = read(path), 0
    for flipped in flips(data):
        path.write_bytes(flipped)
        try:
            assert read(path) == whole
        except InputError:
            refused += 1
    # The rest is harmless: a digit of an escape, such as that of ü, may be a small letter or a capital.
    assert refused > 0.99 * 8 * len(data)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", CONTENT)
    assert read_json(tmp_path / "a.json") == CONTENT
    (tmp_path / "a.safetensors").write_bytes(save_arrays(ARRAYS, FACTS))
    with open_arrays(tmp_path / "a.safetensors") as stored:
        assert stored.facts == FACTS
        assert stored.shapes == {"0.pool": (3, 4), "empty": (0, 5)}
        np.testing.assert_array_equal(stored.read("0.pool"), ARRAYS["0.pool"])
        with pytest.raises(DamagedError, match=r"it has no array 1\.pool"):
            stored.read("1.pool")


def test_an_object_without_a_checksum_is_taken_only_where_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(CONTENT))
    with pytest.raises(DamagedError, match="it has no checksum"):
        read_json(tmp_path / "old.json")
    assert unsealed(json.dumps(CONTENT), "old.json", required=False) == CONTENT


def test_a_checksum_covers_name_type_and_shape() -> None:
    array = np.zeros(8, np.float32)
    others = [("b", array), ("a", array.view(np.int32)), ("a", array.reshape(2, 4)), ("a", array[:7])]
    sums = {array_checksum("a", array), *(array_checksum(*other) for other in others)}
    assert len(sums) == 5
    assert array_checksum("a", np.asfortranarray(np.eye(3, 2))) == array_checksum("a", np.eye(3, 2))


def test_the_same_content_makes_the_same_file_every_time() -> None:
    assert len({save_arrays(ARRAYS, FACTS) for _ in range(20)}) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_the_last_rows_of_an_array_are_read_only_if_all_rows_are_intact(count: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, ARRAYS, FACTS)
    assert path.read_bytes() == save_arrays(ARRAYS, FACTS)
    with open_arrays(path) as stored:
        for name, array in ARRAYS.items():
            parts = list(stored.rows(name, count))
            assert max(map(len, parts)) <= count
            np.testing.assert_array_equal(np.concatenate(parts), array)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with open_arrays(path) as stored:
        rows = stored.rows("0.pool", count)
        for _ in range(-(-3 // count) - 1):
            next(rows)
        with pytest.raises(DamagedError, match=r"the checksum of 0\.pool is not that of its values"):
            next(rows)


def test_types_are_told_and_facts_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save_arrays(ARRAYS, ["no", "object"]))  # type: ignore[arg-type]
    with open_arrays(path) as stored:
        assert stored.types == {"0.pool": "F32", "empty": "F64"}
        with pytest.raises(DamagedError, match="its metadata is not a JSON object"):
            _ = stored.facts
