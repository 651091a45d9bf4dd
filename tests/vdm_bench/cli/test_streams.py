"""Consoles and pipes of any encoding; what is printed to a file, a link or a pipe."""

import errno
import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vdm_bench.cli import cli
from vdm_bench.cli.streams import stand_in
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.leaderboards.published import published_rows

NAME = "modèle ∞ → 模型 ½"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the record of a run whose name few encodings have."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 1), ("b", 2)):
        data = Shapes("test", seed=seed)
        np.save(folder / f"{name}.npy", np.stack([data[index].frames for index in range(12)]))
    arguments = ["score", f"{folder}/a.npy", "--reference", f"{folder}/b.npy", "--metric", "embedded/fvd"]
    arguments += ["--name", NAME, "--out", f"{folder}/run"]
    result = CliRunner(charset="cp1252").invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr_bytes
    lines = result.stdout_bytes.decode("cp1252").splitlines()
    assert lines[0] == "embedded/fvd v"
    assert " modèle inf -> \\u6a21\\u578b ½ " in lines[5]
    return folder / "run"


COMMANDS = (
    ("leaderboard", "kinetics600-prediction"),
    ("leaderboard", "--citation"),
    ("report", "RUNS"),
    ("report", "RUNS", "--format", "markdown"),
    ("report", "RUNS", "--format", "csv"),
    ("compare", "RUNS", "RUNS"),
    ("check", "RUNS", "--baseline", "RUNS"),
    ("reproduce", "table1", "--dry-run"),
    ("list", "metrics"),
    ("leaderboard", "--help"),
    ("report", "→nowhere"),
    ("score", "--∞"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_an_encoding_lacks_is_replaced_and_nothing_else(runs: Path, command: tuple[str, ...]) -> None:
    """Exit code and text are those of a console that has every character, but for the stand-ins."""
    arguments = [str(runs) if word == "RUNS" else word for word in command]
    wanted = CliRunner().invoke(cli, arguments)
    for encoding in ("ascii", "cp1252", "latin-1", "shift_jis", "cp437", "utf-16"):
        found = CliRunner(charset=encoding).invoke(cli, arguments)
        assert found.exit_code == wanted.exit_code != 70
        for name in ("stdout_bytes", "stderr_bytes"):
            assert getattr(found, name).decode(encoding) == replaced(getattr(wanted, name).decode(), encoding)


def replaced(text: str, encoding: str) -> str:
    def has(character: str) -> bool:
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            return False
        return True

    return "".join(character if has(character) else stand_in(character) for character in text)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_json_says_the_same_in_every_encoding(runs: Path, encoding: str) -> None:
    arguments = ["report", str(runs), "--format", "json"]
    result = CliRunner(charset=encoding).invoke(cli, arguments)
    (group,) = json.loads(result.stdout_bytes.decode("ascii"))["groups"]
    assert group["scores"][0]["name"] == NAME
    arguments = ["score", str(runs.parent / "a.npy"), "--reference", str(runs.parent / "b.npy"), "--json"]
    result = CliRunner(charset=encoding).invoke(cli, [*arguments, "--name", NAME, "--metric", "embedded/fvd"])
    assert json.loads(result.stdout_bytes.decode("ascii"))["name"] == NAME


@pytest.mark.parametrize(
    ("environment", "encoding"),
    [
        ({"PYTHONIOENCODING": "ascii:replace"}, "ascii"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "ascii"),
    ],
)
def test_the_program_itself_heeds_its_environment(environment: dict[str, str], encoding: str) -> None:
    command = [sys.executable, "-m", "vdm_bench", "leaderboard", "kinetics600-prediction-with-replacement"]
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONIOENCODING"}
    done = subprocess.run(command, capture_output=True, check=False, env=inherited | environment)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    sign = "?" if "PYTHONIOENCODING" in environment else "+-"  # a question mark where it was asked for
    assert any(f"as 69.1 {sign} 1.2" in " ".join(line.split()) for line in text.splitlines())
    assert all(row.method in text for row in published_rows(command[-1]))


def test_streams_without_an_encoding_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert printed.getvalue().startswith("vdm-bench ")


@pytest.mark.parametrize("verb", ["list protocols", "--version", "--help", "run --help"])
def test_output_that_finds_no_room_ends_in_a_sentence(verb: str) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "vdm_bench", *verb.split()]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr == b"Error: there is no room for what is printed; send it elsewhere\n"


def test_a_file_is_utf_8_whatever_the_console(tmp_path: Path) -> None:
    """Through a link, too, which stays one."""
    target, link = tmp_path / "deep/table.txt", tmp_path / "table.txt"
    link.symlink_to("deep/table.txt")
    result = CliRunner(charset="ascii").invoke(cli, ["leaderboard", "bair-prediction", "-o", str(link)])
    assert (result.exit_code, result.stderr) == (0, f"wrote {link}\n")
    assert "fvd ↓" in target.read_text("utf-8")
    assert link.is_symlink()


def test_standard_output_by_name_is_standard_output() -> None:
    command = ["leaderboard", "bair-prediction"]
    plain = CliRunner().invoke(cli, command)
    command += ["-o", "/dev/stdout"]
    named = subprocess.run([sys.executable, "-m", "vdm_bench", *command], capture_output=True, check=True)
    assert named.stdout == plain.stdout_bytes
    assert named.stderr == b"wrote /dev/stdout\n"


def test_names_of_files_that_are_not_utf_8_cost_nobody_the_work(runs: Path, tmp_path: Path) -> None:
    """As of an archive that was packed elsewhere: clips, run folder and name of the run."""
    odd = os.fsdecode(b"mod\xe8le")
    clips, out = tmp_path / f"{odd}.npy", tmp_path / odd
    clips.symlink_to(runs.parent / "a.npy")
    arguments = ["score", str(clips), "--reference", str(runs.parent / "b.npy"), "--metric", "embedded/fvd"]
    result = CliRunner().invoke(cli, [*arguments, "--out", str(out), "--name", odd])
    assert result.exit_code == 0, result.stderr
    assert json.loads((out / "run.json").read_text("utf-8"))["name"] == "mod\\udce8le"
    for form in ("text", "csv", "json", "html", "parquet"):
        arguments = ["report", str(out), "--format", form, "-o", str(tmp_path / f"{odd}.{form}")]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / f"{odd}.{form}").stat().st_size


