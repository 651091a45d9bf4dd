"""How verbs print a record."""

import json

import click

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record


def print_record(record: Record, as_json: bool) -> None:
    """Print a record as a table, or as JSON."""
    if as_json:
        # In ASCII, as all JSON on the screen is: no encoding of a console or a pipe then changes what it says.
        click.echo(json.dumps(record.model_dump(mode="json"), indent=2, allow_nan=False))
        return
    from vdm_bench.leaderboards.store import frame_of
    from vdm_bench.leaderboards.tables import format_tables

    click.echo(format_tables(frame_of(record), "text").rstrip("\n"))


def require_values(record: Record) -> None:
    """End a verb, whose record is written and printed, as one that did not do all it was asked for.

    Raises:
        InputError: a metric has no value.
    """
    if lacking := [
        f"{score.metric} has no value: {score.status}" for score in record.scores if score.value is None
    ]:
        raise InputError("; ".join(lacking))
