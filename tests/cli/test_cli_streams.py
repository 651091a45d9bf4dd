"""Consoles and pipes of any encoding; what is printed to a file, a link or a pipe."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vdm_bench.cli import cli
from vdm_bench.cli.streams import stand_in
from vdm_bench.datasets.shapes import Shapes
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
    assert target.read_text("utf-8").splitlines()[0] == "fvd ↓"
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
