"""The table in examples/README.md: it has every example, and its commands, files and options exist."""

import re
import shlex

import click
from paths import ROOT

from vdm_bench.cli import cli

EXAMPLES = ROOT / "examples"
TEXT = (EXAMPLES / "README.md").read_text("utf-8")


def test_the_table_has_every_example_once() -> None:
    rows = re.findall(r"^\| `([\w.]+)/?` \|", TEXT, re.MULTILINE)
    there = {path.name for path in EXAMPLES.iterdir() if path.name not in {"README.md", "__pycache__"}}
    assert len(rows) == len(there)
    assert set(rows) == there


def test_the_table_names_files_that_exist() -> None:
    linked = re.findall(r"\]\((\.\./[\w/.-]*)", TEXT)
    named = re.findall(r"\b(examples/[\w/.-]+\.\w+)", TEXT)
    assert len(linked) > 5
    assert len(named) > 5
    assert [link for link in linked if not (EXAMPLES / link).exists()] == []
    assert [name for name in named if not (EXAMPLES.parent / name).exists()] == []


def test_the_commands_of_the_table_have_such_options() -> None:
    commands = re.findall(r"`(vdm-bench [^`]+)`", TEXT)
    assert len(commands) >= 2
    for command in commands:
        verb, *arguments = shlex.split(command)[1:]
        known = {
            name
            for option in cli.commands[verb].params
            if isinstance(option, click.Option)
            for name in option.opts
        }
        assert {argument for argument in arguments if argument.startswith("--")} <= known
