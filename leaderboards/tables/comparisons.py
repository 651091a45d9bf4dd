"""Comparisons and checks as text: a table for two runs, a matrix for more, a table per checked run."""

from collections.abc import Iterable, Iterator, Sequence

from vdm_bench.leaderboards.checks.baseline import BaselineChange, title_of
from vdm_bench.leaderboards.checks.check import (
    FINE,
    NOT_COMPARABLE,
    REGRESSION,
    CheckResult,
    Finding,
    Outcome,
    RunCheck,
)
from vdm_bench.leaderboards.checks.compare import Comparison, RunComparison
from vdm_bench.leaderboards.checks.tolerances import ToleranceRule
from vdm_bench.leaderboards.record import Record
from vdm_bench.leaderboards.text import (
    NOTHING,
    TEXT_WIDTH,
    interval_title,
    markdown_line,
    markdown_table,
    markdown_text,
    rounded,
    text_table,
    useful_decimals,
)
from vdm_bench.metrics.score import Score
from vdm_bench.runtime.printable import printable

_CELL = 28  # width of a column of a matrix, in characters
PAIRED = "clips with the same index are compared in pairs, so noise that both runs share cancels"
INDEPENDENT = (
    "the runs are treated as independent, because a record has no jackknife values or an older version wrote it; "
    "too wide for runs with the same seed"
)
NO_INTERVAL = "too few clips, or clips that are all alike: the change cannot be distinguished from noise"
SIGNS = {"passed": "ok", "failed": "FAIL", "no answer": "?", "not gated": ""}
NUMERIC = ("baseline", "run", "change", "allowed")


def format_comparison(compared: RunComparison, *, width: int = TEXT_WIDTH) -> str:
    """Return a comparison as text for a terminal; control characters in names are escaped.

    Args:
        compared: two runs, with a verdict on the second, or more, which make one matrix per metric.
        width: width of the tables in characters.
    """
    if len(compared.runs) == 2:
        return _lines([*_legend(compared, "AB"), "", *_of_two(compared, width)])
    numbers = [str(number) for number in range(1, len(compared.runs) + 1)]
    lines = list(_legend(compared, numbers))
    for metric in dict.fromkeys(comparison.metric for found in compared.pairs.values() for comparison in found):
        lines += ["", *_matrix(compared, metric, numbers, width)]
    return _lines(lines)


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{printable(line)}\n" for line in lines)


def _legend(compared: RunComparison, labels: Sequence[str]) -> Iterator[str]:
    for label, (path, record) in zip(labels, compared.runs, strict=True):
        yield f"{label}  {record.name}  ({path})"


def _of_two(compared: RunComparison, width: int) -> Iterator[str]:
    found = compared.pairs[0, 1]
    if found:
        titles = ("metric", "A", "B", "B - A", interval_title(_levels(found)), "verdict")
        rows = [
            (
                titled(comparison.second),
                *values_and_change(comparison),
                f"B is {comparison.verdict}" if _decided(comparison) else comparison.verdict,
            )
            for comparison in found
        ]
        yield from text_table(titles, rows, right=("A", "B", "B - A"), width=width)
    else:
        yield "the two runs have no metric in common"
    yield from notes(found)
    (_, a), (_, b) = compared.runs
    for label, run, other in (("A", a, b), ("B", b, a)):
        if alone := [metric for metric in _metrics(run) if metric not in _metrics(other)]:
            yield f"only {label} has {', '.join(alone)}"


def _metrics(record: Record) -> list[str]:
    return [score.metric for score in record.scores]


def _decided(comparison: Comparison) -> bool:
    return comparison.verdict in ("better", "worse")


def titled(score: Score) -> str:
    """Return the name of the metric with an arrow for its direction."""
    return f"{score.metric} {'↑' if score.higher_is_better else '↓'}"


def _levels(found: Sequence[Comparison]) -> set[float]:
    return {comparison.interval.level for comparison in found if comparison.interval}


def values_and_change(comparison: Comparison) -> tuple[str, str, str, str]:
    """Return four cells: first value, second value, change, and interval of the change."""
    numbers = (comparison.first.value, comparison.second.value)
    if comparison.change is None:
        return value_of(comparison.first), value_of(comparison.second), NOTHING, NOTHING
    decimals = max(_decimals(comparison, value) for value in numbers if value is not None)
    first, second = (rounded(value or 0.0, decimals) for value in numbers)
    finest = _decimals(comparison, comparison.change)
    if comparison.interval is None:
        return first, second, signed(comparison.change, finest), NOTHING
    ends = f"[{rounded(comparison.interval.low, finest)}, {rounded(comparison.interval.high, finest)}]"
    return first, second, signed(comparison.change, finest), ends


