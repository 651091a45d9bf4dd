"""What people read of a check: sentences, a table for a terminal, and Markdown for a page."""

from collections.abc import Iterable, Iterator, Sequence

from vdm_bench.leaderboards.baseline import title_of
from vdm_bench.leaderboards.check import FINE, NOT_COMPARABLE, REGRESSION, CheckResult, Finding, Outcome, RunCheck
from vdm_bench.leaderboards.comparison_tables import (
    NOTHING,
    grouped,
    interval_title,
    notes,
    titled,
    value_of,
    values_and_change,
)
from vdm_bench.leaderboards.escaping import markdown_line, markdown_text
from vdm_bench.leaderboards.text_table import TEXT_WIDTH, text_table
from vdm_bench.leaderboards.tolerances import Rule
from vdm_bench.runtime.printable import printable

SIGNS = {"passed": "ok", "failed": "FAIL", "no answer": "?", "not gated": ""}
NUMERIC = ("baseline", "run", "change", "allowed")


def sentence(finding: Finding) -> str:
    """Say what was found of one metric, without a full stop; the caller makes the names in it harmless."""
    if finding.compared is None or finding.compared.change is None:
        what = "cannot be checked" if finding.mark == "missing" else "is not comparable with the baseline"
        return f"{finding.metric} {what}: {finding.reason}"
    before, now, change, ends = values_and_change(finding.compared)
    interval = "" if ends == NOTHING else f", {interval_title([finding.compared])} {ends}"
    verdict = {
        "better": "got better",
        "worse": "got worse",
        "within noise": "changed within noise",
        "no interval": "changed, without an interval to tell it from noise",
    }[finding.mark]
    allowed = f"; allowed {_limits(finding.broken)}" if finding.broken else ""
    return f"{finding.metric} {verdict}: {before} to {now} ({change}{interval}){allowed}"


def headline(result: CheckResult) -> str:
    """Say how the check ended."""
    if result.exit_code == REGRESSION:
        return f"regression: {_names(result, 'failed')}"
    if result.exit_code == NOT_COMPARABLE:
        return f"no answer: {_names(result, 'no answer') or 'there is nothing to compare'}"
    return "no regression"


def _names(result: CheckResult, outcome: Outcome) -> str:
    found = [finding.metric for finding in result.findings if finding.outcome == outcome]
    return ", ".join(dict.fromkeys(found))


def format_tables(result: CheckResult, *, width: int = TEXT_WIDTH) -> str:
    """Write the table of each run for a terminal; names from outside are made harmless.

    Args:
        result: of the check.
        width: of the tables, in characters.
    """
    lines: list[str] = []
    for check in result.runs:
        titles, rows = _table(check)
        lines += [_heading(check, result), "", *text_table(titles, rows, right=NUMERIC, width=width)]
        lines += [*_notes(check), ""]
    return _lines(lines)


def format_closing(result: CheckResult, update: str) -> str:
    """Write how the check ended, and what to do about it.

    Args:
        result: of the check.
        update: what takes the run as the new baseline, such as `--update-baseline`.
    """
    lines = [headline(result)]
    if not result.strict and any(finding.mark == "within noise" for finding in result.findings):
        lines.append("a change within noise is no regression, unless the check is strict")
    if any(finding.rules and finding.compared and finding.compared.differing for finding in result.findings):
        lines.append("make the run as the baseline was made: same protocol, same numbers of clips")
    if result.exit_code != FINE:
        lines.append(f"if the change is meant, {update} takes the run as the new baseline")
    return _lines(lines)


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{printable(line)}\n" for line in lines)


def markdown_check(result: CheckResult) -> str:
    """Write a check as Markdown of GitHub; names from outside are made harmless."""
    lines = [f"### vdm-bench check: {markdown_text(headline(result))}", ""]
    for check in result.runs:
        titles, rows = _table(check)
        rules = ["---:" if title in NUMERIC else "---" for title in titles]
        cells = [titles, rules, *([markdown_text(cell) for cell in row] for row in rows)]
        lines += [markdown_line(_heading(check, result)), ""]
        lines += [f"| {' | '.join(row)} |" for row in cells]
        lines += ["", *(f"- {markdown_line(note)}" for note in _notes(check)), ""]
    return "".join(f"{line}\n" for line in lines)


def _heading(check: RunCheck, result: CheckResult) -> str:
    if check.baseline is None:
        return f"{title_of(check.run)}, against nothing in {result.baseline}"
    made = f"{check.baseline.created:%Y-%m-%d %H:%M} UTC"
    return f"{title_of(check.run)}, against {check.baseline.name} of {made} in {result.baseline}"


def _table(check: RunCheck) -> tuple[list[str], list[list[str]]]:
    compared = [finding.compared for finding in check.findings if finding.compared]
    titles = ["", "metric", "baseline", "run", "change", interval_title(compared), "allowed", "verdict"]
    return titles, [_row(finding) for finding in check.findings]


def _row(finding: Finding) -> list[str]:
    one, score = finding.compared, finding.now or finding.before
    numbers = (
        values_and_change(one) if one else (value_of(finding.before), value_of(finding.now), NOTHING, NOTHING)
    )
    metric = titled(score) if score else finding.metric
    return [SIGNS[finding.outcome], metric, *numbers, _limits(finding.rules) or NOTHING, finding.mark]


def _limits(rules: Iterable[Rule]) -> str:
    return ", ".join(str(rule.tolerance) for rule in rules)


def _notes(check: RunCheck) -> Iterator[str]:
    yield from notes([finding.compared for finding in check.findings if finding.compared])
    missing = [(finding.metric, finding.reason) for finding in check.findings if finding.mark == "missing"]
    yield from grouped(missing, "missing")
