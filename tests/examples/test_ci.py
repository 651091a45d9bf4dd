"""The GitHub Action and the examples of CI: what they name exists, and the scripts do what they say."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from paths import ROOT

from vdm_bench.cli import cli
from vdm_bench.leaderboards.checks.check import check_runs, update_baseline
from vdm_bench.leaderboards.record import read_record
from vdm_bench.protocols import get_protocol

ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
CI = ROOT / "examples" / "ci"
GITHUB = yaml.safe_load((CI / "github.yml").read_text("utf-8"))
GITLAB = yaml.safe_load((CI / "gitlab.yml").read_text("utf-8"))
SAMPLER = """
import numpy as np

def sample(request, top="256"):
    shape = (request.frames, request.height, request.width, 3)
    return np.stack([np.random.default_rng(s).integers(0, int(top), shape, np.uint8) for s in request.seeds])
"""
EXPRESSION = re.compile(r"\$\{\{ (inputs|github|steps)\.([\w.-]+) \}\}")


def options_of(verb: str) -> set[str]:
    command = cli.commands[verb]
    return {name for option in command.params if isinstance(option, click.Option) for name in option.opts}


def check_command(arguments: list[str]) -> None:
    """Hold that a command line names a verb and options that exist."""
    verb, *rest = arguments
    given = {argument.split("=")[0] for argument in rest if argument.startswith("--") and argument != "--"}
    assert given <= options_of(verb), f"{verb} has no {given - options_of(verb)}"


def test_no_input_is_part_of_a_script() -> None:
    """An input with `$(...)` or a quote in it must stay a value."""
    for step in STEPS.values():
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"


def test_every_input_reaches_a_script_and_every_expression_names_something() -> None:
    used = set()
    for step in STEPS.values():
        for name, value in step["env"].items():
            found = EXPRESSION.fullmatch(value)
            assert found, value
            assert f"${name}" in step["run"]
            assert found[1] != "inputs" or found[2] in ACTION["inputs"]
            used.add(found[2])
        used |= set(re.findall(r"inputs\.([\w-]+)", step.get("if", "")))
    assert set(ACTION["inputs"]) == used - {"action_path"}
    output = ACTION["outputs"]["exit-code"]["value"]
    assert EXPRESSION.fullmatch(output)
    assert STEPS["Check it"]["id"] == output.split(".")[1]


def test_every_input_is_described() -> None:
    for name, given in ACTION["inputs"].items():
        assert given["description"], name
        assert given.get("required") is True or isinstance(given["default"], str), name


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a step of the action as GitHub does: bash -e -o pipefail, inputs in the environment.

    `vdm-bench` is this checkout's, `python -m pip` writes down what it was asked for.
    """
    tools = tmp_path / "tools"
    tools.mkdir()
    script(tools / "vdm-bench", f'exec {shlex.quote(sys.executable)} -m vdm_bench "$@"')
    script(tools / "python", 'printf "%s\\n" "$@" > asked')
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_ACTIONS": "true",
    }

    def run(name: str, **given: str) -> subprocess.CompletedProcess[str]:
        values = {key: str(value.get("default", "")) for key, value in ACTION["inputs"].items()} | given
        step = {key: resolved(text, values) for key, text in STEPS[name]["env"].items()}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", STEPS[name]["run"]],
            cwd=work,
            env={**os.environ, **environment, **step},
            capture_output=True,
            text=True,
        )

    return run


def resolved(text: str, values: dict[str, str]) -> str:
    found = EXPRESSION.fullmatch(text)
    assert found
    return values[found[2]]


