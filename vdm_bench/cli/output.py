"""How verbs print: nothing that comes from outside reaches a terminal but as printable lines."""

import json
from typing import TYPE_CHECKING, Any

import click

from vdm_bench.errors import InputError
from vdm_bench.runtime.printable import printable

if TYPE_CHECKING:
    from vdm_bench.leaderboards.record import Record


def say(sentence: object) -> None:
    """Print a line to standard error."""
    click.echo(printable(sentence, None), err=True)


def show(*lines: object) -> None:
    """Print lines to standard output; what ends a line within one of them is spelt out."""
    click.echo("\n".join(printable(line, None) for line in lines))


def show_text(text: str) -> None:
    """Print a text of several lines, such as a table, to standard output."""
    show(*text.rstrip("\n").split("\n"))


def show_json(content: Any) -> None:
    """Print JSON to standard output, in ASCII: no encoding of a console or a pipe then changes what it says."""
    click.echo(json.dumps(content, indent=2, allow_nan=False))


def print_record(record: "Record", as_json: bool) -> None:
    """Print a record as a table, or as JSON."""
    if as_json:
        show_json(record.model_dump(mode="json"))
        return
    from vdm_bench.leaderboards.store import frame_of
    from vdm_bench.leaderboards.tables.formats import format_tables

    show_text(format_tables(frame_of(record), "text"))


def require_values(record: "Record") -> None:
    """End a verb, whose record is written and printed, as one that did not do all it was asked for.

    Raises:
        InputError: a metric has no value.
    """
    if lacking := [
        f"{score.metric} has no value: {score.status}" for score in record.scores if score.value is None
    ]:
        raise InputError("; ".join(lacking))