def value_of(score: Score | None) -> str:
    """Return the cell of a score that has no counterpart."""
    if score is None or score.value is None:
        return NOTHING
    ends = (score.interval.low, score.interval.high) if score.interval else (None, None)
    return rounded(score.value, useful_decimals(score.value, *ends))


def _decimals(comparison: Comparison, number: float) -> int:
    ends = (comparison.interval.low, comparison.interval.high) if comparison.interval else (None, None)
    return useful_decimals(number, *ends)


def signed(change: float, decimals: int) -> str:
    """Format a change with its sign; zero has none."""
    text = rounded(change, decimals)
    return text if change <= 0 else f"+{text}"


def notes(found: Sequence[Comparison]) -> Iterator[str]:
    """Return notes: how the intervals were computed, and why scores are not comparable."""
    methods = list(dict.fromkeys(comparison.interval.method for comparison in found if comparison.interval))
    for method in methods:
        yield f"{method}: {PAIRED if method.startswith('paired') else INDEPENDENT}"
    reasons = [
        (comparison.metric, comparison.reason) for comparison in found if comparison.verdict == "not comparable"
    ]
    yield from grouped(reasons, "not comparable")
    if any(comparison.verdict == "no interval" for comparison in found):
        yield f"no interval: {NO_INTERVAL}"


def grouped(reasons: Iterable[tuple[str, str]], what: str) -> Iterator[str]:
    """Return one line per reason, such as `not comparable: fvd, is: n 64 v 72`.

    Args:
        reasons: pairs of metric and reason.
        what: what is true of these metrics.
    """
    metrics: dict[str, dict[str, None]] = {}
    for metric, reason in reasons:
        metrics.setdefault(reason, {})[metric] = None
    for reason, names in metrics.items():
        yield f"{what}: {', '.join(names)}: {reason}"


def _matrix(compared: RunComparison, metric: str, labels: Sequence[str], width: int) -> Iterator[str]:
    """Return the lines of a matrix: row minus column, and the verdict on the row."""
    cells = {(i, j): _of_metric(compared.pairs[i, j], metric) for i, j in compared.pairs}
    shown = [comparison for comparison in cells.values() if comparison]
    rows = []
    for j, label in enumerate(labels):
        row = [cells.get((min(i, j), max(i, j))) for i in range(len(labels))]
        rows.append(
            [
                f"{label} {compared.runs[j][1].name}",
                *(
                    NOTHING if comparison is None else _cell(comparison, i < j)
                    for i, comparison in enumerate(row)
                ),
            ]
        )
    yield titled(shown[0].second)
    yield "score of the row minus score of the column, and the verdict on the row"
    yield ""
    # A folded cell is hard to read, a long line is not.
    yield from text_table(["", *labels], rows, width=max(width, _CELL * len(rows)))
    unlike = [comparison for comparison in shown if comparison.verdict == "not comparable"]
    yield from dict.fromkeys(notes([comparison for comparison in shown if comparison not in unlike]))
    yield from dict.fromkeys(notes(unlike))


def _of_metric(found: Sequence[Comparison], metric: str) -> Comparison | None:
    return next((comparison for comparison in found if comparison.metric == metric), None)


_OPPOSITE = {"better": "worse", "worse": "better"}


def _cell(comparison: Comparison, forwards: bool) -> str:
    """Return a cell; `forwards` says whether the row is the second run of the comparison."""
    if comparison.change is None:
        return comparison.verdict
    verdict = comparison.verdict if forwards else _OPPOSITE.get(comparison.verdict, comparison.verdict)
    change = comparison.change if forwards else -comparison.change
    return f"{signed(change, _decimals(comparison, comparison.change))} {verdict}"


def sentence(finding: Finding) -> str:
    """Return a finding as a sentence without a full stop; the caller escapes the names in it."""
    if finding.compared is None or finding.compared.change is None:
        what = "cannot be checked" if finding.mark == "missing" else "is not comparable with the baseline"
        return f"{finding.metric} {what}: {finding.reason}"
    before, now, change, ends = values_and_change(finding.compared)
    interval = "" if ends == NOTHING else f", {interval_title(_levels([finding.compared]))} {ends}"
    verdict = {
        "better": "got better",
        "worse": "got worse",
        "within noise": "changed within noise",
        "no interval": "changed, with no interval to distinguish it from noise",
    }[finding.mark]
    allowed = f"; allowed {_limits(finding.broken)}" if finding.broken else ""
    return f"{finding.metric} {verdict}: {before} to {now} ({change}{interval}){allowed}"


def headline(result: CheckResult) -> str:
    """Return the result of a check in one line."""
    if result.exit_code == REGRESSION:
        return f"regression: {_names(result, 'failed')}"
    if result.exit_code == NOT_COMPARABLE:
        return f"undecided: {_names(result, 'no answer') or 'there is nothing to compare'}"
    return "no regression"


