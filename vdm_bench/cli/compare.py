"""`vdm-bench compare`: how much runs differ, and whether the difference exceeds noise."""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import show_json, show_text


@click.command(short_help="Compare two or more runs.")
@click.argument("runs", type=options.PATH, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def compare(ctx: click.Context, runs: tuple[Path, ...], as_json: bool) -> None:
    """Compare RUNS: run folders, folders of them, or run.json files.

    For two runs, A and B, the table shows every metric that both have: its change from A to B, the interval of
    the change, and a verdict: B is better, worse, within noise, or not comparable, with the settings that differ.
    Three or more runs make one matrix per metric.

    Clips with the same index are compared in pairs: runs with the same seed or the same context frames can be
    distinguished with fewer clips than their own intervals suggest.

    \b
    vdm-bench compare runs/old runs/new
    vdm-bench compare runs/

    Exit code 3 if nothing is comparable.
    """
    from vdm_bench.errors import InputError, NotComparableError
    from vdm_bench.leaderboards.checks.compare import RunComparison
    from vdm_bench.leaderboards.record import read_record
    from vdm_bench.leaderboards.store import find_records
    from vdm_bench.leaderboards.tables.comparisons import format_comparison

    paths = {path.resolve(): path for run in runs for path in find_records(run)}
    if len(paths) < 2:
        raise InputError(f"there is one run in {' '.join(map(str, runs))}; give two or more to compare")
    records = [(str(path), read_record(path)) for path in paths.values()]
    compared = RunComparison.of(records)
    if as_json:
        show_json(compared.to_dict())
    else:
        show_text(format_comparison(compared))
    if not compared.comparable:
        ctx.exit(NotComparableError.exit_code)
