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
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "run" in step}
OTHERS = [step for step in ACTION["runs"]["steps"] if "run" not in step]
CI = ROOT / "examples" / "ci"
GITHUB = yaml.safe_load((CI / "github.yml").read_text("utf-8"))
COMMENT = yaml.safe_load((CI / "github-comment.yml").read_text("utf-8"))
GITLAB = yaml.safe_load((CI / "gitlab.yml").read_text("utf-8"))
SAMPLER = """
import numpy as np

def sample(request, top="256"):
    shape = (request.frames, request.height, request.width, 3)
    return np.stack([np.random.default_rng(s).integers(0, int(top), shape, np.uint8) for s in request.seeds])
"""
EXPRESSION = re.compile(r"\$\{\{ (inputs|github|steps|runner)\.([\w.-]+) \}\}")


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
    used: set[str] = set()
    contexts = set()
    for step in STEPS.values():
        for name, value in step["env"].items():
            found = EXPRESSION.fullmatch(value)
            assert found, value
            assert name == "GH_TOKEN" or f"${name}" in step["run"]  # gh reads it itself
            (used if found[1] == "inputs" else contexts).add(found[2])
        used |= set(re.findall(r"inputs\.([\w-]+)", step.get("if", "")))
    assert set(ACTION["inputs"]) == used
    event = "event.workflow_run"
    head = {f"{event}.head_{name}" for name in ("repository.owner.login", "branch", "sha")}
    assert contexts == {"action_path", "token", "repository", f"{event}.html_url", "temp", *head}
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
    script(tools / "python", 'printf "%s\\n" "$*" >> asked')
    answers = 'case "$*" in *"repos/me/it/pulls "*) cat pull ;; *--jq*) cat comment ;; esac'
    script(tools / "gh", f'printf "%s\\n" "$*" >> asked\n{answers}')
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_ENV": str(tmp_path / "environment"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_ACTIONS": "true",
    }

    def run(name: str, **given: str) -> subprocess.CompletedProcess[str]:
        defaults = {key: str(value.get("default", "")) for key, value in ACTION["inputs"].items()}
        values = defaults | {"temp": str(tmp_path)} | given
        step = {key: resolved(text, values) for key, text in STEPS[name]["env"].items()}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", STEPS[name]["run"]],
            cwd=work,
            env={**os.environ, **environment, **step},
            capture_output=True,
            text=True,
        )

    return run


def resolved_in(text: str, values: dict[str, str]) -> str:
    return EXPRESSION.sub(lambda found: values[found[2]], text)


def resolved(text: str, values: dict[str, str]) -> str:
    found = EXPRESSION.fullmatch(text)
    assert found
    return values.get(found[2], f"the {found[2]}")