def script(path: Path, line: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{line}\n")
    path.chmod(0o755)


Job = Callable[..., subprocess.CompletedProcess[str]]


def test_the_action_installs_itself(job: Job, tmp_path: Path) -> None:
    source = "/home/runner/work/_actions/some one's/vdm-bench/v1"
    assert job("Install vdm-bench", action_path=source).returncode == 0
    assert (tmp_path / "work" / "asked").read_text().splitlines() == ["-m", "pip", "install", source]


def test_the_action_makes_a_run_and_holds_it_against_the_baseline(job: Job, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "my_model.py").write_text(SAMPLER)
    arguments = (
        "shapes-unconditional\n--sampler\nmy_model:sample\n--limit\n20\n--option\ntop=9\n--name\nmy model\n"
    )
    given = {"run": "runs/my run", "baseline": "base line.json", "junit": "check.xml"}
    made = job("Make the run", arguments=arguments, **given)
    assert made.returncode == 0, made.stderr
    assert read_record(work / "runs/my run/run.json").name == "my model"

    check = job("Check it", **given)
    assert check.returncode == 3
    assert (tmp_path / "output").read_text() == "exit-code=3\n"
    assert "::error file=base line.json," in check.stdout

    taken = [sys.executable, "-m", "vdm_bench", "check", "runs/my run", "--baseline", "base line.json"]
    subprocess.run([*taken, "--update-baseline"], cwd=work, check=True, capture_output=True)
    fine = job("Check it", **given, **{"fail-on": "embedded/fvd:5%\nembedded/is:0.5\n", "strict": "true"})
    assert fine.returncode == 0, fine.stderr
    assert (work / "check.xml").exists()
    assert (tmp_path / "summary.md").read_text().endswith("cancels\n\n")

    arguments = arguments.replace("top=9", "top=256")
    shutil.rmtree(work / "runs")
    assert job("Make the run", arguments=arguments, **given).returncode == 0
    worse = job("Check it", **given, **{"fail-on": "embedded/fvd:5%"})
    assert worse.returncode == 1
    assert "regression: embedded/fvd" in worse.stdout
    assert (tmp_path / "output").read_text().splitlines()[-1] == "exit-code=1"


@pytest.mark.parametrize("evil", ["$(touch hacked)", "`touch hacked`", '"; touch hacked; "', "'; touch hacked #"])
def test_inputs_are_values_never_commands(job: Job, tmp_path: Path, evil: str) -> None:
    names = ("run", "baseline", "fail-on", "strict", "junit", "arguments", "action_path")
    for step in STEPS:
        job(step, **dict.fromkeys(names, evil))
    left = [path.name for path in (tmp_path / "work").rglob("*")]
    assert "hacked" not in left


def test_a_run_called_like_an_option_is_a_run(job: Job) -> None:
    result = job("Check it", run="--update-baseline", baseline="b.json")
    assert result.returncode == 2
    assert "--update-baseline does not exist" in result.stderr


def test_the_workflow_for_github_uses_the_action_as_it_is() -> None:
    (job,) = GITHUB["jobs"].values()
    (step,) = [step for step in job["steps"] if "vdm-bench@" in step.get("uses", "")]
    assert set(step["with"]) <= set(ACTION["inputs"])
    arguments = step["with"]["arguments"].split("\n")[:-1]
    check_command(["run", *arguments])
    assert get_protocol(arguments[0])
    assert GITHUB["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in GITHUB[True]  # YAML 1.1 reads `on` as true


def test_the_pipeline_for_gitlab_calls_the_command_line_as_it_is() -> None:
    commands = [shlex.split(line) for line in GITLAB["scores"]["script"]]
    verbs = [command[1] for command in commands if command[0] == "vdm-bench"]
    assert verbs == ["run", "check"]
    for command in commands:
        if command[0] == "vdm-bench":
            check_command(command[1:])


def test_the_example_test_makes_a_run_and_checks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("my_model.py").write_text(SAMPLER)
    test = runpy.run_path(str(CI / "test_scores.py"))["test_the_model_is_no_worse"]
    test(lambda *given, **named: calls.append((given, named)), tmp_path / "run")
    ((given, named),) = calls
    assert read_record(given[0] / "run.json").name == "my-model"
    update_baseline(given[0], Path(named["baseline"]))
    assert check_runs(given[0], Path(named["baseline"]), named["fail_on"]).exit_code == 0
