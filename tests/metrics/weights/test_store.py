"""Pretrained weights: digests, and the catalogue with its tables."""

import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from weights_files import checkpoint, recipe, sentence, slow_crc32c

from vdm_bench.metrics import weights
from vdm_bench.metrics.weights.digest import crc32c
from vdm_bench.metrics.weights.entries import TensorInfo, parse_entry

CATALOGUE = weights.catalogue()
I3D = ("i3d-k400", "i3d-k400-imagenet", "i3d-k600")


def test_crc32c_is_that_of_its_polynomial() -> None:
    assert crc32c(b"123456789") == 0xE3069283 == slow_crc32c(b"123456789")
    data = bytes(np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8))
    assert crc32c(data) == slow_crc32c(data)


def test_git_blob_id_is_gits(tmp_path: Path) -> None:
    assert weights.git_blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git's empty blob
    (tmp_path / "hello").write_bytes(b"hello world\n")
    assert weights.git_blob_id(tmp_path / "hello") == "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"


def test_content_digest_is_the_blob_id_of_the_checkpoint() -> None:
    arrays = recipe(1)
    shuffled = {name: torch.from_numpy(arrays[name]) for name in ("c/b", "a/w", "b/beta")}
    assert (
        weights.content_digest(arrays)
        == weights.git_blob_id(checkpoint("first", arrays)[1])
        == weights.content_digest(shuffled)
    )


def test_content_digest_sees_values_not_their_storage() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    digest = weights.content_digest({"a": array})
    assert digest == weights.content_digest({"a": torch.from_numpy(array.astype(np.float16))})
    assert digest == weights.content_digest({"a": array.astype(">f4")})
    assert digest == weights.content_digest({"a": torch.from_numpy(array).t().contiguous().t()})
    assert digest != weights.content_digest({"a": array.T})


def test_the_catalogue_is_whole() -> None:
    assert list(CATALOGUE) == [*I3D, "c3d-ucf101", "inception-2015"]
    for entry in CATALOGUE.values():
        assert entry.licence in {"Apache-2.0", "not stated"}
        assert entry.citation
        for source in entry.files:
            assert all(url.startswith("https://") for url in source.urls)
            assert not source.digest or source.size


@pytest.mark.parametrize("name", I3D)
def test_a_table_of_i3d_describes_the_whole_file_in_the_order_of_names(name: str) -> None:
    entry = CATALOGUE[name]
    assert len(entry.tensors) == 230
    assert list(entry.tensors) == sorted(entry.tensors)
    offsets = [info.offset for info in entry.tensors.values()]
    assert offsets == sorted(offsets)
    assert all(info.crc32c is not None for info in entry.tensors.values())
    last = list(entry.tensors.values())[-1]
    if name != "i3d-k600":  # whose file has the optimizer's momentum after it
        ends = [info.offset + info.size for info in entry.tensors.values()]
        assert ends[:-1] == offsets[1:]
        assert last.offset + last.size == entry.size == 50_818_176
        assert f"git-blob:{entry.content}" == entry.files[0].digest


def test_i3d_k600_differs_from_k400_in_the_number_of_classes_alone() -> None:
    k400, k600 = (CATALOGUE[name].tensors for name in ("i3d-k400", "i3d-k600"))
    assert k400.keys() == k600.keys()
    differing = {name for name in k400 if k400[name].shape != k600[name].shape}
    logits = "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d"
    assert differing == {f"{logits}/w", f"{logits}/b"}
    assert k600[f"{logits}/w"].shape == (1, 1, 1, 1024, 600)
    assert not {info.crc32c for info in k400.values()} & {info.crc32c for info in k600.values()}


def test_the_published_digests() -> None:
    assert CATALOGUE["i3d-k400"].content == "fa7df95674dbf3579e7fccd954e51e706b4734c1"
    inception = CATALOGUE["inception-2015"].files[0]
    assert inception.name.endswith(f"-{inception.digest.removeprefix('sha256:')[:8]}.pth")
    assert sum(info.size for info in CATALOGUE["inception-2015"].tensors.values()) < (inception.size or 0)


