"""The command to run instead, for clips that differ in size or length: what `score` and `explain` print then."""

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say


@contextlib.contextmanager
def proposing() -> Iterator[None]:
    """Turn a `ClipsDifferError` into a table of the clips and the whole command that fits them; exit code 2."""
    from vdm_bench.scoring.proposal import ClipsDifferError

    try:
        yield
    except ClipsDifferError as error:
        context = click.get_current_context()
        say(f"Error: {error.problem}")
        for line in error.lines:
            say(f"  {line}")
        if not error.proposals:
            say(error.reason)
        for proposal in error.proposals:
            if proposal.fps is None:
                say("to score them at one size and length, run:")
            else:
                say(f"the frame rates differ, so scores are marked; to sample all at {proposal.fps} fps, run:")
            if proposal.skipped:
                say(f"(--skip-broken leaves out {proposal.skipped} that are too short or cannot be read)")
            arguments = replaced(context.meta[options.ARGUMENTS], proposal.arguments)
            say(f"  {shlex.join(['vdm-bench', *arguments])}")
        context.exit(error.exit_code)


def replaced(arguments: Sequence[str], changes: Mapping[str, str | None]) -> list[str]:
    """Return the arguments of a command with options replaced or added; the value of a flag is None.

    >>> replaced(["score", "a b", "--size=64", "--frames", "9", "--json"], {"--frames": "4", "--size": "32"})
    ['score', 'a b', '--json', '--frames', '4', '--size', '32']
    """
    kept: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            return [*kept, *_options(changes), "--", *remaining]
        if argument in changes:
            if changes[argument] is not None:
                next(remaining, None)
        elif argument.partition("=")[0] not in changes:
            kept.append(argument)
    return [*kept, *_options(changes)]


def _options(changes: Mapping[str, str | None]) -> Iterator[str]:
    for name, value in changes.items():
        yield name
        if value is not None:
            yield value
