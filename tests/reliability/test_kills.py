"""Processes of a run die at seeded random points; the score does not change, and no half file is taken for whole.

The runner dies at its file operations, in the middle of files, and at any time; the child of a command sampler
and one of two ranks die, too.
"""

import contextlib
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from killing import VARIABLE, Kill, start
from paths import ROOT, TESTS

from vdm_bench.leaderboards.record import Record, read_record
from vdm_bench.runtime.run_folder import REPORT_FILE

PROTOCOL = """
name = "small"
title = "two blocks and a part of a third"
task = "prediction"
dataset = "shapes"
frames = 16
context_frames = 4
resolution = 32
reference = { split = "test" }
reference_count = 96
conditions = { split = "test", seed = 1 }
generated_count = 150
metrics = ["embedded/fvd", "embedded/is"]
frame_metrics = ["psnr"]
"""

SUPPORT = str(TESTS / "support")

CHILD = f"""
import sys
sys.path[:0] = {[SUPPORT, str(ROOT / "examples" / "command_sampler")]!r}
import client, killing
open(__file__.removesuffix("child.py") + "started", "w").close()
killing.arm_by_environment([""])
client.serve(killing.noise)
"""

LONGEST_END = 90.0  # seconds that a process may take to end, once another one has died


@dataclass(frozen=True)
class Bench:
    """A protocol and a sampler, and what an uninterrupted run of them gives."""

    protocol: Path
    sampler: tuple[str, str]
    whole: Path
    operations: int  # of files, in a run

    @property
    def record(self) -> Record:
        return read_record(self.whole / "run" / "run.json")


def start_run(
    bench: Bench, place: Path, kill: Kill | None = None, log: str = "log", **environment: str
) -> ForkServerProcess:
    """Begin the run in `place`, or go on with it."""
    command = ["run", str(bench.protocol), *bench.sampler, "--out", str(place / "run"), "--workers", "1"]
    settings = {"VDM_BENCH_CACHE": str(place / "cache"), **environment}
    return start(command, [place / "run", place / "cache"], place / log, settings, kill)


def ended(process: ForkServerProcess, log: Path) -> tuple[int, str]:
    """Wait for a process; give its status, negative after a signal, and what it printed."""
    process.join(LONGEST_END)
    if process.exitcode is None:
        process.kill()
        pytest.fail(f"it hangs: {log.read_text()}")
    return process.exitcode, log.read_text() if log.exists() else ""


def finish(bench: Bench, place: Path, kill: Kill | None = None, **environment: str) -> tuple[int, str]:
    return ended(start_run(bench, place, kill, **environment), place / "log")


def make_bench(folder: Path, sampler: tuple[str, str]) -> Bench:
    protocol = folder / "small.toml"
    protocol.write_text(PROTOCOL)
    bench = Bench(protocol, sampler, folder / "whole", 0)
    bench.whole.mkdir()
    status, log = finish(bench, bench.whole)
    assert status == 0, log
    return replace(bench, operations=int(log.splitlines()[-1]))


@pytest.fixture(scope="module")
def blurred(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("blurred"), ("--sampler", "blurred"))


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("command")
    (folder / "child.py").write_text(CHILD)
    return make_bench(folder, ("--sampler-command", shlex.join([sys.executable, str(folder / "child.py")])))


def names_in(folder: Path) -> set[Path]:
    """Name all but what is remembered of files: that hangs on their inodes and times."""
    found = (path for path in folder.rglob("*") if (path.parent.name, path.suffix) != ("features", ".json"))
    return {path.relative_to(folder) for path in found}


def check_files(bench: Bench, place: Path) -> None:
    """What a reader would take for whole is whole: it has the bytes of the uninterrupted run."""
    for name in names_in(place):
        if not (place / name).is_file() or any(part.startswith((".", "log")) for part in name.parts):
            continue
        if name.name == "run.json":
            assert read_record(place / name).scores == bench.record.scores
        elif name.name == REPORT_FILE:  # tells when the run ended, and how long it took
            assert (place / name).read_bytes().rstrip().endswith(b"</html>")
        else:
            assert (place / name).read_bytes() == (bench.whole / name).read_bytes(), name


def check_end(bench: Bench, place: Path) -> None:
    """The run ended as the uninterrupted one, and nothing is left in its folder but what belongs there."""
    check_files(bench, place)
    record, expected = read_record(place / "run" / "run.json"), bench.record
    for field in ("scores", "curves", "generated", "reference", "sampler", "protocol"):
        assert getattr(record, field) == getattr(expected, field), field
    assert names_in(place / "run") == names_in(bench.whole / "run")


def draw_kill(draw: random.Random, most: int, longest: int = 3000) -> Kill:
    """A kill within so many file operations, one in three in the middle of a file."""
    return Kill(draw.randint(1, most), draw.randint(1, longest) if draw.random() < 1 / 3 else None)


