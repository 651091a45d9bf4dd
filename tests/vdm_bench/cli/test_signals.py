"""SIGINT, SIGTERM and SIGHUP end every verb in good order; the second one ends it at once."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from processes import VARIABLE, marked, wait_until, wait_until_none

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PROGRAM = """
import json, os, subprocess, sys, time
subprocess.Popen(["sleep", "600"], start_new_session=True)
message = json.loads(sys.stdin.readline())
print(json.dumps({"type": "ready", "version": 1}), flush=True)
sys.stdin.readline()
open("at work", "a").close()
time.sleep(600)
"""
# A sampler in Python, which begins a file and sleeps in it.
MODULE = """
import time
from pathlib import Path
from vdm_bench.runtime.files import atomic_path

def sample(request):
    with atomic_path(Path("file.txt")) as path:
        path.write_text("half")
        Path("at work").touch()
        time.sleep(600)
"""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield
    left = marked(tmp_path)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


def start(arguments: Sequence[str], before: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-m", "vdm_bench", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def start_at_work(arguments: Sequence[str], before: Sequence[str] = ()) -> subprocess.Popen[str]:
    process = start(arguments, before)
    wait_until(lambda: Path("at work").exists() or process.poll() is not None, lambda: "it does not start")
    assert process.poll() is None, process.communicate()
    return process


def run_program() -> list[str]:
    Path("program.py").write_text(PROGRAM)
    command = shlex.join([sys.executable, "program.py"])
    return ["run", "shapes-unconditional", "--limit", "64", "--out", "run", "--sampler-command", command]


def run_module() -> list[str]:
    Path("my_sampler.py").write_text(MODULE)
    return ["run", "shapes-unconditional", "--limit", "64", "--out", "run", "--sampler", "my_sampler:sample"]


def hidden() -> list[Path]:
    return [path for path in Path().rglob(".*") if path.name != ".gitignore"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_run_and_its_program_and_removes_what_was_begun(number: signal.Signals) -> None:
    process = start_at_work(run_program())
    assert len(marked(Path.cwd())) == 4
    process.send_signal(number)
    _, messages = process.communicate()
    assert process.returncode == 128 + number
    assert messages.endswith(f"stopped by {number.name}; rerun the same command to resume\n")
    assert "Traceback" not in messages
    assert not marked(Path.cwd())
    assert not hidden()


@pytest.mark.parametrize("number", SIGNALS)
def test_files_that_were_begun_are_removed(number: signal.Signals) -> None:
    process = start_at_work(run_module())
    assert len(hidden()) == 2  # the file that is being written, and the lock of the run's folder
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + number
    assert not hidden()
    assert not Path("file.txt").exists()


def test_under_nohup_a_hang_up_changes_nothing() -> None:
    process = start_at_work(run_program(), ["nohup"])
    process.send_signal(signal.SIGHUP)
    Path("at work").unlink()
    assert len(marked(Path.cwd())) == 4
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not Path("at work").exists()


def test_the_second_signal_ends_a_run_at_once() -> None:
    """While the first one waits for the program, which gets some seconds."""
    process = start_at_work(run_program())
    scratch = next(Path("run").glob(".scratch*"))
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: is_usual(process.pid, signal.SIGTERM), lambda: "the first is not heeded")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM
    wait_until_none(Path.cwd())
    assert not scratch.exists()


def is_usual(process: int, number: int) -> bool:
    """Whether a process has no handler of its own for a signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return caught is not None and not int(caught[1], 16) >> (number - 1) & 1


DEAF = """
import ctypes, sys
from vdm_bench.runtime.stopping import interrupt_on_signals
interrupt_on_signals()
lock = ctypes.create_string_buffer(64)
system = ctypes.CDLL(None)
print(system.pthread_mutex_lock(lock), flush=True)
system.pthread_mutex_lock(lock)  # for ever, and no signal is heard
"""


def state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_second_signal_ends_what_hears_of_none() -> None:
    """As a library that computes for hours in one call."""
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    seen: list[str] = []
    while seen[-5:] != 5 * ["S"]:  # it sleeps for good
        seen.append(state(process.pid))
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # two of one kind at once are one
    process.communicate()
    assert process.returncode in (130, 143)


LOST = """
import signal, time
from vdm_bench.runtime.stopping import interrupt_on_signals
class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.01)
interrupt_on_signals()
try:
    Dying()
    print("goes on", flush=True)
    time.sleep(600)
except KeyboardInterrupt as error:
    print(repr(error), error.signal, flush=True)
"""


def test_a_signal_is_not_lost_in_a_destructor() -> None:
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=True)
    assert done.stdout == "goes on\nInterrupted('SIGTERM') 15\n"
    assert done.stderr == ""


