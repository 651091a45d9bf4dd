"""Pretrained weights from archives and PyTorch files, friendly and hostile ones."""

import hashlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from weights_files import recipe, same, sentence

from vdm_bench.metrics import weights
from vdm_bench.metrics.weights.entries import Entry, SourceFile, TensorInfo
from vdm_bench.metrics.weights.library import Library

C3D_SHAPES = {"conv1a/W": (4, 3, 3, 3, 3), "conv1a/b": (4,), "fc8/W": (5, 9), "fc8/b": (5,)}
MEAN = (3, 2, 4, 5)


@pytest.fixture
def c3d(tmp_path: Path) -> Library:
    files = tuple(SourceFile(name, ("http://127.0.0.1:9/" + name,)) for name in ("weights.npz", "mean2.npz"))
    tensors = {name: TensorInfo(shape) for name, shape in {**C3D_SHAPES, "mean": MEAN}.items()}
    entry = Entry("c3d", "C3D", "c3d", "c3d-npz", files, tensors, "not stated", "nobody")
    return Library({"c3d": entry}, tmp_path / "cache")


def save_c3d(folder: Path, seed: int = 1, key: str = "mean", lead: tuple[int, ...] = ()) -> list[Path]:
    arrays = recipe(seed, {**C3D_SHAPES, "mean": MEAN})
    np.savez(folder / "weights.npz", **{name: arrays[name] for name in C3D_SHAPES})
    np.savez(folder / "mean2.npz", **{key: arrays["mean"].reshape(lead + MEAN), "other": np.zeros(3)})
    return [folder / "weights.npz", folder / "mean2.npz"]


@pytest.mark.parametrize(("key", "lead"), [("mean", ()), ("arr_0", (1,))])
def test_c3d_comes_from_two_files_in_any_order(
    c3d: Library, tmp_path: Path, key: str, lead: tuple[int, ...]
) -> None:
    paths = save_c3d(tmp_path, key=key, lead=lead)
    expected = recipe(1, {**C3D_SHAPES, "mean": MEAN})
    for given in (paths, paths[::-1], [tmp_path]):
        c3d.import_files("c3d", given)
        assert same(c3d.load("c3d"), expected)
    assert c3d.verify() == {"c3d": weights.content_digest(expected)}
    assert "give all of them" in sentence(lambda: c3d.import_files("c3d", paths[:1]))


def test_files_without_a_digest_are_pinned_at_first_use(c3d: Library, tmp_path: Path) -> None:
    paths = save_c3d(tmp_path)
    c3d.import_files("c3d", paths)
    record = tmp_path / "cache" / "c3d.sha256"
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert record.read_text() == f"{digests[0]}  weights.npz\n{digests[1]}  mean2.npz\n"  # as sha256sum writes it
    np.savez(paths[1], mean=np.zeros(MEAN, np.float32))
    said = sentence(lambda: c3d.import_files("c3d", paths))
    assert f"mean2.npz is not what c3d is made from: sha256 {digests[1]}" in said
    assert f"delete {record} to accept the new file" in said
    record.unlink()
    c3d.import_files("c3d", paths)
    assert not c3d.load("c3d")["mean"].any()
    record.write_text("nonsense")
    assert f"{record} is damaged" in sentence(lambda: c3d.import_files("c3d", paths))