# Verbs by how they print and how they end: `check` says with 1 that a score got worse, with 0 that none did.
VERBS = {
    "help": (["--help"], 0),
    "standard output by name": (["report", "runs/good", "-o", "/dev/stdout"], 0),
    "no regression": (["check", "runs/good", "--baseline", "runs/good", "--json"], 0),
    "regression": (["check", "runs/bad", "--baseline", "runs/good", "--junit", "check.xml"], 1),
    "bad input": (["report", "runs/nothing"], 2),
    "not comparable": (["check", "runs/good", "--baseline", "nothing.json"], 3),
}


@pytest.fixture(scope="module")
def good_and_bad(runs: Path) -> Path:
    """A folder with the runs `good` and `bad`, whose score is worse by far more than noise."""
    folder = runs.parent / "gate"
    for name in ("good", "bad"):
        (folder / "runs" / name).mkdir(parents=True)
        text = json.loads((runs / "run.json").read_text("utf-8"))
        del text["checksum"]
        if name == "bad":
            score = text["scores"][0]
            wide = 100 * (score["interval"]["high"] - score["interval"]["low"] + score["value"])
            score["value"] += wide
            score["interval"] = {**score["interval"], "low": wide, "high": 2 * wide}
        (folder / "runs" / name / "run.json").write_text(json.dumps(text), "utf-8")
    return folder