@pytest.mark.parametrize("seed", range(3))
def test_a_runner_killed_at_its_file_operations_ends_with_the_same_bits(
    seed: int, blurred: Bench, tmp_path: Path
) -> None:
    draw, kills = random.Random(seed), 0
    for _ in range(4):
        status, log = finish(blurred, tmp_path, draw_kill(draw, blurred.operations // 3))
        assert status <= 0, log
        kills += status < 0
        check_files(blurred, tmp_path)
    assert kills >= 3
    status, log = finish(blurred, tmp_path)
    assert status == 0, log
    check_end(blurred, tmp_path)


def test_a_runner_killed_at_any_time_ends_with_the_same_bits(blurred: Bench, tmp_path: Path) -> None:
    draw, kills = random.Random(9), 0
    for _ in range(4):
        process = start_run(blurred, tmp_path)
        time.sleep(draw.uniform(0.2, 1.0))
        process.kill()
        status, log = ended(process, tmp_path / "log")
        assert status <= 0, log
        kills += status < 0
        check_files(blurred, tmp_path)
    assert kills >= 2
    status, log = finish(blurred, tmp_path)
    assert status == 0, log
    check_end(blurred, tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_a_child_killed_at_its_requests_does_not_change_the_scores(
    seed: int, command: Bench, tmp_path: Path
) -> None:
    """It dies as it begins to write its clips, or in the middle of them."""
    draw, size = random.Random(seed), 22 * 16 * 32 * 32 * 3
    for _ in range(3):
        missing = 3 - len(list(tmp_path.glob("run/samples/shard-*.json")))
        kill = draw_kill(draw, missing, size)
        status, log = finish(command, tmp_path, **{VARIABLE: kill.to_text()})
        number = signal.SIGKILL if kill.torn is None else signal.SIGXFSZ
        assert status == 2, log
        assert f"ended by signal {number}; its own messages are above" in log
        check_files(command, tmp_path)
        assert not [name for name in names_in(tmp_path / "run") if name.name.startswith(".")]
    status, log = finish(command, tmp_path)
    assert status == 0, log
    check_end(command, tmp_path)


def test_a_killed_runner_leaves_no_child_and_no_scratch_folder(command: Bench, tmp_path: Path) -> None:
    draw, seen = random.Random(3), 0
    script = Path(shlex.split(command.sampler[1])[1])
    started = script.with_name("started")
    for attempt in range(10):  # some die before the child is there
        if seen and attempt > 2:
            break
        started.unlink(missing_ok=True)
        status, log = finish(command, tmp_path, draw_kill(draw, command.operations // 3))
        assert status < 0, log
        check_files(command, tmp_path)
        wait_for_end_of(script)
        seen += started.exists()
        assert not list((tmp_path / "run").glob(".scratch.*"))
    assert seen
    status, log = finish(command, tmp_path)
    assert status == 0, log
    check_end(command, tmp_path)


def wait_for_end_of(script: Path) -> None:
    """Wait until no process runs a script."""
    deadline = time.monotonic() + LONGEST_END
    while any(str(script).encode() in line for line in command_lines()):
        assert time.monotonic() < deadline, "the child lives"
        time.sleep(0.05)


def command_lines() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            yield (process / "cmdline").read_bytes()


def both_ranks(bench: Bench, place: Path, kills: tuple[Kill | None, Kill | None]) -> list[tuple[int, str]]:
    """Start two processes of one job; give how they end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        start_run(bench, place, kill, f"log{rank}", RANK=str(rank), **world) for rank, kill in enumerate(kills)
    ]
    return [ended(process, place / f"log{rank}") for rank, process in enumerate(processes)]


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_of_two_ranks_is_killed_the_other_ends_and_both_can_go_on(
    victim: int, blurred: Bench, tmp_path: Path
) -> None:
    draw, stopped = random.Random(victim), 0
    for _ in range(3):
        kill = draw_kill(draw, blurred.operations // 4)
        ends = both_ranks(blurred, tmp_path, (kill, None) if victim == 0 else (None, kill))
        survivor, log = ends[1 - victim]
        assert ends[victim][0] < 0, ends[victim][1]
        assert survivor in (0, 75), log
        assert (survivor == 75) == ("another process of this job has stopped" in log)
        stopped += survivor == 75
        check_files(blurred, tmp_path)
    assert stopped >= 2
    for status, log in both_ranks(blurred, tmp_path, (None, None)):
        assert status == 0, log
    check_end(blurred, tmp_path)


def test_a_killed_rank_ends_the_job_and_a_single_process_resumes_it(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, ("--sampler", "killing:noise"))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vdm_bench"]
    place = tmp_path / "killed"
    command = ["run", str(bench.protocol), *bench.sampler, "--out", str(place / "run"), "--workers", "1"]
    paths = os.pathsep.join([SUPPORT, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    settings = {"VDM_BENCH_CACHE": str(place / "cache"), "PYTHONPATH": paths, "DIE_AT": "1/64"}
    done = subprocess.run(
        [sys.executable, *launcher, *command],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=LONGEST_END,
        check=False,
    )
    assert done.returncode != 0
    assert "exitcode  : -9" in done.stderr, done.stderr
    assert not (place / "run" / "run.json").exists()
    check_files(bench, place)
    status, log = finish(bench, place)
    assert status == 0, log
    check_end(bench, place)
