"""TFRecord files that others wrote, and damaged ones."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfrecord_files import encoded, write_records

from vdm_bench.datasets.tfrecord import find_records, parse_example, read_record
from vdm_bench.errors import BrokenClipError, InputError

RECORDS = [b"first", b"", bytes(range(256)) * 50]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.tfrecords"
    write_records(path, RECORDS)
    return path


def test_records_are_found_and_read(file: Path) -> None:
    places = find_records(file)
    assert [place.length for place in places] == [5, 0, 12_800]
    assert [read_record(file, place, "record") for place in places] == RECORDS


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert find_records(tmp_path / "empty") == []


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_byte_of_data_is_noticed(file: Path, place: int) -> None:
    places = find_records(file)
    data = bytearray(file.read_bytes())
    spot = places[place].offset  # of the empty record this is its checksum
    data[spot] ^= 1
    file.write_bytes(data)
    assert find_records(file) == places
    with pytest.raises(BrokenClipError, match="record 7: does not fit its checksum"):
        read_record(file, places[place], "record 7")
    for other in {0, 1, 2} - {place}:
        assert read_record(file, places[other], "other") == RECORDS[other]


def test_a_changed_length_is_noticed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[16 + 5] ^= 1  # the length of the second record
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"some.tfrecords is damaged or cut short at byte 21; fetch it again"):
        find_records(file)


def test_a_file_that_is_cut_short_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    places = find_records(file)
    ends = {0, *(place.offset + place.length + 4 for place in places)}
    for size in range(len(whole)):
        if size > 60 and size % 97:
            continue
        file.write_bytes(whole[:size])
        if size in ends:
            assert len(find_records(file)) == sorted(ends).index(size)
        else:
            with pytest.raises(InputError, match=r"cut short|ends within record|no TFRecord file"):
                find_records(file)
    file.write_bytes(whole[:-1])
    with pytest.raises(BrokenClipError, match="its file has become shorter"):
        read_record(file, places[-1], "record")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(InputError, match="archive is no TFRecord file"):
        find_records(tmp_path / "archive")


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.one_of(
            st.lists(st.binary(max_size=300), min_size=1, max_size=4),
            st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40),
        ),
        max_size=5,
    )
)
def test_examples_are_read_as_they_were_encoded(
    features: dict[str, list[bytes] | list[float] | list[int]],
) -> None:
    parsed = parse_example(encoded(features), "record")
    assert parsed.keys() == features.keys()
    for name, values in features.items():
        found = parsed[name]
        assert list(found) == values
        if isinstance(values[0], float):
            assert isinstance(found, np.ndarray)
            assert found.dtype == np.float32


def test_numbers_may_be_packed_or_not() -> None:
    # The same list of the floats 1 and -2 by field 1 twice (wire type 5), and of the integers 3 and 300 (type 0).
    floats = b"\x0d" + struct.pack("<f", 1.0) + b"\x0d" + struct.pack("<f", -2.0)
    integers = b"\x08\x03\x08\xac\x02"

    def message(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def feature(name: bytes, kind: int, content: bytes) -> bytes:
        return message(1, message(1, name) + message(2, message(kind, content)))

    example = parse_example(message(1, feature(b"f", 2, floats) + feature(b"i", 3, integers)), "record")
    assert [values.tolist() for values in example.values() if isinstance(values, np.ndarray)] == [
        [1.0, -2.0],
        [3, 300],
    ]


@given(st.binary(max_size=200))
def test_any_bytes_give_an_example_or_one_sentence(data: bytes) -> None:
    try:
        example = parse_example(data, "record")
    except BrokenClipError:
        return
    for values in example.values():
        assert isinstance(values, np.ndarray) or all(isinstance(value, bytes) for value in values)


def test_bytes_that_are_no_example_are_named() -> None:
    with pytest.raises(BrokenClipError, match=r"^record: is no tf.train.Example: it is damaged \(wire type 3\)$"):
        parse_example(b"\x0b", "record")