def script(path: Path, line: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{line}\n")
    path.chmod(0o755)


Job = Callable[..., subprocess.CompletedProcess[str]]


def test_the_action_installs_itself(job: Job, tmp_path: Path) -> None:
    source = "/home/runner/work/_actions/some one's/vdm-bench/v1"
    assert job("Install vdm-bench", action_path=source).returncode == 0
    installer, itself = (tmp_path / "work" / "asked").read_text().splitlines()
    assert installer == "-m pip install --quiet uv"
    python = tmp_path / "tools" / "python"
    assert itself == f"-m uv pip install --python {python} --torch-backend=cpu {source}"


def test_the_cache_is_named_after_the_version_and_the_run(job: Job, tmp_path: Path) -> None:
    keys = []
    for arguments in ("shapes-class\n", "shapes-class\n", "shapes-text\n"):
        assert job("Name the cache", arguments=arguments).returncode == 0
        keys.append((tmp_path / "output").read_text().splitlines()[-1])
    assert keys[0] == keys[1] != keys[2]
    assert re.fullmatch("key=vdm-bench-[0-9a-f]{16}", keys[0])
    (restore,) = OTHERS
    folder = resolved_in(restore["with"]["path"], {"temp": str(tmp_path)})
    assert (tmp_path / "environment").read_text().splitlines()[-1] == f"VDM_BENCH_CACHE={folder}"
    assert restore["with"]["key"] == "${{ steps.cache.outputs.key }}"
    assert keys[0].removeprefix("key=").startswith(restore["with"]["restore-keys"])


@pytest.mark.parametrize(
    ("before", "call"),
    [("", "--method POST repos/{}/issues/7/comments"), ("31", "--method PATCH repos/{}/issues/comments/31")],
)
def test_the_comment_is_written_once_and_then_replaced(job: Job, tmp_path: Path, before: str, call: str) -> None:
    work = tmp_path / "work"
    (work / "my_model.py").write_text(SAMPLER)
    given = {"run": "runs/mine/run.json", "baseline": "baseline.json", "comment": "true"}
    arguments = "shapes-unconditional\n--sampler\nmy_model:sample\n--limit\n20\n"
    assert job("Make the run", arguments=arguments, run="runs/mine").returncode == 0
    for path in sorted((work / "runs/mine").iterdir()):  # of a run, only the record comes with the artifact
        if path.name != "run.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert job("Check it", **given).returncode == 0
    assert (tmp_path / "output").read_text() == "exit-code=3\n"

    (work / "pull").write_text("7\n")
    (work / "comment").write_text(before)
    names = {"repository": "me/it", "event.workflow_run.html_url": "https://x.org/runs/5"}
    result = job("Comment", **given, **names)
    assert result.returncode == 0, result.stderr
    asked = (work / "asked").read_text().splitlines()
    head = "head=the event.workflow_run.head_repository.owner.login:the event.workflow_run.head_branch"
    assert asked[0].startswith(f"api --method GET repos/me/it/pulls -f state=open -f {head} --jq")
    assert "select(.head.sha == env.COMMIT)" in asked[0]  # a branch of that name may have moved on
    assert (
        'select(.user.type == "Bot" and (.body | startswith(env.MARK)))' in asked[1]
    )  # never a person's comment
    assert asked[-1] == f"api {call.format('me/it')} -F body=@{tmp_path}/vdm-bench-body.md"
    text = (tmp_path / "vdm-bench-body.md").read_text()
    assert text.startswith("<!-- vdm-bench check -->\n### vdm-bench check: ")
    assert "no baseline" in text
    assert text.endswith("[Records and report of this run](https://x.org/runs/5#artifacts)\n")


def test_a_commit_that_no_pull_request_has_gets_no_comment(job: Job, tmp_path: Path) -> None:
    (tmp_path / "work" / "pull").write_text("")
    result = job("Comment", repository="me/it")
    assert result.returncode == 0
    assert "no comment" in result.stdout
    assert len((tmp_path / "work" / "asked").read_text().splitlines()) == 1


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
    names = (*ACTION["inputs"], "action_path", "repository", "event.workflow_run.head_branch")
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


def test_the_workflow_that_comments_runs_none_of_the_code_it_comments_on() -> None:
    (job,) = COMMENT["jobs"].values()
    (run,) = [step for step in GITHUB["jobs"]["scores"]["steps"] if "vdm-bench@" in step.get("uses", "")]
    checkout, _, artifact, action = job["steps"]
    assert COMMENT["permissions"] == {"actions": "read", "contents": "read", "pull-requests": "write"}
    assert COMMENT[True] == {"workflow_run": {"workflows": [GITHUB["name"]], "types": ["completed"]}}
    assert "ref" not in checkout["with"]
    assert "arguments" not in action["with"]
    assert not any("run" in step for step in job["steps"])
    (upload,) = [step for step in GITHUB["jobs"]["scores"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert artifact["with"]["name"] == upload["with"]["name"]
    record = f"{run['with']['run']}/run.json"
    assert record in upload["with"]["path"].split()
    assert action["with"]["run"] == f"{artifact['with']['path']}/{record}"
    assert {key: action["with"][key] for key in ("baseline", "fail-on")} == {
        key: run["with"][key] for key in ("baseline", "fail-on")
    }


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
