"""The command line, `vdm-bench`: one module a verb, each importing what it needs when it runs."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from vdm_bench import __version__
from vdm_bench.cli.check import check
from vdm_bench.cli.compare import compare
from vdm_bench.cli.data import data
from vdm_bench.cli.demo import demo
from vdm_bench.cli.explain import explain
from vdm_bench.cli.leaderboard import leaderboard
from vdm_bench.cli.listing import list_things
from vdm_bench.cli.log import log
from vdm_bench.cli.output import say
from vdm_bench.cli.report import report
from vdm_bench.cli.reproduce import reproduce
from vdm_bench.cli.run import run
from vdm_bench.cli.sample import sample
from vdm_bench.cli.score import score
from vdm_bench.cli.streams import accept_any_text, discard_output, is_full
from vdm_bench.cli.train import train
from vdm_bench.cli.verify import verify
from vdm_bench.cli.weights import weights
from vdm_bench.errors import SlowWarning, VdmBenchError
from vdm_bench.runtime.printable import printable

INTERNAL_ERROR = 70  # sysexits.h: EX_SOFTWARE


class _Commands(click.Group):
    """Turns the project's errors into one sentence and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        accept_any_text()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # also of `--help` and `--version`, which are printed before any verb is invoked
            if not is_full(error):
                raise
            say("Error: there is no room for what is printed; send it elsewhere")
            discard_output()
            sys.exit(VdmBenchError.exit_code)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _usage_errors_printable():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _warnings_in_a_sentence(), _usage_errors_printable():
                return super().invoke(ctx)
        except VdmBenchError as error:
            if ctx.params["debug"]:
                raise
            say(f"Error: {error}")
            ctx.exit(error.exit_code)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            if is_full(error):
                raise  # `main` knows what to say
            say(
                f"Internal error: {type(error).__name__}: {printable(error)}; please report it with the output "
                "of `vdm-bench --debug ...`"
            )
            ctx.exit(INTERNAL_ERROR)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order a new user needs them, not by the alphabet


@contextmanager
def _usage_errors_printable() -> Iterator[None]:
    """Spell out, in click's own errors, what was typed and cannot be seen."""
    try:
        yield
    except click.ClickException as error:
        vars(error).update(message=printable(error.message))  # it is final to type checkers
        raise


@contextmanager
def _warnings_in_a_sentence() -> Iterator[None]:
    """Print this project's warnings without the line of code they come from."""
    with warnings.catch_warnings():
        otherwise = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, SlowWarning):
                say(f"Warning: {message}")
            else:
                otherwise(printable(message), category, *rest, **more)

        warnings.showwarning = show
        yield


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VDM_BENCH"},
)
@click.version_option(__version__, message="vdm-bench %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Measure video generation models: FVD and IS whose every condition is on record.

    \b
    Exit codes: 0 fine, 1 a regression or not verified, 2 wrong usage or bad input, 3 not comparable, no baseline
    or data missing, 70 a fault of vdm-bench, 75 another process has stopped.
    """


_COMMANDS = (
    *(demo, list_things, score, run, report, leaderboard, reproduce, compare, check, verify, log),
    *(explain, train, sample, data, weights),
)
for command in _COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line; options may be given as environment variables `VDM_BENCH_<VERB>_<OPTION>`."""
    try:
        cli()
    except BrokenPipeError:
        # The reader of a pipe has seen enough. Python would complain once more when it flushes at its end.
        discard_output()
        sys.exit(0)
