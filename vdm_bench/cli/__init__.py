"""The command line, `vdm-bench`: one module per verb, which imports what it needs when it runs."""

import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from vdm_bench.cli import options
from vdm_bench.cli.check import check
from vdm_bench.cli.compare import compare
from vdm_bench.cli.data import data
from vdm_bench.cli.demo import demo
from vdm_bench.cli.explain import explain
from vdm_bench.cli.history import history
from vdm_bench.cli.leaderboard import leaderboard
from vdm_bench.cli.listing import list_things
from vdm_bench.cli.log import log
from vdm_bench.cli.options import say
from vdm_bench.cli.report import report
from vdm_bench.cli.reproduce import reproduce
from vdm_bench.cli.run import run
from vdm_bench.cli.sample import sample
from vdm_bench.cli.sampler_client import sampler_client
from vdm_bench.cli.score import score
from vdm_bench.cli.streams import accept_any_end, accept_any_text
from vdm_bench.cli.train import train
from vdm_bench.cli.verify import verify
from vdm_bench.cli.weights import weights
from vdm_bench.errors import InputError, MachineError, SlowWarning, VdmBenchError
from vdm_bench.runtime.input_files import fault_of_the_machine, is_of_the_machine, whole_number
from vdm_bench.runtime.printable import printable
from vdm_bench.runtime.stopping import interrupt_no_more, interrupt_on_signals, received_signal
from vdm_bench.runtime.threads import check_threads
from vdm_bench.version import __version__

INTERNAL_ERROR = 70  # sysexits.h: EX_SOFTWARE
_KEYWORD = re.compile(r"`([a-z_]+)`")  # a Python parameter in an error message


class _Commands(click.Group):
    """A group of verbs whose errors become one sentence and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        accept_any_text()
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        arguments = tuple(args[1] if len(args) > 1 else kwargs["args"])
        with _errors_as_sentences():  # `--help` and `--version` are printed before any verb is invoked
            context = super().make_context(*args, **kwargs)
        context.meta[options.ARGUMENTS] = arguments
        return context

    def invoke(self, ctx: click.Context) -> Any:
        with _errors_as_sentences(ctx), _warnings_in_a_sentence():
            _check_build_time()
            check_threads()  # before NumPy is imported
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs in their groups."""
        width = max(map(len, self.commands))
        for title, verbs in _GROUPS.items():
            with formatter.section(title):
                rows = [(str(verb.name).ljust(width), verb.get_short_help_str(formatter.width)) for verb in verbs]
                formatter.write_dl(rows)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which a new user needs them


def _check_build_time() -> None:
    """Refuse a build time that is not a number; NumPy's own message would not name the variable."""
    value = os.environ.get("SOURCE_DATE_EPOCH")
    if value is not None and whole_number(value) is None:
        raise InputError(
            f"SOURCE_DATE_EPOCH={value!r:.40} is not a whole number of seconds; unset or fix the variable"
        )


@contextmanager
def _errors_as_sentences(ctx: click.Context | None = None) -> Iterator[None]:
    """Turn any exception of a verb into a sentence and an exit code."""
    debug = ctx is not None and ctx.params["debug"]
    try:
        yield
    except (click.exceptions.Exit, SystemExit):
        raise
    except BaseException as error:
        number = received_signal()  # a library may have replaced it by its own error
        if number is None and not isinstance(error, KeyboardInterrupt):
            _report(error, debug, _options_of(ctx))
        _report_signal(number or signal.SIGINT, ctx)
        if debug:
            traceback.print_exc()
        sys.exit(128 + (number or signal.SIGINT))


def _report_signal(number: int, ctx: click.Context | None) -> None:
    resumes = ctx is not None and ctx.meta.get(options.RESUMES)
    say(f"stopped by {signal.Signals(number).name}" + ("; rerun the same command to resume" if resumes else ""))


def _options_of(ctx: click.Context | None) -> dict[str, str]:
    """Return the options of the current verb by their Python names: `data_root` is --data-root."""
    verb = None if ctx is None or ctx.invoked_subcommand is None else cli.commands.get(ctx.invoked_subcommand)
    return {
        str(parameter.name): parameter.opts[0]
        for parameter in (verb.params if verb else ())
        if isinstance(parameter, click.Option)
    }


def _report(failure: BaseException, debug: bool, options_of_verb: Mapping[str, str]) -> NoReturn:
    """Report an error and exit, or raise it again; parameters in backquotes become the options of the verb."""
    try:
        raise failure
    except VdmBenchError as error:
        if debug:
            raise
        names = options_of_verb
        say(f"Error: {re.sub(_KEYWORD, lambda found: names.get(found[1], found[0]), str(error))}")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        vars(error).update(message=printable(error.message))  # escape unprintable characters
        raise
    except click.Abort:
        raise
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) or is_of_the_machine(error):
            say(f"Error: {fault_of_the_machine(error)}")
            sys.exit(MachineError.exit_code)
        say(
            f"Internal error: {type(error).__name__}: {printable(error)}; please report it with the output "
            "of `vdm-bench --debug ...`"
        )
        sys.exit(INTERNAL_ERROR)


@contextmanager
def _warnings_in_a_sentence() -> Iterator[None]:
    """Print this project's warnings without their line of code."""
    with warnings.catch_warnings():
        show_other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, SlowWarning):
                say(f"Warning: {message}")
            else:
                show_other(printable(message), category, *rest, **more)

        warnings.showwarning = show
        yield


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VDM_BENCH"},
)
@click.version_option(__version__, message="vdm-bench %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and the messages of libraries.")
def cli(debug: bool) -> None:
    """Score video generation models: FVD and IS with every setting recorded.

    \b
    Exit codes: 0 fine, 1 a regression or not verified, 2 wrong usage, bad input or a fault of the machine, 3 not
    comparable, no baseline or data missing, 70 a bug in vdm-bench, 75 another process has stopped, 128 + n
    stopped by signal n: 130 by Ctrl-C, 143 by SIGTERM. A pipe whose reader has exited changes none of them.
    """
    if debug:
        logger = logging.getLogger("vdm_bench")
        logger.setLevel(logging.DEBUG)
        click.get_current_context().call_on_close(lambda: logger.setLevel(logging.NOTSET))


_GROUPS: dict[str, tuple[click.Command, ...]] = {
    "Measure": (demo, score, run, explain),
    "Compare": (report, leaderboard, compare, check, history, verify, log),
    "Reference model": (train, sample, reproduce),
    "Data, weights and samplers": (list_things, data, weights, sampler_client),
}
for group in _GROUPS.values():
    for command in group:
        cli.add_command(command)


def main() -> None:
    """Run the command line; options may be given as environment variables `VDM_BENCH_<VERB>_<OPTION>`."""
    accept_any_end()
    interrupt_on_signals()
    try:
        cli()
    finally:
        interrupt_no_more()
