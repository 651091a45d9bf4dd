"""Every reader ends well or in an error of this project, whatever it is given; `python -m fuzz` tries more."""

import json
import lzma
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fuzz import worker
from fuzz.inputs import FRAMES
from fuzz.readers import READERS
from fuzz.run import fuzz, minimised, table
from fuzz.worker import Outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm_bench.datasets.folder import open_clips
from vdm_bench.errors import InputError

DEEP = 3000


def check(report_of: dict[str, list[Outcome]]) -> None:
    assert not report_of, "\n".join(f"{kind}\n{found[0].detail}" for kind, found in report_of.items())


def test_500_changed_inputs_end_well_or_in_an_error_of_the_project() -> None:
    report = fuzz(500, "ordinary")
    check(report.faults)
    assert report.counts.total() == 500
    assert report.counts.keys() == READERS.keys()
    # Neither are the changes so small that all is read, nor so large that nothing is.
    assert 100 < report.refused.total() < 400
    assert "| all | 500 |" in table(report)


@pytest.mark.slow
def test_20000_changed_inputs_are_read_soon_and_in_little_memory() -> None:
    report = fuzz(20_000, "slow", workers=2, seconds=2.0, megabytes=200.0)
    check(report.faults)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("corpus")
    worker.make_corpus(folder, list(READERS))
    return worker.load_corpus(folder)


def test_valid_inputs_are_read(corpus: dict[str, dict[str, bytes]]) -> None:
    outcomes = [worker.read(0, name, files) for name, files in corpus.items()]
    assert [outcome.reader for outcome in outcomes if outcome.refused or outcome.fault] == []


BROKEN_READERS = """
import os, signal, time
from types import SimpleNamespace

def raises(folder): raise KeyError("x")

def dies(folder):
    if (folder / "a").read_bytes() != b"{}":
        os.kill(os.getpid(), signal.SIGSEGV)

def grows(folder): bytearray(os.urandom(1) * (90 << 20))

def slow(folder):
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass

def make(folder): (folder / "a").write_bytes(b"{}")

READERS = {
    read.__name__: SimpleNamespace(make=make, read=read, changed="*") for read in (raises, dies, grows, slow)
}
"""