class Touches:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def members(**changes: bytes | None) -> bytes:
    """The archive of C3D's weights with some members changed, or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in recipe(1, C3D_SHAPES).items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            data = changes.get(name.replace("/", "_"), buffer.getvalue())
            if data is not None:
                archive.writestr(f"{name}.npy", data)
    return out.getvalue()


def declared(shape: object, dtype: str = "<f4") -> str:
    return str({"descr": dtype, "fortran_order": False, "shape": shape})


def pickled(folder: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Touches(folder / "trace")] * 5, dtype=object), allow_pickle=True)
    return out.getvalue()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: b"PK nonsense", "it cannot be read"),
        (lambda folder: members()[:300], "it cannot be read"),
        (lambda folder: members(fc8_b=None), "it has no array fc8/b"),
        (lambda folder: members(fc8_b=pickled(folder)), "fc8/b holds object, not floats"),
        (lambda folder: members(fc8_b=npy(declared((5,), "<i4"), bytes(20))), "fc8/b holds int32, not floats"),
        (lambda folder: members(fc8_b=npy(declared((10**15,)), bytes(20))), "has shape (1000000000000000,)"),
        (lambda folder: members(fc8_b=npy(declared((6,)), bytes(24))), "has shape (6,), (5,) was expected"),
        (lambda folder: members(fc8_b=npy(declared((5,)), bytes(10**8))), "declares 100000128 bytes, too many"),
        (lambda folder: members(fc8_b=npy(declared((5,)), bytes(19))), "fc8/b cannot be read"),
        (lambda folder: members(fc8_b=npy("__import__('os')")), "fc8/b cannot be read"),
        (lambda folder: members(fc8_b=b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), "fc8/b cannot be read"),
        (lambda folder: members(fc8_b=npy(declared((5,)), np.full(5, np.nan, "<f4").tobytes())), "not finite"),
    ],
)
def test_a_hostile_npz_is_refused(c3d: Library, tmp_path: Path, make: Callable[[Path], bytes], said: str) -> None:
    paths = save_c3d(tmp_path)
    paths[0].write_bytes(make(tmp_path))
    text = sentence(lambda: c3d.import_files("c3d", paths))
    assert str(paths[0]) in text
    assert said in text
    assert not (tmp_path / "trace").exists()
    assert list(c3d.folder.glob("*.*")) == []


def test_a_damaged_member_and_two_of_one_name_are_refused(c3d: Library, tmp_path: Path) -> None:
    paths = save_c3d(tmp_path)
    whole = paths[0].read_bytes()
    data = bytearray(whole)
    data[data.index(recipe(1, C3D_SHAPES)["fc8/W"].tobytes())] ^= 1
    paths[0].write_bytes(data)
    assert "Bad CRC-32" in sentence(lambda: c3d.import_files("c3d", paths))
    paths[0].write_bytes(whole)
    with zipfile.ZipFile(paths[0], "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("fc8/b.npy", b"")
    assert "the same name" in sentence(lambda: c3d.import_files("c3d", paths))


def test_members_with_paths_are_never_written(c3d: Library, tmp_path: Path) -> None:
    paths = save_c3d(tmp_path)
    before = set(tmp_path.iterdir())
    with zipfile.ZipFile(paths[0], "a") as archive:
        archive.writestr("../../escaped.npy", b"x")
        archive.writestr("/etc/escaped", b"x")
    c3d.import_files("c3d", paths)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "cache"}


def test_a_mean_must_be_unique(c3d: Library, tmp_path: Path) -> None:
    paths = save_c3d(tmp_path)
    np.savez(paths[1], a=np.zeros(MEAN), b=np.zeros((1, *MEAN)))
    assert "it has 2 arrays of shape (3, 2, 4, 5), not one" in sentence(lambda: c3d.import_files("c3d", paths))
    np.savez(paths[1], a=np.zeros(3))
    assert "it has 0 arrays" in sentence(lambda: c3d.import_files("c3d", paths))


INCEPTION = {"conv.weight": (4, 3, 3, 3), "bn.running_var": (4,)}


@pytest.fixture
def inception(tmp_path: Path) -> Callable[[object], Library]:
    """Write a file with torch.save, or raw bytes, and give the library whose entry has its digest."""

    def make(content: object) -> Library:
        path = tmp_path / "w.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        digest = f"git-blob:{weights.git_blob_id(path)}"
        source = SourceFile("w.pth", ("http://127.0.0.1:9/w.pth",), path.stat().st_size, digest)
        tensors = {name: TensorInfo(shape) for name, shape in INCEPTION.items()}
        entry = Entry("inc", "Inception", "inception", "state-dict", (source,), tensors, "Apache-2.0", "nobody")
        return Library({"inc": entry}, tmp_path / "cache")

    return make


def test_a_state_dict_is_read_without_its_counters(
    inception: Callable[[object], Library], tmp_path: Path
) -> None:
    state = {name: torch.from_numpy(array) for name, array in recipe(1, INCEPTION).items()}
    library = inception({**state, "bn.num_batches_tracked": torch.tensor(7)})
    library.import_files("inc", [tmp_path / "w.pth"])
    assert same(library.load("inc"), recipe(1, INCEPTION))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state | {"fc.weight": torch.zeros(2)}, "it has a tensor fc.weight, which inception does"),
        (lambda state: {"conv.weight": state["conv.weight"]}, "it has no tensor bn.running_var"),
        (lambda state: state | {"bn.running_var": torch.zeros(5)}, "bn.running_var has shape (5,)"),
        (lambda state: state | {"bn.running_var": torch.full((4,), torch.inf)}, "not finite"),
        (lambda state: state | {"epoch": 3}, "it holds 'epoch', which is not a tensor"),
        (lambda state: list(state), "it holds a list"),
    ],
)
def test_a_state_dict_of_another_kind_is_refused(
    inception: Callable[[object], Library], tmp_path: Path, change: Callable[[object], object], said: str
) -> None:
    state = {name: torch.from_numpy(array) for name, array in recipe(1, INCEPTION).items()}
    library = inception(change(state))
    assert said in sentence(lambda: library.import_files("inc", [tmp_path / "w.pth"]))


def test_a_pickle_that_runs_code_is_refused_before_and_after_its_digest(
    inception: Callable[[object], Library], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = inception({"conv.weight": torch.zeros(1)})
    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps({"conv.weight": Touches(tmp_path / "trace")}, protocol=2))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: pytest.fail("read before its digest was checked"))
        assert "bytes expected" in sentence(lambda: library.import_files("inc", [evil]))
    library = inception(evil.read_bytes())
    assert "not a state dict of tensors" in sentence(lambda: library.import_files("inc", [evil]))
    assert not (tmp_path / "trace").exists()
    pickle.loads(evil.read_bytes())
    assert (tmp_path / "trace").exists(), "this pickle does run code"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".pkl", ".bin", ""])
def test_a_users_own_weights_are_never_unpickled(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    torch.save({"a": torch.zeros(1)}, path)
    assert "safetensors.torch.save_file(" in sentence(lambda: weights.read_weights_file(path))


def test_a_users_own_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    assert "cannot be read: no such file" in sentence(lambda: weights.read_weights_file(path))
    save_file({"a": torch.arange(3.0)}, path)
    assert weights.read_weights_file(str(path))["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-1])
    assert "cannot be read as safetensors" in sentence(lambda: weights.read_weights_file(path))
