"""`vdm-bench history`: the scores of a baseline over the commits that changed it."""

from pathlib import Path

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say, show_json, show_text


@click.command(short_help="Print the scores of a baseline over its git commits.")
@click.argument("baseline", type=options.PATH)
@click.option("--plot", type=options.PATH, metavar="FILE", help="Also draw the scores: .png, .svg or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def history(baseline: Path, plot: Path | None, as_json: bool) -> None:
    """Print how the scores of BASELINE, a file of `vdm-bench check`, changed over the git commits of the file.

    There is one table per run and metric, with a row per commit that changed the score, and the verdict of
    `vdm-bench compare` on each change.

    \b
    vdm-bench history baseline.json
    vdm-bench history baseline.json --plot history.svg
    """
    from vdm_bench.leaderboards.checks.history import read_snapshots, score_histories
    from vdm_bench.leaderboards.tables.history import check_plot_path, format_history, plot_history

    if plot:
        check_plot_path(plot)
    histories = score_histories(read_snapshots(baseline, note=say))
    if plot:
        plot_history(histories, plot)
        say(f"wrote {plot}")
    if as_json:
        show_json({"baseline": str(baseline), "histories": [found.to_dict() for found in histories]})
    else:
        show_text(format_history(histories))
