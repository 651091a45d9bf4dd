"""`vdm-bench check`: a regression check for continuous integration."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import say, show_json, show_text
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.leaderboards.checks.check import CheckResult


@click.command(short_help="Fail if a run is worse than a baseline: for CI.")
@click.argument("run", type=options.PATH)
@click.option("--baseline", type=options.PATH, required=True, help="Baseline file, run folder or run.json.")
@click.option(
    "--fail-on",
    multiple=True,
    metavar="METRIC:LIMIT",
    help="How much worse a metric may get: fvd:5%, embedded/is:0.5; * matches any characters. Other metrics "
    "are shown but not checked. May be repeated.  [default: no metric may get worse by more than noise]",
)
@click.option("--strict", is_flag=True, help="Also fail on changes within noise.")
@click.option("--junit", type=options.PATH, help="Write JUnit XML to a file.")
@click.option("--markdown", type=options.PATH, help="Write the table as Markdown to a file, for a comment.")
@click.option(
    "--update-baseline",
    is_flag=True,
    help="Show the changes, and store the run in the baseline; it replaces the run with its protocol and name.",
)
@click.option(
    "--add-new",
    is_flag=True,
    help="Store runs that the baseline lacks, by protocol and name; check the others as usual.",
)
@click.option(
    "--github/--no-github",
    default=lambda: os.environ.get("GITHUB_ACTIONS") == "true",
    show_default="on in GitHub's workflows",
    help="Annotate regressions on GitHub, and write the step summary.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def check(
    ctx: click.Context,
    run: Path,
    baseline: Path,
    fail_on: tuple[str, ...],
    strict: bool,
    junit: Path | None,
    markdown: Path | None,
    update_baseline: bool,
    add_new: bool,
    github: bool,
    as_json: bool,
) -> None:
    """Compare RUN, or all runs in a folder, with a baseline, and fail if a score got worse.

    A score fails if it got worse by more than its limit and by more than noise: the interval of the change
    excludes zero. Scores with different signatures are never compared.

    \b
    vdm-bench check runs/mine --baseline baseline.json --update-baseline
    vdm-bench check runs/mine --baseline baseline.json
    vdm-bench check runs/mine --baseline baseline.json --fail-on embedded/fvd:5% --junit check.xml
    vdm-bench check runs/ --baseline baseline.json --add-new

    Exit codes: 0 fine, 1 regression, 2 wrong usage or bad input, 3 not comparable or no baseline.
    """
    from vdm_bench.leaderboards.checks.check import check_runs, refuse_stream
    from vdm_bench.leaderboards.tables.ci import junit_xml
    from vdm_bench.leaderboards.tables.comparisons import format_check, format_closing, markdown_check
    from vdm_bench.runtime.files import remove_temporary_files_of, write_bytes

    if update_baseline and add_new:
        raise InputError("--update-baseline stores new runs, too; leave out --add-new")
    if update_baseline or add_new:
        refuse_stream(baseline)
    result = check_runs(run, baseline, fail_on, strict=strict)
    text = format_check(result)
    if update_baseline or add_new:
        _store(run, baseline, only_new=add_new)
        result = check_runs(run, baseline, fail_on, strict=strict)
    if add_new:
        text = format_check(result)
    if result.exit_code or not update_baseline:
        text += format_closing(result, "--update-baseline")
    if junit:
        remove_temporary_files_of(junit, shared=True)
        write_bytes(junit, junit_xml(result))
    if markdown:
        remove_temporary_files_of(markdown, shared=True)
        write_bytes(markdown, markdown_check(result).encode())
    if as_json:
        show_json(result.to_dict())
    else:
        _print_text(text, github)
    if github:
        _report_to_github(result, to_stderr=as_json)
    ctx.exit(result.exit_code)


def _store(run: Path, baseline: Path, *, only_new: bool) -> None:
    from vdm_bench.leaderboards.checks.check import update_baseline
    from vdm_bench.leaderboards.tables.comparisons import format_changes
    from vdm_bench.runtime.progress import Console

    changes = update_baseline(run, baseline, only_new=only_new, note=Console().note)
    for line in format_changes(changes, str(baseline), only_new=only_new):
        say(line)


def _print_text(text: str, github: bool) -> None:
    # A name in the table could look like a workflow command; GitHub ignores commands until it reads the token.
    token = secrets.token_hex(16)
    if github:
        click.echo(f"::stop-commands::{token}")
    show_text(text)
    if github:
        click.echo(f"::{token}::")


def _report_to_github(result: "CheckResult", *, to_stderr: bool) -> None:
    from vdm_bench.leaderboards.tables.ci import annotations
    from vdm_bench.leaderboards.tables.comparisons import markdown_check

    for line in annotations(result):
        click.echo(line, err=to_stderr)  # on the other stream it might overtake the token
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if not summary:
        return
    try:
        with Path(summary).open("a", encoding="utf-8") as file:  # other steps write there, too
            file.write(markdown_check(result))
    except OSError as error:
        say(f"cannot write the step summary {summary}: {error.strerror}")
