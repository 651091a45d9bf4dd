"""A sampler's program ends with the harness, with all it has started, whatever ends the harness."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import VARIABLE, marked, wait_until, wait_until_none

from vdm_bench.errors import InputError
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.samplers.command import CommandSampler
from vdm_bench.samplers.supervisor import end_marked

REQUEST = SampleRequest(indices=(4, 5), seeds=(7, 8), frames=3, height=4, width=6)

# Each leaves a process that nobody below the harness waits for.
STARTED = {
    "child": "subprocess.Popen(SLEEP)",
    "own session": "subprocess.Popen(SLEEP, start_new_session=True)",
    "deaf": "subprocess.Popen([sys.executable, '-c', 'import signal, time\\nfor n in (1, 2, 3, 15): "
    "signal.signal(n, signal.SIG_IGN)\\ntime.sleep(600)'], start_new_session=True)",
    "left by its parent": "subprocess.run([sys.executable, '-c', 'import subprocess, sys; "
    'subprocess.Popen(["sleep", "600"], start_new_session=True)\'])',
    "daemon": "os.fork() or (os.setsid(), os.fork() and os._exit(0), os.execvp('sleep', SLEEP))",
    "stopped": "os.kill(subprocess.Popen(SLEEP, start_new_session=True).pid, 19)",
}
PROGRAM = """
import json, os, subprocess, sys, time
SLEEP = ["sleep", "600"]
message = json.loads(sys.stdin.readline())
print(json.dumps({"type": "ready", "version": 1}), flush=True)
sys.stdin.readline()
%s
open(os.path.join(message["scratch"], "at work"), "w").close()
time.sleep(600)
"""
HARNESS = """
import os, sys, threading, time
from pathlib import Path
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.samplers.command import CommandSampler
sampler = CommandSampler(sys.argv[1], {})
sampler.set_scratch_folder(Path(sys.argv[2]))
%s
sampler.sample(SampleRequest(indices=(4, 5), seeds=(7, 8), frames=3, height=4, width=6))
"""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    yield
    left = {process: line for process, line in marked(tmp_path).items() if process != os.getpid()}
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left


def program(folder: Path, code: str) -> str:
    script = folder / "program.py"
    script.write_text(code)
    return shlex.join([sys.executable, str(script)])


def start_harness(folder: Path, program: str, code: str = "") -> subprocess.Popen[bytes]:
    """Start a harness, and wait until its program is at work."""
    process = subprocess.Popen([sys.executable, "-c", HARNESS % code, program, str(folder)])
    wait_until(lambda: list(folder.glob(".scratch*/at work")) or process.poll(), lambda: "it did not start")
    assert process.poll() is None
    return process


@pytest.mark.parametrize("started", STARTED)
def test_all_that_a_program_has_started_ends_with_a_killed_harness(started: str, tmp_path: Path) -> None:
    harness = start_harness(tmp_path, program(tmp_path, PROGRAM % STARTED[started]))
    assert len(marked(tmp_path)) == 4  # the supervisor, the program, and what that has started
    harness.kill()
    harness.wait()
    wait_until_none(tmp_path)
    assert not list(tmp_path.glob(".scratch*"))


def test_processes_that_start_one_another_anew_end(tmp_path: Path) -> None:
    """Two that guard each other."""
    guard = (
        "def guard():\n"
        "    while True:\n"
        "        other = os.fork()\n"
        "        if other:\n"
        "            os.waitpid(other, 0)\n"
        "        else:\n"
        "            os.setsid()\n"
        "            parent = os.getppid()\n"
        "            while os.getppid() == parent: time.sleep(0.001)\n"
        "os.fork() or guard()\n"
        "time.sleep(0.5)\n"
    )
    harness = start_harness(tmp_path, program(tmp_path, PROGRAM % guard))
    harness.kill()
    harness.wait()
    wait_until_none(tmp_path)


def test_a_fork_of_the_harness_does_not_keep_the_program_alive(tmp_path: Path) -> None:
    """It has the harness's end of every pipe, as the worker processes of a library do."""
    fork = (
        "def fork():\n"
        "    while not list(Path(sys.argv[2]).glob('.scratch*/at work')): time.sleep(0.01)\n"
        "    if not os.fork():\n"
        "        os.environ.clear(); Path(sys.argv[2], 'fork').write_text(str(os.getpid()))\n"
        "        time.sleep(600)\n"
        "threading.Thread(target=fork).start()\n"
    )
    harness = start_harness(tmp_path, program(tmp_path, PROGRAM % ""), fork)
    wait_until(lambda: (tmp_path / "fork").exists() and (tmp_path / "fork").read_text(), lambda: "no fork")
    fork_number = int((tmp_path / "fork").read_text())
    harness.kill()
    harness.wait()
    try:
        wait_until(lambda: set(marked(tmp_path)) <= {fork_number}, lambda: marked(tmp_path))
    finally:
        os.kill(fork_number, signal.SIGKILL)
    wait_until_none(tmp_path)