ITEM = {
    **dict.fromkeys(("name", "title", "table", "licence", "citation"), "x"),
    "network": "i3d",
    "converter": "tf-checkpoint",
    "files": [{"name": "f", "urls": ["https://example.org/f"], "size": 4}],
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licence": ""}, "licence is missing"),
        ({"licenze": "MIT"}, "no key 'licenze'"),
        ({"network": "resnet"}, "network 'resnet'"),
        ({"converter": "pickle"}, "converter 'pickle'"),
        ({"files": []}, "list of files"),
        ({"name": "../x"}, "name '../x'"),
        ({"content": "fa7df956"}, "content digest 'fa7df956'"),
        ({"files": [{"name": "../f", "urls": ["https://example.org/f"]}]}, "file name '../f'"),
        ({"files": [{"name": "f", "urls": ["file:///etc/passwd"]}]}, "file:///etc/passwd"),
        ({"files": [{"name": "f", "urls": ["https://example.org/f"], "digest": "md5:0"}]}, "digest 'md5:0'"),
        ({"files": [{"name": "f", "urls": ["https://example.org/f"], "size": 0}]}, "size 0"),
    ],
)
def test_a_wrong_entry_of_the_catalogue_is_refused(change: dict[str, object], said: str) -> None:
    assert parse_entry(ITEM, {"a": [[1], 0, 7]}).tensors == {"a": TensorInfo((1,), 0, 7)}
    assert said in sentence(lambda: parse_entry({**ITEM, **change}, {}))


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def block(file: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block of a LevelDB table: keys share prefixes with their predecessors."""
    offset, at = varint(handle, 0)
    size, _ = varint(handle, at)
    data, key, at = file[offset : offset + size], b"", 0
    end = size - 4 - 4 * struct.unpack("<I", data[-4:])[0]
    while at < end:
        shared, at = varint(data, at)
        fresh, at = varint(data, at)
        length, at = varint(data, at)
        key, at = key[:shared] + data[at : at + fresh], at + fresh
        yield key, data[at : at + length]
        at += length


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Fields of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
            yield tag >> 3, value
        else:
            length, at = (4, at) if tag & 7 == 5 else varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length


def tensors_of_index(file: bytes) -> dict[str, TensorInfo]:
    """A TensorFlow checkpoint's index: BundleEntryProto by name, in a LevelDB table without compression."""
    _, at = varint(file[-48:], 0)
    _, at = varint(file[-48:], at)
    found = {}
    for _, handle in block(file, file[-48:][at:]):
        for key, value in block(file, handle):
            entry = dict(fields(value))
            if not key or key.endswith(b"/Momentum"):
                continue
            shape = [int(dict(fields(axis))[1]) for number, axis in fields(entry[2]) if number == 2]
            rotated = (struct.unpack("<I", entry[6])[0] - 0xA282EAD8) & 0xFFFFFFFF
            crc = (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
            assert entry[1] == 1, "float32"
            assert entry[5] == 4 * math.prod(shape)
            found[key.decode()] = TensorInfo(tuple(shape), int(entry.get(4, 0)), crc)
    return found


@pytest.mark.parametrize(
    ("name", "folder", "prefix"),
    [
        ("i3d-k400", "rgb_scratch", ""),
        ("i3d-k400-imagenet", "rgb_imagenet", ""),
        ("i3d-k600", "rgb_scratch_kin600", "RGB/inception_i3d/"),
    ],
)
def test_the_tables_are_the_checkpoints_indexes(shared_data: Path, name: str, folder: str, prefix: str) -> None:
    path = shared_data / "kinetics-i3d/data/checkpoints" / folder / "model.ckpt.index"
    if not path.exists():
        pytest.skip(f"needs {path}")
    found = {
        prefix + key: replace(info, shape=info.shape[4:] if "/batch_norm/" in key and prefix else info.shape)
        for key, info in tensors_of_index(path.read_bytes()).items()
    }
    assert found == CATALOGUE[name].tensors
