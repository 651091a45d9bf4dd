"""Reads changed inputs, one after the other, and says of each how it ended; a process of its own.

python -m fuzz.worker CORPUS SEED START STOP [READER ...]

A line on the standard output when an input is begun (its number) and one when it has ended: JSON with the keys of
`Outcome`. Where this process dies, its parent knows by which input.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import vdm_bench
from fuzz import mutations
from fuzz.readers import READERS
from vdm_bench.errors import MachineError, VdmBenchError

Files = Mapping[str, bytes]
_ADDRESSES = 6 << 30  # bytes of memory that an input may ask for before the system says no


@dataclass(frozen=True)
class Outcome:
    """How an input was read.

    Attributes:
        number: of the input.
        reader: by its name in `READERS`.
        fault: what was raised and where, if it is no error of the project; empty for a good end.
        refused: whether it was one.
        seconds: of the processor.
        megabytes: that the process grew by at its height.
        detail: the traceback of a fault.
    """

    number: int
    reader: str
    fault: str = ""
    refused: bool = False
    seconds: float = 0.0
    megabytes: float = 0.0
    detail: str = ""


def load_corpus(folder: Path) -> dict[str, dict[str, bytes]]:
    """Load the valid inputs, by reader: their files by relative name."""
    return {
        name: {
            str(path.relative_to(folder / name)): path.read_bytes()
            for path in sorted((folder / name).rglob("*"))
            if path.is_file()
        }
        for name in READERS
        if (folder / name).is_dir()
    }


def make_corpus(folder: Path, names: Sequence[str]) -> None:
    """Write a valid input for each reader, which must read it."""
    for name in names:
        (folder / name).mkdir(parents=True)
        READERS[name].make(folder / name)


def changed_input(corpus: Mapping[str, Files], seed: str, number: int) -> tuple[str, dict[str, bytes]]:
    """Give input `number` of a seed: the reader that it is for, and its files."""
    rng = random.Random(f"{seed} {number}")
    names = sorted(corpus)
    name = names[number % len(names)]
    files = dict(corpus[name])
    targets = [file for file in sorted(files) if fnmatch(file, READERS[name].changed)]
    others = corpus[rng.choice(names)]
    other = others[rng.choice(sorted(others))]
    for _ in range(1 if rng.random() < 0.8 else 2):
        target = rng.choice(targets)
        files[target] = mutations.mutate(rng, files[target], other)
    return name, files


def read(number: int, name: str, files: Files) -> Outcome:
    """Read an input in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="input-"))
    for file, data in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    _forget_peak()
    before, start = _resident(), time.process_time()
    fault, refused, detail = "", False, ""
    try:
        READERS[name].read(folder)
    except MachineError as error:
        fault, detail = _where(error), traceback.format_exc()
    except VdmBenchError:
        refused = True
    except Exception as error:
        fault, detail = _where(error), traceback.format_exc()
    seconds = time.process_time() - start
    grown = _peak() - before
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(number, name, fault, refused, seconds, grown, detail)


def _resident() -> float:
    """Return the memory that is resident now, in MB; no less than it is where that cannot be told."""
    return _status("VmRSS")


def _peak() -> float:
    """Return the most memory that was resident since `_forget_peak`, in MB; or ever, if unknown."""
    return _status("VmHWM")


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> float:
    # Not `ru_maxrss` where it can be helped: it begins with the peak of the process that started this one.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:")) / 1024


def _where(error: BaseException) -> str:
    """Name an error by its type and the innermost place of this project that it went through."""
    root = str(Path(vdm_bench.__file__).parents[1])
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(root) and Path(frame.filename).parent != Path(__file__).parent
    ]  # fmt: skip
    place = f"{Path(frames[-1].filename).name} {frames[-1].name}" if frames else "the test"
    return f"{type(error).__name__} at {place}"


def main(corpus: str, seed: str, start: str, stop: str, *names: str) -> None:
    """Read inputs from `start` up to `stop`; those for `names` alone, if there are any."""
    warnings.simplefilter("ignore")
    known = load_corpus(Path(corpus))
    known = {name: known[name] for name in names or known}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        tempfile.tempdir = scratch
        os.environ["VDM_BENCH_CACHE"] = f"{scratch}/cache"
        for name, files in known.items():  # what is imported late, and kept, is no cost of an input
            outcome = read(-1, name, files)
            if outcome.fault or outcome.refused:
                print(json.dumps(asdict(outcome)), flush=True)
        resource.setrlimit(resource.RLIMIT_DATA, (_ADDRESSES, _ADDRESSES))
        for number in range(int(start), int(stop)):
            name, files = changed_input(known, seed, number)
            print(json.dumps({"begun": number, "reader": name}), flush=True)
            with contextlib.redirect_stdout(sys.stderr):
                outcome = read(number, name, files)
            print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
