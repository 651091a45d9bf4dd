"""Pretrained weights: checkpoints on their way into the cache, and the cache."""

import json
import math
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from weights_files import checkpoint, pinned, recipe, same, sentence

from vdm_bench.metrics import weights
from vdm_bench.metrics.weights.digest import crc32c
from vdm_bench.metrics.weights.entries import Entry, SourceFile
from vdm_bench.metrics.weights.library import Library

CATALOGUE = weights.catalogue()


@pytest.fixture
def first() -> tuple[Entry, bytes]:
    return checkpoint("first", recipe(1))


@pytest.fixture
def library(tmp_path: Path, first: tuple[Entry, bytes]) -> Library:
    """Three checkpoints of the same shapes; the files lie beside the cache under the entries' names."""
    second, gapped = checkpoint("second", recipe(2)), checkpoint("gapped", recipe(3), gap=12)
    for entry, data in (first, second, gapped):
        (tmp_path / entry.name).write_bytes(data)
    entries = {entry.name: entry for entry, _ in (first, second, gapped)}
    return Library(entries, tmp_path / "cache")


def test_a_checkpoint_is_imported_bit_by_bit(library: Library, tmp_path: Path) -> None:
    for seed, name in enumerate(library.entries, 1):
        library.import_files(name, [tmp_path / name])
        assert same(library.load(name), recipe(seed))


def test_what_is_in_the_cache_loads_with_torch_numpy_and_safetensors_alone(
    library: Library, tmp_path: Path
) -> None:
    code = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in 'pooch requests google_crc32c platformdirs click pydantic rich'.split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
