"""Programs in other environments as samplers: the example, and everything a child can do wrong."""

import os
import shlex
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from paths import ROOT

from vdm_bench import run
from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import read_record
from vdm_bench.protocols import Protocol, get_protocol
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.samplers.base import SampleRequest
from vdm_bench.samplers.command import CommandSampler
from vdm_bench.video.archive import Archive

EXAMPLE = ROOT / "examples" / "command_sampler"
CLIENT = f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); import client; import numpy as np; import os, time\n"
PLAIN = "import sys, json, time, os\n"
READY = PLAIN + 'sys.stdin.readline(); print(json.dumps({"type": "ready", "version": 1}), flush=True)\n'
NOISE = (
    "def make(r):\n"
    "    shape = (r.frames, r.height, r.width, 3)\n"
    "    return np.stack([np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in r.seeds])\n"
    "client.serve(make)"
)
REQUEST = SampleRequest(indices=(4, 5), seeds=(7, 8), frames=3, height=4, width=6)


def command(folder: Path, code: str) -> str:
    """A command that runs this code."""
    script = folder / "child script.py"  # with a space in its name
    script.write_text(code)
    return shlex.join([sys.executable, str(script)])


def small(name: str, count: int = 70) -> Protocol:
    return get_protocol(name).model_copy(update={"generated_count": count, "reference_count": 64})


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has NumPy, and nothing else."""
    folder = tmp_path_factory.mktemp("environment") / "other"
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for path in Path(np.__file__).parents[1].glob("numpy*"):
        (packages / path.name).symlink_to(path)
    python = folder / "bin" / "python"
    bare = {"PATH": os.environ["PATH"]}
    found = subprocess.run([python, "-c", "import torch"], capture_output=True, env=bare, check=False)
    assert b"No module named 'torch'" in found.stderr
    return python


def test_the_example_runs_in_an_environment_without_torch(
    tmp_path: Path, other_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(
        "PYTHONSAFEPATH", raising=False
    )  # of the tests: it would hide the client beside the sampler
    sampler = shlex.join([str(other_python), str(EXAMPLE / "sampler.py")])
    with pytest.raises(InputError, match="no-such-protocol"):
        run("no-such-protocol", out=tmp_path / "x", sampler="real")
    record = run(small("shapes-prediction"), out=tmp_path / "a", sampler=CommandSampler(sampler, {"levels": "8"}))
    assert (record.sampler.kind, record.sampler.spec) == ("command", sampler)
    assert record.sampler.settings == {"levels": "8"}
    assert record.generated.scored == 70
    clips = Archive(tmp_path / "a" / "samples")
    given = open_dataset(small("shapes-prediction"), get_protocol("shapes-prediction").conditions)
    assert np.array_equal(clips[69].frames[:4], given[69].frames[:4])
    assert len(np.unique(clips[69].frames[15])) <= 3  # one colour


def test_the_command_line_runs_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    child = command(tmp_path, CLIENT + NOISE)
    arguments = ["run", "shapes-unconditional", "--limit", "66", "--out", "run"]
    result = CliRunner().invoke(cli, [*arguments, "--sampler-command", child, "--option", "a=1", "--json"])
    assert result.exit_code == 0, result.output
    assert read_record(tmp_path / "run" / "run.json").sampler.settings == {"a": "1"}
    assert len(Archive(tmp_path / "run" / "samples")) == 66
    for extra, words in (
        (
            ["--sampler-command", child, "--sampler", "real"],
            "give --sampler or --sampler-command, one of the two",
        ),
        (["--sampler", "real", "--sampler-timeout", "3"], "--sampler-timeout works only with --sampler-command"),
        (["--sampler-command", child, "--sampler-timeout", "nan"], "is not a number"),
        (["--sampler-command", "'"], "is not quoted well"),
        (["--sampler-command", " "], "--sampler-command is empty"),
        (["--sampler-command", "/no/such/program"], "cannot be started: No such file or directory"),
    ):
        result = CliRunner().invoke(
            cli, ["run", "shapes-unconditional", "--limit", "66", "--out", "other", *extra]
        )
        assert (result.exit_code, words in result.output) == (2, True), result.output


def test_a_request_reaches_the_child_whole(tmp_path: Path) -> None:
    code = CLIENT + (
        "def make(r):\n"
        "    assert r.context.shape == (2, 1, 4, 6, 3) and r.context.dtype == np.uint8\n"
        "    clips = np.zeros((2, r.frames, r.height, r.width, 3), np.uint8)\n"
        "    clips[:, :1] = r.context\n"
        "    for i in range(2):\n"
        "        clips[i, 1, 0, 0] = [r.seeds[i] % 256, r.labels[i], r.indices[i]]\n"
        "    clips[:, 2, 0, 0, 0] = [len(text) for text in r.captions]\n"
        "    print('a library that prints')\n"
        "    return clips\n"
        "client.serve(make)"
    )
    context = np.random.default_rng(0).integers(0, 256, (2, 1, 4, 6, 3), np.uint8)
    request = SampleRequest(
        indices=(4, 5),
        seeds=(2**62 + 3, 9),
        frames=3,
        height=4,
        width=6,
        context=context,
        labels=np.array([11, 12]),
        captions=("one", "zwölf"),
    )
    sampler = CommandSampler(command(tmp_path, code), {})
    for _ in range(2):  # one child for all requests
        clips = sampler.sample(request)
        assert np.array_equal(clips[:, :1], context)
        assert clips[:, 1, 0, 0].tolist() == [[3, 11, 4], [9, 12, 5]]
        assert clips[:, 2, 0, 0, 0].tolist() == [3, 5]
    sampler.close()
    sampler.close()


def test_a_model_is_loaded_once_with_the_options(tmp_path: Path) -> None:
    code = CLIENT + (
        "def load(options):\n"
        f"    open({str(tmp_path / 'loads')!r}, 'a').write('x')\n"
        "    value = int(options['value'])\n"
        "    return lambda r: np.full((len(r.seeds), r.frames, r.height, r.width, 3), value, np.uint8)\n"
        "client.serve(prepare=load)"
    )
    sampler = CommandSampler(command(tmp_path, code), {"value": "9"})
    assert all((sampler.sample(REQUEST) == 9).all() for _ in range(3))
    sampler.close()
    assert (tmp_path / "loads").read_text() == "x"
    assert (sampler.sample(REQUEST) == 9).all()  # a closed one starts again
    sampler.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (PLAIN + "sys.exit(3)", r"ended with status 3; its own messages are above"),
        (PLAIN + "os.kill(os.getpid(), 9)", "ended by signal 9"),
        (READY + "sys.stdin.readline(); sys.exit(1)", "ended with status 1"),
        (PLAIN + "print('Loading model...', flush=True); time.sleep(60)", "printed 'Loading model...' to stdout"),
        (
            READY + "sys.stdin.readline(); print('[1, 2]', flush=True); time.sleep(60)",
            r"printed '\[1, 2\]' to stdout",
        ),
        (
            PLAIN + 'print(json.dumps({"type": "ready", "version": 9}), flush=True); time.sleep(60)',
            "speaks version 9",
        ),
        (
            PLAIN + 'print(json.dumps({"type": "done"}), flush=True); time.sleep(60)',
            "answered 'done' where 'ready'",
        ),
        (
            READY + 'print(json.dumps({"type": "done", "number": 5}), flush=True); time.sleep(60)',
            "answered request 5",
        ),
        (
            READY
            + 'print(json.dumps({"type": "done", "number": 0, "clips": "../x.npy"}), flush=True); time.sleep(60)',
            "names the clips '../x.npy'; it must be the name of a file in the scratch folder",
        ),
        (
            READY
            + 'print(json.dumps({"type": "done", "number": 0, "clips": "x.npy"}), flush=True); time.sleep(60)',
            "wrote clips to x.npy that cannot be read",
        ),
        (CLIENT + "client.serve(lambda r: 1 / 0)", "failed: ZeroDivisionError: division by zero"),
        (
            CLIENT + "client.serve(lambda r: np.array([object()]))",
            "failed: TypeError: clips are an array of objects",
        ),
        (CLIENT + "client.serve()", r"failed: TypeError: serve\(\) needs a function"),
    ],
)
def test_a_child_that_does_wrong_is_named_in_one_sentence(tmp_path: Path, code: str, words: str) -> None:
    sampler = CommandSampler(command(tmp_path, code), {}, timeout=30.0)
    start = time.monotonic()
    with pytest.raises(InputError, match=words) as caught:
        sampler.sample(REQUEST)
    assert "child script.py" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("timeout", [3e7, 1e300, float("inf")])
def test_a_timeout_may_be_longer_than_systems_wait(tmp_path: Path, timeout: float) -> None:
    sampler = CommandSampler(command(tmp_path, CLIENT + NOISE), {}, timeout=timeout)
    assert len(sampler.sample(REQUEST)) == len(REQUEST.seeds)
    sampler.close()


def test_a_child_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    code = READY + (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    sampler = CommandSampler(command(tmp_path, code), {}, timeout=3.0)
    with pytest.raises(InputError, match=r"did not answer within 3 s; give a longer --sampler-timeout"):
        sampler.sample(REQUEST)
    grandchild = int((tmp_path / "pid").read_text())
    for _ in range(100):
        state = Path(f"/proc/{grandchild}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the grandchild lives")


def test_a_child_that_does_not_read_is_ended_in_time(tmp_path: Path) -> None:
    """A request that is longer than a pipe holds."""
    sampler = CommandSampler(command(tmp_path, READY + "time.sleep(600)"), {}, timeout=3.0)
    captions = ("a" * 100_000, "b" * 100_000)
    with pytest.raises(InputError, match="did not answer within 3 s"):
        sampler.sample(
            SampleRequest(indices=(0, 1), seeds=(1, 2), frames=3, height=4, width=6, captions=captions)
        )
    sampler.close()


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        (
            "np.zeros((len(r.seeds), r.frames - 1, r.height, r.width, 3), np.uint8)",
            r"returned shape \[1, 15, 32, 32, 3\]",
        ),
        ("np.zeros((len(r.seeds), r.frames, r.height, r.width, 3))", "returned float64"),
    ],
)
def test_clips_of_a_wrong_shape_are_refused_and_what_is_there_is_kept(
    tmp_path: Path, clips: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    sampler = CommandSampler(command(tmp_path, CLIENT + f"client.serve(lambda r: {clips})"), {})
    with pytest.raises(InputError, match=words):
        run(small("shapes-unconditional"), out=tmp_path / "run", sampler=sampler)


def test_a_run_goes_on_after_its_child_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child kills itself once at its second request; the next run makes the rest, with the same bits."""
    monkeypatch.setenv("VDM_BENCH_CACHE", str(tmp_path / "cache"))
    code = CLIENT + (
        "def dying(r):\n"
        "    if r.indices[0] and not os.path.exists('died'):\n"
        "        open('died', 'w'); os.kill(os.getpid(), 9)\n"
        "    return make(r)\n"
    )
    code += NOISE.replace("client.serve(make)", "client.serve(dying)")
    monkeypatch.chdir(tmp_path)
    child = command(tmp_path, code)
    protocol = small("shapes-unconditional")
    with pytest.raises(InputError, match="ended by signal 9"):
        run(protocol, out=tmp_path / "a", sampler=CommandSampler(child, {}))
    went_on = run(protocol, out=tmp_path / "a", sampler=CommandSampler(child, {}))
    whole = run(protocol, out=tmp_path / "b", sampler=CommandSampler(child, {}))
    assert went_on.scores == whole.scores
    for file in (tmp_path / "b" / "samples").iterdir():
        assert (tmp_path / "a" / "samples" / file.name).read_bytes() == file.read_bytes()


def test_the_client_is_short_and_needs_the_standard_library_alone() -> None:
    lines = (EXAMPLE / "client.py").read_text("utf-8").splitlines()
    assert len(lines) <= 110
    imports = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imports <= set(sys.stdlib_module_names)
