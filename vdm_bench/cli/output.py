"""How verbs print a record."""

import click

from vdm_bench.leaderboards.record import Record


def print_record(record: Record, as_json: bool) -> None:
    """Print a record as a table, or as JSON."""
    if as_json:
        click.echo(record.model_dump_json(indent=2))
        return
    from vdm_bench.leaderboards.store import frame_of
    from vdm_bench.leaderboards.tables import format_tables

    click.echo(format_tables(frame_of(record), "text").rstrip("\n"))
