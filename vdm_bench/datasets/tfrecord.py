"""TFRecord files of `tf.train.Example`s, read without TensorFlow.

A file is a sequence of records: length (uint64), masked CRC-32C of these 8 bytes, data, masked CRC-32C of the
data, all little-endian. A record holds a protocol buffer, `tf.train.Example`: named lists of bytes, floats or
integers. Both are described in TensorFlow's guide and in `tensorflow/core/example/`. Protocol buffers are parsed
here, in a few lines, because TensorFlow and other packages require versions of `protobuf` that exclude each
other.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.runtime.input_files import open_file, parsing, refuse_file

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK = 0xA282EAD8

# The values of a feature: bytes, float32 or int64.
Feature: TypeAlias = list[bytes] | NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """Position of a record's data in its file: offset and length in bytes."""

    offset: int
    length: int


def find_records(path: Path) -> list[Place]:
    """Find the records of a file by their lengths, without reading their data.

    Raises:
        InputError: the file cannot be read, is not a TFRecord file, or is truncated.
    """
    places: list[Place] = []
    with open_file(path, refuse_file) as file, parsing(path, refuse_file):
        size, offset = os.fstat(file.fileno()).st_size, 0
        while offset < size:
            file.seek(offset)
            header = file.read(_HEADER.size)
            length = _length(path, offset, header)
            data = offset + _HEADER.size
            offset = data + length + _FOOTER.size
            if offset > size:
                raise InputError(f"{path} ends within record {len(places)}; fetch it again")
            places.append(Place(data, length))
    return places


def read_record(path: Path, place: Place, name: str) -> bytes:
    """Read the data of a record.

    Args:
        path: the file.
        place: of the record.
        name: of the record, for errors.

    Raises:
        BrokenClipError: the data do not match their checksum, or the file has been truncated.
    """

    def refuse(_: str, reason: str) -> BrokenClipError:
        return BrokenClipError(name, f"cannot be read: {reason}")

    with open_file(path, refuse) as file, parsing(path, refuse):
        file.seek(place.offset)
        data, footer = file.read(place.length), file.read(_FOOTER.size)
    if len(data) < place.length or len(footer) < _FOOTER.size:
        raise BrokenClipError(name, "its file has become shorter")
    if _masked_crc(data) != _FOOTER.unpack(footer)[0]:
        raise BrokenClipError(name, "does not fit its checksum (CRC-32C)")
    return data


def parse_example(data: bytes, name: str) -> dict[str, Feature]:
    """Parse a `tf.train.Example`.

    Args:
        data: of a record.
        name: of the record, for errors.

    Raises:
        BrokenClipError: the data are not an Example.
    """
    features: dict[str, Feature] = {}
    with parsing(name, lambda _, reason: BrokenClipError(name, f"is no tf.train.Example: it {reason}")):
        for number, content in _fields(memoryview(data)):
            if number == 1:
                features.update(_entry(entry) for field, entry in _fields(_block(content)) if field == 1)
    return features


def _length(path: Path, offset: int, header: bytes) -> int:
    if len(header) == _HEADER.size:
        length, crc = _HEADER.unpack(header)
        if _masked_crc(header[:8]) == crc:
            return int(length)
    what = "is no TFRecord file" if offset == 0 else f"is damaged or cut short at byte {offset:,}"
    raise InputError(f"{path} {what}; fetch it again, without decompressing or converting it")


def _masked_crc(data: bytes) -> int:
    """Return the masked CRC-32C: rotated and shifted, since a CRC of data that contain CRCs is weak."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


# Protocol buffers: https://protobuf.dev/programming-guides/encoding/. Empty fields are not encoded.


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the fields of a message: the number, and bytes or an integer."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, position = _varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + size > len(data):
            raise ValueError("a field ends behind its message")
        yield tag >> 3, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70 or value >= 1 << 64:
            raise ValueError("an integer of more than 64 bits")
        if byte < 0x80:
            return value, position


def _block(content: memoryview | int) -> memoryview:
    if isinstance(content, memoryview):
        return content
    raise ValueError("a number where a message belongs")


def _entry(content: memoryview | int) -> tuple[str, Feature]:
    """Return the name and the values of an entry in the map of features."""
    parts = dict(_fields(_block(content)))
    name = str(_block(parts[1]), "utf-8") if 1 in parts else ""
    kind, values = (
        next(iter(_fields(_block(parts[2]))), (1, memoryview(b""))) if 2 in parts else (1, memoryview(b""))
    )
    return name, _values(kind, _block(values))


def _values(kind: int, content: memoryview) -> Feature:
    items = [value for number, value in _fields(content) if number == 1]
    if kind == 1:
        return [bytes(_block(item)) for item in items]
    if kind == 2:  # packed, or one field per value
        return np.frombuffer(b"".join(bytes(_block(item)) for item in items), "<f4").astype(np.float32)
    if kind == 3:
        numbers = [number for item in items for number in _integers(item)]
        return np.array(numbers, np.uint64).astype(np.int64)
    raise ValueError(f"a list of kind {kind}")


def _integers(item: memoryview | int) -> Iterator[int]:
    if isinstance(item, int):
        yield item
        return
    position = 0
    while position < len(item):
        value, position = _varint(item, position)
        yield value