def shell(redirection: str, verb: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments, _ = VERBS[verb]
    command = shlex.join([sys.executable, "-m", "vdm_bench", *arguments])
    line = f"{command} {redirection}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


ENDS = ["2>&1 | true", ">&-", ">&- 2>&-", "2>/dev/full"]
HARDEST = ["regression", "standard output by name"]


@pytest.mark.parametrize(
    ("end", "verb"), [*(("| head -c 1", verb) for verb in VERBS), *itertools.product(ENDS, HARDEST)]
)
def test_an_end_that_takes_no_more_changes_no_exit_code(end: str, verb: str, good_and_bad: Path) -> None:
    done = shell(end, verb, good_and_bad)
    assert done.returncode == VERBS[verb][1], done
    assert "Error" not in done.stderr or VERBS[verb][1] in (2, 3)
    assert "BrokenPipe" not in done.stderr
    if verb == "regression":
        assert "<failure" in (good_and_bad / "check.xml").read_text()


@pytest.mark.parametrize("verb", [verb for verb, (_, code) in VERBS.items() if code in (0, 1)])
def test_output_without_room_is_no_result(verb: str, good_and_bad: Path) -> None:
    """Not that of `check`, either."""
    done = shell(">/dev/full", verb, good_and_bad)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.search("no room for what is printed|cannot write /dev/stdout: No space left", done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "runs/good", "--baseline", "runs/good", "--junit", "/dev/full"],
        ["report", "runs/good", "-o", "/dev/full"],
        ["report", "runs/good", "--format", "html", "-o", "/dev/full"],
        ["leaderboard", "bair-prediction", "-o", "/dev/full"],
    ],
)
def test_a_file_without_room_is_named(
    arguments: list[str], good_and_bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(good_and_bad)
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "cannot write /dev/full: No space left on device" in result.stderr


LIMITED = """
import resource, sys
from vdm_bench.cli import main
sys.dont_write_bytecode = True  # it would be cut short, and kept
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


@pytest.mark.parametrize("size", [0, 100, 5000, 60_000, 300_000])
def test_a_disk_that_is_full_in_the_middle_ends_a_run_in_a_sentence(
    size: int, runs: Path, tmp_path: Path
) -> None:
    """A file may grow to so many bytes: which one it is that fails differs."""
    arguments = [
        "run",
        "shapes-unconditional",
        "--sampler",
        "real",
        "--limit",
        "64",
        "--out",
        str(tmp_path / "run"),
    ]
    environment = {**os.environ, "VDM_BENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    *progress, last = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert last.startswith("Error: ")
    assert not any(line.startswith(("Error", "Traceback")) for line in progress)
    assert not [path for path in tmp_path.rglob("*.part-*") if path.is_file()]


NO_MEMORY = "cannot allocate memory; give it more memory, or take fewer --workers"
NO_THREADS = (
    "no more threads can be started; raise the limit (`ulimit -u`), give it more memory, or take fewer --workers"
)
MACHINE: dict[str, tuple[BaseException, str]] = {
    "memory": (MemoryError(), NO_MEMORY),
    "torch": (RuntimeError("[fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), NO_MEMORY),
    "threads": (RuntimeError("can't start new thread"), NO_THREADS),
    "files": (OSError(errno.EMFILE, "Too many open files", "a.mp4"), "a.mp4: too many open files; raise the"),
    "room": (OSError(errno.ENOSPC, "No space left on device"), "no space left on device; make room"),
    "quota": (OSError(errno.EDQUOT, "Quota", "runs/a"), "runs/a: disk quota exceeded; start again"),
    "a disk": (OSError(errno.EIO, "Input/output error"), "input/output error; check the disk"),
    "a file that went away": (FileNotFoundError(2, "No", "runs/b"), "runs/b: no such file or directory"),
    "a pipe of somebody's": (BrokenPipeError(errno.EPIPE, "Broken pipe"), "broken pipe; start again"),
    "NumPy": (OSError("4096 requested and 17 written"), "4096 requested and 17 written; start again"),
}


@pytest.mark.parametrize("fault", MACHINE)
def test_a_fault_of_the_machine_is_a_sentence_and_no_internal_error(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, words = MACHINE[fault]

    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr(cli.commands["list"], "callback", fail)
    result = CliRunner().invoke(cli, ["list", "protocols"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"Error: {words}" in result.stderr


@pytest.mark.parametrize("after", [0, 2, 3, 5])
def test_threads_that_cannot_be_started_end_a_verb_in_a_sentence(
    after: int, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if len(started) >= after:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # three are tried before the work
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("VDM_BENCH_CACHE", str(runs.parent / f"cache-{after}"))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    clips = str(runs.parent / "a.npy")
    arguments = ["score", clips, "--reference", str(runs.parent / "b.npy"), "--metric", "embedded/fvd"]
    result = CliRunner().invoke(cli, [*arguments, "--workers", "5"])
    assert len(started) == after
    assert result.exit_code == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: no more threads can be started; raise the limit")


SAYS_WHERE_STREAMS_LEAD = """
import os, pathlib
streams = [os.readlink(f"/proc/self/fd/{number}").split(":")[0] for number in range(3)]
pathlib.Path("said").write_text(" ".join(streams))
"""


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_program_has_streams_even_if_the_command_lines_are_closed(closed: str, tmp_path: Path) -> None:
    """Else its clips could be in a file with the number of a stream, and a library's words in them."""
    (tmp_path / "program.py").write_text(SAYS_WHERE_STREAMS_LEAD)
    program = shlex.join([sys.executable, "program.py"])
    arguments = ["run", "shapes-unconditional", "--limit", "64", "--out", "run", "--sampler-command", program]
    command = shlex.join([sys.executable, "-m", "vdm_bench", *arguments])
    done = subprocess.run(["bash", "-c", f"{command} {closed}"], cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert (tmp_path / "said").read_text() == "pipe pipe /dev/null"