CLIPS = """
import json, os, sys
import numpy as np
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "hello":
        scratch = message["scratch"]
        print(json.dumps({"type": "ready", "version": 1}), flush=True)
        continue
    shape = (len(message["seeds"]), message["frames"], message["height"], message["width"], 3)
    np.save(os.path.join(scratch, "clips.npy"), np.full(shape, os.getpid() % 251, np.uint8))
    print(json.dumps({"type": "done", "number": message["number"], "clips": "clips.npy"}), flush=True)
"""


def test_a_program_outlives_the_thread_that_has_started_it(tmp_path: Path) -> None:
    """The system tells children of the end of a thread, not of a process."""
    from concurrent.futures import ThreadPoolExecutor

    sampler = CommandSampler(program(tmp_path, CLIPS), {})
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(sampler.sample, REQUEST).result()
    with ThreadPoolExecutor(1) as pool:
        assert np.array_equal(pool.submit(sampler.sample, REQUEST).result(), first)
    assert np.array_equal(sampler.sample(REQUEST), first)  # by the same process
    sampler.close()
    wait_until(lambda: set(marked(tmp_path)) <= {os.getpid()}, lambda: marked(tmp_path))


def test_what_a_program_left_behind_ends_with_it(tmp_path: Path) -> None:
    """It closes its own output, and one that it has started holds it open: that is not waited for."""
    code = PROGRAM % "subprocess.Popen(SLEEP, start_new_session=True); sys.exit(4)"
    sampler = CommandSampler(program(tmp_path, code), {})
    with pytest.raises(InputError, match="ended with status 4; its own messages are above"):
        sampler.sample(REQUEST)
    assert set(marked(tmp_path)) <= {os.getpid()}


@pytest.mark.parametrize("started", STARTED)
def test_a_program_that_kills_its_supervisor_ends_with_it(started: str, tmp_path: Path) -> None:
    code = PROGRAM % f"{STARTED[started]}\nos.kill(os.getppid(), 9)"
    sampler = CommandSampler(program(tmp_path, code), {})
    sampler.set_scratch_folder(tmp_path)
    with pytest.raises(InputError, match="ended"):
        sampler.sample(REQUEST)
    wait_until(lambda: set(marked(tmp_path)) <= {os.getpid()}, lambda: marked(tmp_path))
    assert not list(tmp_path.glob(".scratch*"))


HANDS_ON = """
import os, sys, time
sys.stdin.readline()
if not os.fork(): time.sleep(600)
"""


