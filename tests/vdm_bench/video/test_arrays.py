"""Array files that nobody vouches for: every damage is a broken clip, and none fills the memory."""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from peak_memory import peak_memory

from vdm_bench.datasets.folder import open_clips
from vdm_bench.errors import BrokenClipError, MachineError
from vdm_bench.runtime.npy import read_npy_header
from vdm_bench.video import arrays
from vdm_bench.video.arrays import ArrayClips

CLIPS = np.random.default_rng(3).integers(0, 256, (5, 4, 6, 8, 3), np.uint8)


def npy(header: str | bytes, values: bytes = CLIPS.tobytes(), version: int = 1) -> bytes:
    """An `.npy` file with this header."""
    text = header.encode("latin-1") if isinstance(header, str) else header
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + values


def header(shape: object = CLIPS.shape, descr: object = "|u1", order: object = False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}\n"


def saved(array: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


DAMAGED = {
    "no brackets": header()[1:],
    "half": header()[: len(header()) // 2],
    "open string": header().replace("|u1'", "|u1"),
    "line in a string": header().replace("|u1", "|u\n1"),
    "nested": header(shape="x").replace("'x'", "(" * 3000 + ")" * 3000),
    "minus signs": header(shape="x").replace("'x'", "-" * 9000 + "1"),
    "negative": header((-5, 4, 6, 8, 3)),
    "boolean": header((True, 4, 6, 8, 3)),
    "float": header((5.0, 4, 6, 8, 3)),
    "no tuple": header(CLIPS.size),
    "list": header([5, 4, 6, 8, 3]),
    "huge": header((10**9, 4, 6, 8, 3)),
    "larger than integers": header((10**17, 10**17, 6, 8, 3)),
    "long digits": header(shape="x").replace("'x'", "(" + "9" * 5000 + ", 4, 6, 8, 3)"),
    "one clip too many": header((6, 4, 6, 8, 3)),
    "unknown type": header(descr="|q9"),
    "type of types": header(descr="u1,u1,u1"),
    "records": header(descr=[("a", "|u1")]),
    "objects": header(descr="|O"),
    "order": header(order=3),
    "twice": header().replace("'shape'", "'shape': (2, 4, 6, 8, 3), 'shape'"),
    "key missing": "{'descr': '|u1', 'shape': (5, 4, 6, 8, 3)}",
    "key too many": header().replace("'shape'", "'more': True, 'shape'"),
    "code": header(shape="x").replace("'x'", "__import__('os')"),
    "not text": b"\xff\x00\xfe" * 30,
    "empty": "",
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_headers_are_broken_clips(tmp_path: Path, text: str | bytes, packed: bool) -> None:
    path = tmp_path / ("a.npz" if packed else "a.npy")
    for version in (1, 2, 3):
        data = npy(text, version=version)
        if packed:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("clips.npy", data)
        else:
            path.write_bytes(data)
        with pytest.raises(BrokenClipError, match="is no NumPy array that can be read"):
            ArrayClips(path)


@pytest.mark.parametrize("array", [CLIPS, np.asfortranarray(CLIPS), CLIPS[0], CLIPS[..., :1], CLIPS[:, ::2]])
def test_headers_are_read_as_numpy_reads_them(array: NDArray[np.uint8]) -> None:
    for dtype in ("u1", ">f4", "<M8[ns]", "?", "<U7", "c16"):
        for version in ((1, 0), (2, 0), (3, 0)):
            file = io.BytesIO()
            np.lib.format.write_array(file, array.astype(dtype), version)
            file.seek(0)
            found = read_npy_header(file)
            assert found.start == file.tell()
            assert (found.dtype, found.shape) == (np.dtype(dtype), array.shape)
            file.seek(0)
            np.lib.format.read_magic(file)
            if version == (1, 0):
                assert np.lib.format.read_array_header_1_0(file)[:2] == (found.shape, found.fortran_order)


@pytest.mark.parametrize(
    "text",
    [
        "{'shape': (5, 4, 6, 8, 3), 'fortran_order': False, 'descr': '|u1'}",
        '{"descr": "|u1", "fortran_order": False, "shape": (5L, 4L, 6L, 8L, 3L)}      \n',
        "{'descr':'u1','fortran_order':False,'shape':(5,4,6,8,3,),}",
    ],
)
def test_headers_of_other_writers_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.npy").write_bytes(npy(text))
    np.testing.assert_array_equal(ArrayClips(tmp_path / "a.npy").read(3), CLIPS[3])


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_clips_of_fortran_order(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez_compressed)(path, np.asfortranarray(CLIPS))
    for row, clip in enumerate(CLIPS):
        np.testing.assert_array_equal(ArrayClips(path).read(row), clip)
        np.testing.assert_array_equal(ArrayClips(path).read(row, 3), clip[:3])


def pack(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_strange_members(tmp_path: Path) -> None:
    path, data = tmp_path / "a.npz", saved(CLIPS)
    for others in ([("readme.txt", b"x")], [("folder/", b"")], [("clips", b"no array")], [("a/b/../c", b"")]):
        for name in ("clips.npy", "/absolute.npy", "../up.npy", ".npy"):
            clips = ArrayClips(pack(path, *others, (name, data)))
            np.testing.assert_array_equal(clips.read(4), CLIPS[4])
    with pytest.raises(BrokenClipError, match="several arrays called 'samples'"):
        ArrayClips(pack(path, ("samples.npy", data), ("samples.npy", data)))
    with pytest.raises(BrokenClipError, match=r"holds the arrays 0, 1, 10, .* and 292 more: call"):
        ArrayClips(pack(path, *((f"{number}.npy", b"") for number in range(300))))
    with pytest.raises(BrokenClipError, match="holds the arrays none"):
        ArrayClips(pack(path, ("folder/", b""), ("notes.txt", b"x")))
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with pytest.raises(BrokenClipError, match=r"save it with numpy\.savez_compressed"):
            ArrayClips(pack(path, ("clips.npy", data), method=method))


@pytest.mark.parametrize(("place", "words"), [(6, "encrypted"), (8, "packed as NumPy packs nothing")])
def test_members_that_cannot_be_unpacked(tmp_path: Path, place: int, words: str) -> None:
    data = bytearray(pack(tmp_path / "a.npz", ("clips.npy", saved(CLIPS))).read_bytes())
    for start, offset in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):  # the same field at both of its places
        data[data.index(start) + place + offset] = 97
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(BrokenClipError, match=words):
        ArrayClips(tmp_path / "a.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_flipped_bits_in_an_npz_are_found(tmp_path: Path, method: int) -> None:
    path = pack(tmp_path / "a.npz", ("clips.npy", saved(CLIPS)), method=method)
    whole = path.read_bytes()
    for place in np.random.default_rng(1).integers(200, len(whole) - 200, 25):
        data = bytearray(whole)
        data[place] ^= 16
        path.write_bytes(data)
        with pytest.raises(BrokenClipError):
            ArrayClips(path).read(0)  # whichever clip it is that is damaged


def test_an_array_is_not_inflated_further_than_its_header_says(tmp_path: Path) -> None:
    bomb = bytes(60 << 20)
    for text in (header((4, 4, 8, 8, 3)), header((10**5, 16, 64, 64, 3))):
        path = pack(tmp_path / "a.npz", ("clips.npy", npy(text, bomb)))
        assert path.stat().st_size < 1 << 20

        def work(path: Path = path) -> None:
            with pytest.raises(BrokenClipError, match="is no NumPy array"):
                ArrayClips(path)

        assert peak_memory(work) < 4 << 20


def test_a_large_npz_takes_no_memory_and_is_inflated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = np.zeros((200, 8, 64, 64, 3), np.uint8)
    clips[:, 0, 0, 0, 0] = np.arange(200)
    np.savez_compressed(tmp_path / "a.npz", clips=clips)
    monkeypatch.setattr(arrays, "_IN_MEMORY", 1 << 20)
    inflate, inflated = arrays._inflate, []
    monkeypatch.setattr(arrays, "_inflate", lambda *given: (inflated.append(1), inflate(*given))[1])

    def work() -> None:
        dataset = open_clips(tmp_path / "a.npz")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda index: int(dataset[index].frames[0, 0, 0, 0]), range(200)))
        assert found == list(range(200))
        inflated.append(0)

    assert peak_memory(work) < clips.nbytes / 2
    assert inflated == [1, 0, 1, 0]


def test_an_npz_for_which_there_is_no_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", CLIPS)
    monkeypatch.setattr(arrays, "_IN_MEMORY", 10)
    full = arrays.shutil._ntuple_diskusage(1, 1, 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(MachineError, match=r"a\.npz inflates to 0\.0 GB, more than is free in .*; set TMPDIR"):
        ArrayClips(tmp_path / "a.npz").read(0)


def open_descriptors() -> int:
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.exists() else 0


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_file_stays_open(tmp_path: Path, suffix: str) -> None:
    for number in range(40):
        (np.save if suffix == ".npy" else np.savez)(tmp_path / f"{number}{suffix}", CLIPS)
    before = open_descriptors()
    dataset = open_clips(tmp_path)
    held = [dataset[index] for index in range(len(dataset))]
    assert len(held) == 200
    assert open_descriptors() <= before
