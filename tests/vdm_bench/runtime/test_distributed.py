"""Several processes for one score, over gloo on this machine."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import vdm_bench
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.errors import InputError
from vdm_bench.runtime.distributed import join_processes
from vdm_bench.runtime.locks import hold

DYING = """
import os, signal, sys
from pathlib import Path
import vdm_bench
from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.runtime.distributed import join_processes
from vdm_bench.errors import InputError

class Some(Shapes):
    def __len__(self):
        return 200

class Dying(Some):
    def __getitem__(self, index):
        if os.environ["RANK"] == "1" and index == 70:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)

from vdm_bench.errors import VdmBenchError
try:
    options = vdm_bench.ScoreOptions(("embedded/is",))
    vdm_bench.score_record(Dying("test", seed=1), Some("test"), options, None, join_processes())
except VdmBenchError as error:
    print(error)
    sys.exit(error.exit_code)
"""

HELD = """
import os, sys
from pathlib import Path
import vdm_bench
from vdm_bench.runtime.distributed import join_processes
from vdm_bench.errors import VdmBenchError

processes = join_processes()
try:
    vdm_bench.run("shapes-unconditional", sampler="noise", out=os.environ["OUT"], processes=processes)
except VdmBenchError as error:
    print(error)
    sys.exit(error.exit_code)
"""

LEAVING = """
import atexit
import torch.distributed as dist
from vdm_bench.runtime.distributed import join_processes
from vdm_bench.errors import InputError

atexit.register(lambda: print("still together" if dist.is_initialized() else "left"))
processes = join_processes()
processes.wait()
"""

ALONE = """
import sys
from datetime import timedelta
from vdm_bench.runtime import distributed

distributed.JOINING = timedelta(seconds=1)
try:
    distributed.join_processes()
except distributed.PeerError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def launch(arguments: Sequence[str], processes: int, cache: Path) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    # As users have it: torchrun then gives one process all threads, and several one each.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["VDM_BENCH_CACHE"] = str(cache)
    command = [sys.executable, *launcher, "-m", "vdm_bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


def start_ranks(script: str, ranks: Sequence[int] = (0, 1)) -> list["subprocess.Popen[str]"]:
    """Start processes of a job of two without a launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, **world, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ranks
    ]


def without_times(record: str) -> dict[str, object]:
    content: dict[str, object] = json.loads(record)
    changing = ("created", "timing_seconds", "environment", "checksum")
    return {key: value for key, value in content.items() if key not in changing}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips that fill three blocks and a part of a fourth."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate(("real", "fake")):
        (folder / name).mkdir()
        clips = np.stack([Shapes("test", seed=seed)[i].frames for i in range(200)])
        np.save(folder / name / "clips.npy", clips)
    return folder


def test_a_score_is_the_same_to_the_last_bit_for_any_number_of_processes(folders: Path, tmp_path: Path) -> None:
    arguments = ["score", str(folders / "fake"), "--reference", str(folders / "real"), "--json", "--name", "fake"]
    (folders / "kernel.toml").write_text(
        'name = "kernel"\nbase = "embedded/fvd"\nstatistic = {kind = "kernel"}\n'
    )
    arguments += ["--metric", "embedded/fvd", "--metric", "embedded/is", "--metric", str(folders / "kernel.toml")]
    records = []
    for processes in (1, 3):
        done = launch(arguments, processes, tmp_path / str(processes))
        assert done.returncode == 0, done.stderr
        records.append(without_times(done.stdout))  # one record: only the first process prints
    assert records[0] == records[1]


@pytest.mark.parametrize("protocol", ["shapes-unconditional", "shapes-prediction"])
def test_a_run_is_the_same_to_the_last_bit_for_any_number_of_processes(protocol: str, tmp_path: Path) -> None:
    records = []
    for processes in (1, 2):
        out = tmp_path / f"run{processes}"
        arguments = ["run", protocol, "--sampler", "blurred", "--limit", "200", "--out", str(out)]
        done = launch(arguments, processes, tmp_path / f"cache{processes}")
        assert done.returncode == 0, done.stderr
        records.append(without_times((out / "run.json").read_text()))
    assert records[0] == records[1]


def test_a_broken_clip_is_reported_whichever_process_met_it(folders: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for index in range(70):
        np.save(broken / f"{index:03}.npy", Shapes("test")[index].frames[None])
    (broken / "066.npy").write_bytes(b"")  # in the second block: the second process reads it
    done = launch(
        ["score", str(broken), "--reference", str(folders / "real"), "--metric", "embedded/fvd"],
        2,
        tmp_path / "c",
    )
    assert done.returncode != 0
    assert "1 of 70 clips in" in done.stderr
    assert "066.npy" in done.stderr


def test_a_process_that_dies_stops_the_others_with_a_message() -> None:
    first, second = start_ranks(DYING)
    output, errors = first.communicate(timeout=200)
    assert second.wait(timeout=60) == -9
    assert first.returncode == 75, errors
    assert output.startswith("another process of this job has stopped")


def test_a_job_ends_where_its_leader_finds_the_folder_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others neither wait for it nor begin without it."""
    monkeypatch.setenv("OUT", str(tmp_path))
    with hold(tmp_path, "train"):
        first, second = start_ranks(HELD)
        said = [process.communicate(timeout=200) for process in (first, second)]
    assert (first.returncode, second.returncode) == (2, 75), said
    assert f"{tmp_path} is being written by process {os.getpid()} on " in said[0][0]
    assert said[1][0].startswith("another process of this job has stopped")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_left_alone_from_the_start_does_not_wait_forever(rank: int) -> None:
    (process,) = start_ranks(ALONE, [rank])
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert output.startswith("the 2 processes of this job did not come together at 127.0.0.1:")


def test_processes_leave_each_other_before_the_interpreter_ends() -> None:
    # Else threads of the process group outlive it, and one exit in ten or so aborts.
    for process in start_ranks(LEAVING):
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "left\n"), errors


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE is 'many'"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2'"),
        ({"WORLD_SIZE": "\u0662"}, "WORLD_SIZE is "),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_PORT": "1"},
            "RANK is '2', and must be a whole number from 0 to 1",
        ),
        ({"WORLD_SIZE": "2", "MASTER_PORT": "1"}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "70000"}, "MASTER_PORT is '70000'"),
    ],
)
def test_variables_that_cannot_name_a_job_are_refused_by_name(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        join_processes()


def test_one_process_of_a_job_may_score_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a training job rank 0 often scores alone; nothing may wait for the others."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "8", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    clips = np.stack([Shapes("test")[i].frames for i in range(12)])
    (score,) = vdm_bench.score(clips, clips, ["embedded/is"])
    assert score.n_generated == 12
