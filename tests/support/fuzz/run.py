"""Runs workers over ranges of inputs, starts them anew where one dies or hangs, and sums up what they say."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from fuzz import worker
from fuzz.readers import READERS
from fuzz.worker import Outcome

_HANGS = 60.0  # seconds without a word: many times what the slowest input takes on a busy machine


@dataclass
class Report:
    """What came out.

    Attributes:
        corpus: the valid inputs, by reader.
        seed: of the inputs.
        counts: inputs of each reader.
        refused: those that ended in an error of the project.
        faults: the others that did not end well, by reader and kind.
        slowest: seconds of the processor, by reader.
        largest: megabytes, by reader.
    """

    corpus: dict[str, dict[str, bytes]]
    seed: str
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[Outcome]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        name = outcome.reader
        self.counts[name] += outcome.number >= 0
        self.refused[name] += outcome.refused
        self.slowest[name] = max(self.slowest.get(name, 0.0), outcome.seconds)
        self.largest[name] = max(self.largest.get(name, 0.0), outcome.megabytes)
        if outcome.fault:
            self.faults.setdefault(f"{name}: {outcome.fault}", []).append(outcome)


def fuzz(
    count: int,
    seed: str,
    names: Sequence[str] = (),
    *,
    workers: int = 1,
    seconds: float | None = None,
    megabytes: float | None = None,
) -> Report:
    """Read `count` changed inputs.

    Args:
        count: how many, in turns for each reader.
        seed: of the inputs: equal seeds, equal inputs, as far as encoders give equal bytes.
        names: of the readers; all by default.
        workers: processes.
        seconds: of the processor that an input may take.
        megabytes: that reading one may take.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as scratch:
        worker.make_corpus(Path(scratch), names or list(READERS))
        report, lock = Report(worker.load_corpus(Path(scratch)), seed), threading.Lock()
        bounds = [count * number // workers for number in range(workers + 1)]

        def work(start: int, stop: int) -> None:
            for outcome in _outcomes(scratch, seed, start, stop, names):
                with lock:
                    report.add(_within(outcome, seconds, megabytes))

        threads = [threading.Thread(target=work, args=pair) for pair in pairwise(bounds)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return report


def _within(outcome: Outcome, seconds: float | None, megabytes: float | None) -> Outcome:
    fault = outcome.fault
    if not fault and seconds is not None and outcome.seconds > seconds:
        fault = f"more than {seconds:g} s of the processor"
    if not fault and megabytes is not None and outcome.megabytes > megabytes:
        fault = f"more than {megabytes:g} MB"
    return Outcome(**{**vars(outcome), "fault": fault})


def _outcomes(corpus: str, seed: str, start: int, stop: int, names: Sequence[str]) -> Iterator[Outcome]:
    """Give what workers say of inputs `start` to `stop` - 1; one that dies or hangs is followed by another."""
    while start < stop:
        found = os.pathsep.join(path for path in sys.path if path)  # with that of this package
        command = [sys.executable, "-m", "fuzz.worker", corpus, seed, str(start), str(stop), *names]
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=said, env={**os.environ, "PYTHONPATH": found}
            ) as child,
        ):
            begun = {"begun": start, "reader": "none"}
            for line in _lines(child):
                content = json.loads(line)
                if "begun" in content:
                    begun = content
                else:
                    yield Outcome(**content)
            hangs = child.poll() is None and not _ended(child)
            if hangs:
                child.kill()
            status = child.wait()
            if status == 0:
                return
            fault = "hangs" if hangs else f"ends the process ({_signal(status)})"
            said.seek(0)
            detail = said.read().decode("utf-8", "replace")[-2000:]
            yield Outcome(begun["begun"], begun["reader"], fault, detail=detail)
            if begun["reader"] == "none":
                return
            start = begun["begun"] + 1


def _ended(child: "subprocess.Popen[bytes]") -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(5.0)
        return True
    return False


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """Give the lines of a child, until it ends or nothing comes for too long."""
    assert child.stdout is not None
    rest = b""
    while select.select([child.stdout], [], [], _HANGS)[0]:
        data = os.read(child.stdout.fileno(), 1 << 16)
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def _signal(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def minimised(report: Report, outcome: Outcome, out: Path, tries: int = 300) -> Path:
    """Write an input that shows a fault to a folder, its changed files made shorter as long as it shows it."""
    name, files = worker.changed_input(report.corpus, report.seed, outcome.number)
    if "hangs" not in outcome.fault and "process" not in outcome.fault and "more than" not in outcome.fault:
        for file in [file for file in files if files[file] != report.corpus[name].get(file)]:
            tries = _shorten(outcome, name, files, file, tries)
    folder = out / f"{name} {outcome.fault}".replace(" ", "-").replace("/", "-")
    for file, data in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    return folder


def _shorten(outcome: Outcome, name: str, files: dict[str, bytes], file: str, tries: int) -> int:
    size = len(files[file]) // 2
    while size and tries:
        start = 0
        while start < len(files[file]) and tries:
            tries -= 1
            shorter = files[file][:start] + files[file][start + size :]
            if worker.read(0, name, {**files, file: shorter}).fault == outcome.fault:
                files[file] = shorter
            else:
                start += size
        size //= 2
    return tries


def table(report: Report) -> str:
    """Write totals by reader as a table of Markdown."""
    lines = ["| reader | inputs | refused | faults | most s | most MB |", "|---|--:|--:|--:|--:|--:|"]
    faults = Counter(kind.split(":")[0] for kind, found in report.faults.items() for _ in found)
    for name in sorted(report.counts):
        row = (report.counts[name], report.refused[name], faults[name])
        lines.append(
            f"| {name} | {' | '.join(f'{number:,}' for number in row)} | {report.slowest[name]:.2f} | "
            f"{max(report.largest[name], 0):.0f} |"
        )
    total = (report.counts.total(), report.refused.total(), faults.total())
    return "\n".join([*lines, f"| all | {' | '.join(f'{number:,}' for number in total)} | | |"])