from pathlib import Path
from vdm_bench.metrics.weights import Entry, catalogue, content_digest
from vdm_bench.metrics.weights.entries import TensorInfo
from vdm_bench.metrics.weights.library import Library
assert len(catalogue()['i3d-k400'].tensors) == 230
tensors = {'a/w': TensorInfo((3, 1, 7, 50)), 'b/beta': TensorInfo((50,)), 'c/b': TensorInfo((7,))}
entry = Entry('first', 'x', 'i3d', 'tf-checkpoint', (), tensors, 'x', 'x')
print(content_digest(Library({'first': entry}, Path(sys.argv[1])).load('first')))
"""
    library.import_files("first", [tmp_path / "first"])
    command = [sys.executable, "-c", code, str(library.folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == weights.content_digest(recipe(1)), done.stderr


def test_a_wrong_tensor_of_a_checkpoint_is_named(library: Library, tmp_path: Path) -> None:
    data = bytearray((tmp_path / "first").read_bytes())
    data[library.entries["first"].tensors["b/beta"].offset + 5] ^= 1
    (tmp_path / "flipped").write_bytes(data)
    said = sentence(lambda: library.import_files("first", [tmp_path / "flipped"]))
    assert "flipped is not what first is made from: tensor b/beta has CRC32C" in said
    assert not library.store.path(library.entries["first"]).exists()


def test_a_truncated_file_is_refused(library: Library, tmp_path: Path) -> None:
    data = (tmp_path / "first").read_bytes()
    (tmp_path / "short").write_bytes(data[:-4])
    assert f"{len(data)} bytes expected, {len(data) - 4} found" in sentence(
        lambda: library.import_files("first", [tmp_path / "short"])
    )
    library = replace(
        library, entries={"first": replace(library.entries["first"], files=(SourceFile("x", ("y",)),))}
    )
    assert "it ends before tensor c/b" in sentence(lambda: library.import_files("first", [tmp_path / "short"]))


def test_another_networks_weights_are_recognised(library: Library, tmp_path: Path) -> None:
    said = sentence(lambda: library.import_files("first", [tmp_path / "second"]))
    assert said == (
        f"{tmp_path / 'second'} is second, not first; import it under that name: "
        f"vdm-bench weights import second {tmp_path / 'second'}"
    )
    data = {name: (tmp_path / name).read_bytes() for name in library.entries}
    by_digest = replace(library, entries={name: pinned(e, data[name]) for name, e in library.entries.items()})
    assert "is gapped, not first" in sentence(lambda: by_digest.import_files("first", [tmp_path / "gapped"]))


def test_a_published_digest_is_checked(library: Library, first: tuple[Entry, bytes], tmp_path: Path) -> None:
    entry = replace(first[0], files=(replace(first[0].files[0], digest=f"git-blob:{'0' * 40}"),))
    said = sentence(
        lambda: replace(library, entries={"first": entry}).import_files("first", [tmp_path / "first"])
    )
    assert f"git-blob {'0' * 40} expected, {weights.git_blob_id(first[1])} found" in said


@pytest.mark.parametrize(
    "where",
    [
        "model.ckpt.data-00000-of-00001",
        "variables/variables.data-00000-of-00001",
        "variables.data-00000-of-00001",
    ],
)
def test_a_checkpoint_is_found_in_its_folder(library: Library, tmp_path: Path, where: str) -> None:
    path = tmp_path / "folder" / where
    path.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "first", path)
    library.import_files("first", [tmp_path / "folder"])
    assert same(library.load("first"), recipe(1))


def test_a_checkpoint_is_found_by_its_prefix(library: Library, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "first", tmp_path / "my.ckpt.data-00000-of-00001")
    library.import_files("first", [tmp_path / "my.ckpt"])
    assert same(library.load("first"), recipe(1))


def test_files_that_are_not_there_are_named(library: Library, tmp_path: Path) -> None:
    assert (
        sentence(lambda: library.import_files("first", [tmp_path / "no"]))
        == f"there is no file {tmp_path / 'no'}"
    )
    assert "holds no model.ckpt.data-00000-of-00001 or variables/" in sentence(
        lambda: library.import_files("first", [tmp_path])
    )
    two = [tmp_path / "first"] * 2
    assert "first is made from one file" in sentence(lambda: library.import_files("first", two))
    assert "did you mean 'first'" in sentence(lambda: library.load("fist"))


def test_a_damaged_file_of_the_cache_is_named_and_deleted(library: Library, tmp_path: Path) -> None:
    path = library.import_files("first", [tmp_path / "first"])
    whole = path.read_bytes()
    # in a tensor, in a tensor's name, in its shape, in the length of the header
    for at in (len(whole) - 3, whole.index(b"b/beta") + 1, whole.index(b"[50]") + 1, 3):
        data = bytearray(whole)
        data[at] ^= 1
        path.write_bytes(data)
        said = sentence(lambda: library.store.read(library.entries["first"]))
        assert said.startswith(f"{path} is damaged (")
        assert said.endswith("and was deleted; get it again with: vdm-bench weights fetch first")
        assert not path.exists()
    path.write_bytes(whole[:-1])
    assert "is damaged" in sentence(lambda: library.load("first"))


def test_weights_of_another_name_in_the_cache_are_seen(library: Library, tmp_path: Path) -> None:
    entry, data = checkpoint("first", recipe(1))
    known = replace(
        library, entries={**library.entries, "first": replace(entry, content=weights.git_blob_id(data))}
    )
    first = known.import_files("first", [tmp_path / "first"])
    shutil.copy(known.import_files("second", [tmp_path / "second"]), first)
    assert "content" in sentence(lambda: known.load("first"))


def test_verify_names_the_damaged_tensor_and_passes_the_sound_ones(library: Library, tmp_path: Path) -> None:
    assert library.verify() == {}
    for name in ("first", "second"):
        library.import_files(name, [tmp_path / name])
    digests = {name: weights.content_digest(recipe(seed)) for seed, name in enumerate(("first", "second"), 1)}
    assert library.verify() == digests
    path = library.store.path(library.entries["first"])
    data = bytearray(path.read_bytes())
    data[data.index(recipe(1)["c/b"].tobytes()) + 1] ^= 1
    path.write_bytes(data)
    said = sentence(library.verify)
    assert f"{path} is damaged (tensor c/b has CRC32C" in said
    assert "vdm-bench weights fetch first" in said
    assert library.verify() == {"second": digests["second"]}
    assert "first is not in the cache" in sentence(lambda: library.verify("first"))


def test_verify_sees_what_a_forged_content_digest_hides(library: Library, tmp_path: Path) -> None:
    path = library.import_files("first", [tmp_path / "first"])
    arrays = recipe(1) | {"c/b": np.zeros(7, np.float32)}
    header = {"content": weights.content_digest(arrays), "converter": "tf-checkpoint/1"}
    save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, path, header)
    assert "tensor c/b has CRC32C" in sentence(library.verify)


def test_weights_that_another_version_made_are_made_again(library: Library, tmp_path: Path) -> None:
    path = library.import_files("first", [tmp_path / "first"])
    tensors = library.load("first")
    save_file(tensors, path, {"content": weights.content_digest(tensors), "converter": "tf-checkpoint/0"})
    assert "cannot download first (127.0.0.1:9: connection refused)" in sentence(lambda: library.load("first"))
    library.import_files("first", [tmp_path / "first"])
    assert same(library.load("first"), recipe(1))


def test_nothing_half_done_is_left_after_a_failure(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in sentence(lambda: library.import_files("first", [tmp_path / "first"]))
    assert list(library.folder.glob("*.*")) == list(library.folder.glob(".*")) == []


def test_a_cache_that_cannot_be_written_to_is_named(library: Library, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert str(tmp_path / "cache") in sentence(lambda: library.import_files("first", [tmp_path / "first"]))


def i3d_recipe(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Made-up weights of I3D; see "Golden files" of the test data."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("conv_3d/w"):
        n, k = math.prod(shape[:-1]), rng.integers(-2048, 2049, size=shape, dtype=np.int64)
        if "/Conv3d_1a_7x7/" not in name:
            k = k - k.sum(axis=(0, 1, 2, 3), keepdims=True) // n
        gain = 2.0 if "/Conv3d_1a_7x7/" in name else 1.0 if "/Logits/" in name else 3.0
        return k.astype(np.float32) * np.float32(np.sqrt(gain / n) * np.sqrt(3.0) / 2048)
    if name.endswith("moving_variance"):
        return rng.integers(750, 1251, size=shape, dtype=np.int64).astype(np.float32) * np.float32(1e-3)
    return rng.integers(-2000, 2001, size=shape, dtype=np.int64).astype(np.float32) * np.float32(1e-4)


def test_i3d_at_full_size(tmp_path: Path) -> None:
    """A file of the real layout with other values: refused as i3d-k400, taken by an entry of its own."""
    entry = CATALOGUE["i3d-k400"]
    arrays = {name: i3d_recipe(name, info.shape) for name, info in entry.tensors.items()}
    path = tmp_path / "model.ckpt.data-00000-of-00001"
    path.write_bytes(b"".join(arrays[name].tobytes() for name in sorted(arrays)))
    git = subprocess.run(["git", "hash-object", "--no-filters", path], capture_output=True, text=True, check=True)
    blob = git.stdout.strip()
    assert weights.content_digest(arrays) == blob
    cache = tmp_path / "cache"
    said = sentence(lambda: Library(CATALOGUE, cache).import_files("i3d-k400", [tmp_path]))
    assert f"git-blob {entry.content} expected, {blob} found" in said
    unpinned = replace(entry, files=(replace(entry.files[0], digest=""),))
    said = sentence(lambda: Library({"i3d-k400": unpinned}, cache).import_files("i3d-k400", [path]))
    assert "tensor RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/beta has CRC32C" in said
    tensors = {name: replace(info, crc32c=crc32c(arrays[name].tobytes())) for name, info in entry.tensors.items()}
    files = (replace(entry.files[0], digest=f"git-blob:{blob}"),)
    library = Library(
        {"made-up": replace(entry, name="made-up", tensors=tensors, files=files, content=blob)}, cache
    )
    library.import_files("made-up", [path])
    assert same(library.load("made-up"), arrays)
    assert library.verify() == {"made-up": blob}


def test_the_recipe_is_the_one_of_the_golden_files(shared_data: Path) -> None:
    path = shared_data / "i3d/golden/synthetic_weights_crc32.json"
    if not path.exists():
        pytest.skip(f"needs {path}")
    name = "RGB/inception_i3d/Mixed_3b/Branch_0/Conv3d_0a_1x1/conv_3d/w"
    found = json.loads(path.read_text())[name]
    expected = zlib.crc32(i3d_recipe(name, CATALOGUE["i3d-k400"].tensors[name].shape).tobytes())
    assert expected in (found if isinstance(found, list) else [found])