def test_the_fuzzer_sees_what_raises_dies_grows_and_takes_long(tmp_path: Path) -> None:
    """Readers that are broken on purpose, in the place of the project's."""
    package = tmp_path / "fuzz"
    package.mkdir()
    for name in ("__init__.py", "run.py", "worker.py", "mutations.py"):
        shutil.copy(Path(worker.__file__).with_name(name), package)
    (package / "readers.py").write_text(BROKEN_READERS)
    code = (
        "import sys; sys.path.insert(0, '.'); from fuzz.run import fuzz\n"
        "report = fuzz(16, '0', seconds=0.35, megabytes=80)\n"
        "print(sorted({kind.split(' at ')[0] for kind in report.faults}), report.counts.total())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    kinds = ["dies: ends the process (SIGSEGV)", "grows: more than 80 MB", "raises: KeyError"]
    assert done.stdout == f"{[*kinds, 'slow: more than 0.35 s of the processor']} 16\n"


def test_an_input_is_made_smaller_as_long_as_it_shows_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(folder: Path) -> None:
        if b"\xff" in (folder / "a.txt").read_bytes():
            raise KeyError("x")

    reader = READERS["tolerances"]
    monkeypatch.setitem(READERS, "tolerances", type(reader)(reader.make, read))
    report = fuzz(0, "1", ["tolerances"])
    number = next(
        number
        for number in range(1000)
        if b"\xff" in worker.changed_input(report.corpus, "1", number)[1]["a.txt"]
    )
    outcome = Outcome(number, "tolerances", "KeyError at test_fuzz.py read")
    folder = minimised(report, outcome, tmp_path)
    assert (folder / "a.txt").read_bytes() == b"\xff"


# Kinds of inputs that once ended in a traceback, made anew; each with what must come of it.


def _npy(header: str | bytes, data: bytes = bytes(FRAMES.size)) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _npz(content: bytes, *, method: int = zipfile.ZIP_STORED, change: tuple[int, bytes] | None = None) -> bytes:
    import io

    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as file:
        file.writestr("clips.npy", content)
    data = bytearray(target.getvalue())
    if change:  # of both records: where in the central one, and what
        at, new = change
        central = data.index(b"PK\x01\x02")
        data[central + at : central + at + 2] = data[at - 2 : at] = new
    return bytes(data)


_SHAPES = ("(True, 4, 16, 16, 3)", "(-1, 4, 16, 16, 3)", f"({10**30},)", f"({2**60}, 4, 16, 16, 3)", "(3, 4")
ARRAYS: dict[str, bytes] = {
    **{
        f"shape {shape[:12]}": _npy(f"{{'descr': '|u1', 'fortran_order': True, 'shape': {shape}}}\n")
        for shape in _SHAPES
    },
    "dates": _npy("{'descr': '<M8[ns]', 'fortran_order': True, 'shape': (-1, 4, 8, 8, 3)}\n", b""),
    "half a header": _npy(" 8, 3), }\n"),
    "a text without an end": _npy("{'descr': '''|u1"),
    "brackets": _npy("(" * DEEP),
    "no UTF-8": _npy(b"{'descr': '\xff'}"),
}
ARCHIVES: dict[str, bytes] = {
    "encrypted": _npz(_npy(""), change=(8, b"\x01\x00")),
    "method 99": _npz(_npy(""), change=(10, b"\x63\x00")),
    "half a header": _npz(ARRAYS["half a header"]),
    "broken LZMA": _npz(_npy(""), method=zipfile.ZIP_LZMA).replace(
        lzma.compress(b"", lzma.FORMAT_ALONE)[:5], b"\xff" * 5
    ),
}


@pytest.mark.parametrize(
    ("suffix", "data"), [("npy", d) for d in ARRAYS.values()] + [("npz", d) for d in ARCHIVES.values()]
)
def test_arrays_that_are_none_are_clips_that_cannot_be_read(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.{suffix}"):
        open_clips(tmp_path)[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
JSON_FILES = (
    *(
        ("run record", "run.json"),
        ("baseline", "baseline.json"),
        ("plan of a run", "plan.json"),
        ("verified", "verified.json"),
    ),
    *(
        ("plan of samples", "sample.json"),
        ("training settings", "config.json"),
        ("training log", "log.jsonl"),
    ),
    *(
        ("clip archive", "archive.json"),
        ("clip archive", "shard-000000.json"),
        ("captions jsonl", "captions.jsonl"),
    ),
)


@pytest.mark.parametrize(("name", "file"), JSON_FILES)
@settings(max_examples=15)
@given(content=JSON, key=st.integers(0, 50))
def test_json_of_other_types_is_refused_or_read(
    corpus: dict[str, dict[str, bytes]], name: str, file: str, content: object, key: int
) -> None:
    """In the place of the whole file, and of one value at its top."""
    files = corpus[name]
    whole = json.dumps(content, allow_nan=True).encode()
    line, *lines = files[file].split(b"\n") if file.endswith("l") else [files[file]]
    old = json.loads(line)
    changed = {**old, sorted(old)[key % len(old)]: content}
    changed.pop("checksum", None)
    for data in (whole, json.dumps(changed, allow_nan=True).encode()):
        outcome = worker.read(0, name, {**files, file: b"\n".join([data, *lines])})
        assert not outcome.fault, outcome.detail


@settings(max_examples=60)
@given(
    descr=st.sampled_from(["|u1", "<f4", "|O", "<U3", "|V4", "<M8[ns]", "u1,u1", "", "x"])
    | st.integers()
    | st.none(),
    order=st.booleans() | st.none(),
    shape=st.lists(st.integers(-2, 2**70) | st.booleans() | st.floats(), max_size=6).map(tuple) | st.integers(),
)
def test_headers_of_arrays_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, descr: object, order: object, shape: object
) -> None:
    header = f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}}}\n"
    for data in (_npy(header), _npz(_npy(header))):
        name = "npy" if data[:1] == b"\x93" else "npz stored"
        outcome = worker.read(0, name, {f"clips.{name[:3]}": data})
        assert not outcome.fault, outcome.detail