def _names(result: CheckResult, outcome: Outcome) -> str:
    found = [finding.metric for finding in result.findings if finding.outcome == outcome]
    return ", ".join(dict.fromkeys(found))


def format_check(result: CheckResult, *, width: int = TEXT_WIDTH) -> str:
    """Return a table per run as text for a terminal; control characters in names are escaped.

    Args:
        result: result of the check.
        width: width of the tables in characters.
    """
    lines: list[str] = []
    for check in result.runs:
        titles, rows = _table(check)
        lines += [_heading(check, result), "", *text_table(titles, rows, right=NUMERIC, width=width)]
        lines += [*_notes(check), ""]
    return _lines(lines)


def format_closing(result: CheckResult, update: str) -> str:
    """Return the result of a check as text, with what to do about it.

    Args:
        result: result of the check.
        update: option that updates the baseline, such as `--update-baseline`.
    """
    lines = [headline(result)]
    if not result.strict and any(finding.mark == "within noise" for finding in result.findings):
        lines.append("changes within noise are not regressions, unless the check is strict")
    if any(finding.rules and finding.compared and finding.compared.differing for finding in result.findings):
        lines.append("repeat the run with the settings of the baseline: same protocol, same number of clips")
    if result.exit_code != FINE:
        lines.append(f"if the change is intended, update the baseline with {update}")
    return _lines(lines)


def format_changes(changes: Sequence[BaselineChange], baseline: str, *, only_new: bool = False) -> list[str]:
    """Return lines that say what was stored in a baseline.

    Args:
        changes: the runs that were stored.
        baseline: path of the baseline.
        only_new: whether only runs that the baseline lacked were to be stored.
    """
    if not changes:
        return [f"{baseline} has these {'runs' if only_new else 'scores'} already"]
    lines = [f"wrote {baseline}"]
    for change in changes:
        before = {score.metric: score for score in change.replaced.scores} if change.replaced else {}
        lines.append(f"{'replaced' if change.replaced else 'added'} {title_of(change.run)}")
        lines += [f"  {_stored(score, before.get(score.metric))}" for score in change.run.scores]
        lost = before.keys() - {score.metric for score in change.run.scores}
        lines += [f"  {metric}: no longer in the baseline" for metric in sorted(lost)]
    return lines


def _stored(score: Score, before: Score | None) -> str:
    value = "no value" if score.value is None else value_of(score)
    if before is None or before.value is None or score.value == before.value:
        return f"{titled(score)} {value}"
    return f"{titled(score)} {value} (was {value_of(before)})"


def markdown_check(result: CheckResult) -> str:
    """Return a check as GitHub Markdown; names are escaped."""
    lines = [f"### vdm-bench check: {markdown_text(headline(result))}", ""]
    for check in result.runs:
        titles, rows = _table(check)
        lines += [markdown_line(_heading(check, result)), "", *markdown_table(titles, rows, right=NUMERIC)]
        lines += ["", *(f"- {markdown_line(note)}" for note in _notes(check)), ""]
    return "".join(f"{line}\n" for line in lines)


def _heading(check: RunCheck, result: CheckResult) -> str:
    if check.baseline is None:
        return f"{title_of(check.run)}: no baseline in {result.baseline}"
    made = f"{check.baseline.created:%Y-%m-%d %H:%M} UTC"
    return f"{title_of(check.run)}: compared with {check.baseline.name} of {made} in {result.baseline}"


def _table(check: RunCheck) -> tuple[list[str], list[list[str]]]:
    compared = [finding.compared for finding in check.findings if finding.compared]
    titles = ["", "metric", "baseline", "run", "change", interval_title(_levels(compared)), "allowed", "verdict"]
    return titles, [_row(finding) for finding in check.findings]


def _row(finding: Finding) -> list[str]:
    comparison, score = finding.compared, finding.now or finding.before
    numbers = (
        values_and_change(comparison)
        if comparison
        else (value_of(finding.before), value_of(finding.now), NOTHING, NOTHING)
    )
    metric = titled(score) if score else finding.metric
    return [SIGNS[finding.outcome], metric, *numbers, _limits(finding.rules) or NOTHING, finding.mark]


def _limits(rules: Iterable[ToleranceRule]) -> str:
    return ", ".join(str(rule.tolerance) for rule in rules)


def _notes(check: RunCheck) -> Iterator[str]:
    yield from notes([finding.compared for finding in check.findings if finding.compared])
    missing = [(finding.metric, finding.reason) for finding in check.findings if finding.mark == "missing"]
    yield from grouped(missing, "missing")