IMPORTS = """
import sys, time
import vdm_bench.runtime.stopping
vdm_bench.runtime.stopping._LONGEST_IMPORT = float(sys.argv[1])
vdm_bench.runtime.stopping.interrupt_on_signals()
try:
    import asking
    print("goes on", flush=True)
    time.sleep(600)
except KeyboardInterrupt as error:
    print(repr(error), error.signal, flush=True)
"""
ASKS = "import signal, time\nsignal.raise_signal(signal.SIGHUP)\n"


@pytest.mark.parametrize(
    ("module", "longest", "printed"),
    [
        ("time.sleep(0.05)\nprint('imported', flush=True)", 600, "imported\ngoes on\n"),
        ("import below\nprint('imported', flush=True)", 600, "below\nimported\ngoes on\n"),
        ("time.sleep(600)", 0.05, ""),
    ],
)
def test_an_import_is_not_interrupted_unless_it_takes_for_ever(module: str, longest: float, printed: str) -> None:
    """The initialiser of a library may abort the process."""
    Path("asking.py").write_text(ASKS + module)
    Path("below.py").write_text("import time\ntime.sleep(0.05)\nprint('below', flush=True)")
    command = [sys.executable, "-c", IMPORTS, str(longest)]
    path = os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.stdout == f"{printed}Interrupted('SIGHUP') 1\n"
    assert done.stderr == ""


CATCHES = """
import signal, sys
from vdm_bench.cli import cli, main
from vdm_bench.errors import InputError
def work(**options):
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException:
        raise %s
cli.commands["list"].callback = work
sys.argv = ["vdm-bench", "list", "metrics"]
main()
"""


@pytest.mark.parametrize(
    "error", ["SystemError('initialization failed')", "InputError('a')", "KeyboardInterrupt", "OSError(28, 'a')"]
)
def test_a_signal_is_told_of_whatever_a_library_makes_of_it(error: str) -> None:
    done = subprocess.run([sys.executable, "-c", CATCHES % error], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "stopped by SIGTERM\n")


LATE = """
import atexit, signal, sys, time
from vdm_bench.cli import cli, main
def at_the_end():
    %s
    time.sleep(0.1)
atexit.register(at_the_end)
def work(**options):
    %s
    print("done")
cli.commands["list"].callback = work
sys.argv = ["vdm-bench", "list", "metrics"]
main()
"""


@pytest.mark.parametrize(
    ("last", "work", "status"),
    [
        ("pass", "import asking", 0),  # it comes in an import, and nothing is left to be done after it
        ("signal.raise_signal(signal.SIGTERM)", "pass", -signal.SIGTERM),
        ("signal.raise_signal(signal.SIGINT)", "import asking", -signal.SIGINT),
    ],
)
def test_a_signal_that_comes_when_all_is_done_leaves_no_traceback(last: str, work: str, status: int) -> None:
    Path("asking.py").write_text(ASKS)
    path = os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-u", "-c", LATE % (last, work)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "done\n", "")


FORKS = """
import os, signal, threading, time
from vdm_bench.runtime.stopping import interrupt_on_signals
interrupt_on_signals()
def fork():
    child = os.fork()
    if not child:
        time.sleep(600)
    children.append(child)
children = []
for number in range(3):
    fork()
thread = threading.Thread(target=fork)
thread.start()
thread.join()
for child in children:
    os.kill(child, signal.SIGTERM)
    print(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
time.sleep(0.2)
print("goes on")
"""


def test_forks_end_as_usual_and_are_not_taken_for_the_process() -> None:
    """As the worker processes of a library."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split("\n") == ["15", "15", "15", "15", "goes on", ""], done.stderr


QUEUED = """
import signal, sys, time
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.runtime.stopping import interrupt_on_signals
interrupt_on_signals()
begun = []
def work(item):
    begun.append(item)
    if len(begun) == 2:
        signal.raise_signal(signal.SIGHUP)
    time.sleep(0.2)
try:
    list(ordered_map(work, range(10_000), 2))
finally:
    print(len(begun), flush=True)
"""


def test_clips_that_wait_for_a_thread_are_not_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", QUEUED], capture_output=True, text=True, check=False)
    assert "Interrupted: SIGHUP" in done.stderr
    assert 2 <= int(done.stdout) <= 6


def test_a_process_that_waits_for_others_of_its_job_hears_of_signals() -> None:
    """It waits in a library for what another process sends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    arguments = run_module()
    processes = [start(arguments, RANK=str(rank), **world) for rank in range(2)]
    wait_until(lambda: Path("at work").exists(), lambda: [process.poll() for process in processes])
    for process in reversed(processes):  # first the one that waits
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate()
        assert process.returncode == 128 + signal.SIGTERM, messages
        assert "stopped by SIGTERM; rerun the same command to resume" in messages
    assert not hidden()