def test_a_process_that_was_started_while_processes_were_listed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", HANDS_ON], stdin=subprocess.PIPE, env={**os.environ, "NAME": str(tmp_path)}
    )
    list_folder = os.listdir

    def list_first(path: str) -> list[str]:
        names = list_folder(path)
        if parent.returncode is None:  # it has not ended before
            parent.communicate(b"go on\n")
        return names

    monkeypatch.setattr("os.listdir", list_first)
    end_marked(f"NAME={tmp_path}")
    assert set(marked(tmp_path)) <= {os.getpid()}


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        # SIGPIPE and SIGXFSZ, which Python ignores, end it as usual; nothing is blocked.
        ("grep -E '^SigBlk' /proc/self/status", "SigBlk:.t0{16}"),
        ("grep -E '^SigIgn' /proc/self/status", "SigIgn:.t0{9}[02468ace]..[02468ace]..."),
        ("sh -c 'echo $(ls /proc/self/fd)'", "0 1 2 3"),  # the fourth is the folder's
        ("sh -c 'echo $(ps -o pgid= -p $$) $(ps -o sid= -p $$) - $$'", r"(\d+) \1 - \1"),
    ],
)
def test_a_program_starts_as_from_a_shell(command: str, printed: str) -> None:
    with pytest.raises(InputError, match=f"printed '{printed}' to stdout"):
        CommandSampler(command, {}).sample(REQUEST)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("{folder}/no/such", "No such file or directory"),
        ("{folder}/text", "Permission denied"),
        ("{folder}/odd", "Exec format error"),
        ("{folder}", "Permission denied"),
        ("prog\0ram", "embedded null byte"),
    ],
)
def test_a_program_that_cannot_be_started_is_named_with_the_reason(
    command: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "odd").write_text("\0no program")
    (tmp_path / "odd").chmod(0o755)
    sampler = CommandSampler(command.format(folder=shlex.quote(str(tmp_path))), {})
    sampler.set_scratch_folder(tmp_path)
    with pytest.raises(InputError, match=f"cannot be started: {reason}$"):
        sampler.sample(REQUEST)
    assert not list(tmp_path.glob(".scratch*"))


SAYS_WHERE_STREAMS_LEAD = """
import json, os, sys
streams = [os.readlink(f"/proc/self/fd/{number}").split(":")[0] for number in range(3)]
print(json.dumps({"type": "error", "message": " ".join(streams)}), flush=True)
"""
CLOSING = """
import os, sys
from pathlib import Path
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.samplers.command import CommandSampler
folder = Path(sys.argv[2])
for number in map(int, sys.argv[3]):
    os.close(number)
files = [open(folder / f"mine-{number}", "wb") for number in range(int(sys.argv[4]))]
sampler = CommandSampler(sys.argv[1], {})
sampler.set_scratch_folder(folder)
try:
    sampler.sample(SampleRequest(indices=(4, 5), seeds=(7, 8), frames=3, height=4, width=6))
except Exception as error:
    (folder / "said").write_text(str(error))
"""


@pytest.mark.parametrize("closed", ["2", "02", "12", "012"])
@pytest.mark.parametrize("files", [0, 3])
def test_streams_of_a_program_are_open_even_if_the_harnesss_are_closed(
    closed: str, files: int, tmp_path: Path
) -> None:
    """Or are files that the harness has opened since: what the program opens is never among them."""
    command = program(tmp_path, SAYS_WHERE_STREAMS_LEAD)
    arguments = [sys.executable, "-c", CLOSING, command, str(tmp_path), closed, str(files)]
    subprocess.run(arguments, check=True)
    assert (tmp_path / "said").read_text().endswith("failed: pipe pipe /dev/null")
    assert not any((tmp_path / f"mine-{number}").read_bytes() for number in range(files))


PRINTS_BEFORE_IT_ANSWERS = """
import os, sys, time
for line in ("first", "go on"):
    print(line, file=sys.stderr, flush=True)
    while line == "first" and not os.path.exists(%r): time.sleep(0.01)
print("more\\n" * 100_000, file=sys.stderr, flush=True)
"""


def test_a_reader_of_messages_that_stops_does_not_end_the_program(tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = program(tmp_path, PRINTS_BEFORE_IT_ANSWERS % str(go) + CLIPS)
    arguments = [sys.executable, "-c", HARNESS % "", command, str(tmp_path)]
    harness = subprocess.Popen([*arguments], stderr=subprocess.PIPE)
    assert harness.stderr is not None
    assert harness.stderr.readline() == b"first\n"
    harness.stderr.close()
    go.touch()
    assert harness.wait() == 0
    wait_until_none(tmp_path)  # the harness has not closed its sampler: the supervisor sees that it ended


def test_output_of_a_program_comes_before_the_report_of_its_end(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    command = program(tmp_path, PRINTS_BEFORE_IT_ANSWERS % str(tmp_path / "go") + "sys.exit(3)")
    arguments = [sys.executable, "-c", HARNESS % "", command, str(tmp_path)]
    done = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr.startswith("first\ngo on\n" + 100_000 * "more\n" + "\nTraceback")
    assert "ended with status 3; its own messages are above" in done.stderr
