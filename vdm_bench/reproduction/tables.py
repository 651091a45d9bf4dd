"""Format a plan and its outcome: the paper's table with a column of your values, and verdicts on its claims."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from vdm_bench.leaderboards.published import PublishedRow
from vdm_bench.leaderboards.tables.formats import write_tables
from vdm_bench.leaderboards.tables.views import NAME, NOTES, Cell, Table, TableColumn, TableRow, numbered
from vdm_bench.leaderboards.text import NOTHING, rounded, useful_decimals
from vdm_bench.metrics.score import Estimate, Interval, Score
from vdm_bench.reproduction.execute import Outcome, Verdict, missing_for
from vdm_bench.reproduction.experiments import Experiment, ReproductionOptions, ReproductionPlan
from vdm_bench.scoring.suite import missing_weights, recipes_of

Format = Literal["text", "markdown", "latex", "json"]
VERDICTS = {True: "holds", False: "does not hold here", None: "not decided by so few clips"}


def plan_lines(plan: ReproductionPlan, options: ReproductionOptions) -> list[str]:
    """Return lines that say what would be run, and what is missing."""
    runs = [f"{case.key}: {case.label}; {_clips(plan, case, options)}{_made_by(case)}" for case in plan.cases]
    trained = [model for model in plan.models.values() if model.trains and model.name not in options.checkpoints]
    missing = {case.key: missing_for(plan, case, options) for case in plan.cases}
    protocols = dict.fromkeys(case.protocol for case in plan.cases)
    absent = dict.fromkeys(
        name
        for protocol in protocols
        for name in missing_weights(recipes_of(protocol.metrics), options.computing)
    )
    sections = {
        "runs": runs,
        "models to train": [f"{model.name}: as by `{model.command}`" for model in trained],
        "claims": [f"{text}: {', '.join(metrics)}" for text, metrics in _by_text(plan).items()],
        "weights to download": [*absent],
        "missing": [f"{what} ({', '.join(keys)})" for what, keys in _by_what(missing).items()],
    }
    lines = [f"table {plan.table} of Ho et al. 2022, {plan.title}", *(f"- {note}" for note in plan.notes)]
    for title, items in sections.items():
        lines += ["", title, *(f"- {item}" for item in items)] if items else []
    return lines


def _by_text(plan: ReproductionPlan) -> dict[str, list[str]]:
    metrics: dict[str, list[str]] = {}
    for claim in plan.claims:
        metrics.setdefault(claim.text, []).append(plan.metrics[claim.metric])
    return metrics


def _by_what(missing: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Invert a mapping: from each missing thing to the keys that lack it."""
    keys: dict[str, list[str]] = {}
    for key, lacks in missing.items():
        for what in lacks:
            keys.setdefault(what, []).append(key)
    return keys


def _clips(plan: ReproductionPlan, case: Experiment, options: ReproductionOptions) -> str:
    wanted = case.protocol.generated_count
    count = min(options.limit or plan.limit or wanted, wanted)
    stride = f" at stride {case.protocol.stride}" if case.protocol.stride > 1 else ""
    return f"{case.protocol.name}{stride}, {count:,} of {wanted:,} clips"


def _made_by(case: Experiment) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in case.options.items() if key != "preset")
    return f"; {case.sampler if not case.model else f'model {case.model}'}{f': {settings}' if settings else ''}"


def format_outcome(plan: ReproductionPlan, outcome: Outcome, form: Format) -> str:
    """Format the outcome as text that ends in a newline."""
    if form == "json":
        return json.dumps(_content(plan, outcome), indent=2, allow_nan=False) + "\n"
    last = list(plan.metrics)[-1]
    tables = [_table(plan, outcome, metric, whole=metric == last) for metric in plan.metrics]
    return write_tables(tables, form)


def _content(plan: ReproductionPlan, outcome: Outcome) -> dict[str, Any]:
    rows = []
    for row in plan.published:
        case = plan.case_of(row)
        score = outcome.score(case.key, plan.metrics[row.metric]) if case else None
        rows.append(asdict(row) | {"case": case.key if case else None, "own": score.to_dict() if score else None})
    claims = [
        {
            "text": v.claim.text,
            "metric": v.metric,
            "difference": v.difference and asdict(v.difference),
            "holds": v.holds,
        }
        for v in outcome.verdicts
    ]
    return {"table": plan.table, "rows": rows, "claims": claims, "missing": dict(outcome.missing)}


def _table(plan: ReproductionPlan, outcome: Outcome, metric: str, *, whole: bool) -> Table:
    """Make the table of one metric; `whole` adds the notes on the whole outcome, below the last table."""
    own = plan.metrics[metric]
    rows = [row for row in plan.published if row.metric == metric and (own == metric or plan.case_of(row))]
    lines: dict[tuple[str, str, str], list[PublishedRow]] = {}
    for row in rows:
        lines.setdefault((row.table, row.method, row.pair), []).append(row)
    notes = numbered(text for row in rows for text in _footnotes(plan, row))
    cells = [_cells(plan, outcome, halves, own, notes) for halves in lines.values()]
    return Table(
        metric=own,
        higher_is_better=rows[0].higher_is_better,
        about=tuple(_about(plan, metric)),
        columns=tuple(cells[0]),
        rows=tuple(TableRow(tuple(row.values())) for row in cells),
        notes=(
            *(f"({number}) {text}" for text, number in notes.items()),
            *_without_value(outcome, own),
            *(_claim(verdict) for verdict in outcome.verdicts if verdict.metric == own),
            *_signatures(outcome, own),
            *(_notes(plan, outcome) if whole else []),
        ),
    )


def _about(plan: ReproductionPlan, metric: str) -> Iterable[str]:
    yield f"table {plan.table} of Ho et al. 2022, {plan.title}"
    own = plan.metrics[metric]
    if own != metric:
        yield f"published: {metric} on the paper's data; own: {own} on shapes, which is another scale"


def _footnotes(plan: ReproductionPlan, row: PublishedRow) -> list[str]:
    if plan.metrics[row.metric] != row.metric:  # own values are of other data anyway
        return [*row.caveats]
    protocol = "" if row.protocol == plan.cases[0].protocol.name else row.protocol
    return [*filter(None, (protocol, row.pair)), *row.caveats]


def _cells(
    plan: ReproductionPlan, outcome: Outcome, halves: Sequence[PublishedRow], own: str, notes: dict[str, int]
) -> dict[TableColumn, Cell]:
    """Return the cells of a published row, or of a pair a/b; ours compare with the validation set, or 1 split."""
    ours = next((row for row in halves if row.half in ("validation set", "1 split")), halves[0])
    case = plan.case_of(ours)
    score = outcome.score(case.key, own) if case else None
    numbers = {row.half: row.text for row in halves} if ours.half else {"published": ours.printed}
    cells = {NAME: Cell(ours.method)}
    cells |= {TableColumn(title, "number"): Cell(text) for title, text in numbers.items()}
    cells[TableColumn("own", "number")] = Cell(_value(score))
    cells[TableColumn("95 % interval", "interval")] = Cell(_interval(score))
    if own == ours.metric:
        cells[TableColumn("difference", "number")] = Cell(_difference(score, ours))
    cells[NOTES] = Cell(" ".join(f"({notes[text]})" for text in _footnotes(plan, ours)))
    return cells


def _value(score: Score | None) -> str:
    if score is None or score.value is None:
        return NOTHING
    return rounded(score.value, _decimals(score.value, score.interval))


def _interval(score: Score | None) -> str:
    if score is None or score.value is None or score.interval is None:
        return NOTHING
    return _ends(score.value, score.interval)


def _ends(value: float, found: Interval | Estimate) -> str:
    decimals = _decimals(value, found)
    return f"[{rounded(found.low, decimals)}, {rounded(found.high, decimals)}]"


def _decimals(value: float, found: Interval | Estimate | None) -> int:
    return useful_decimals(value, found.low if found else None, found.high if found else None)


def _difference(score: Score | None, published: PublishedRow) -> str:
    if score is None or score.value is None:
        return NOTHING
    shown = rounded(score.value - published.value, _decimals(score.value, score.interval))
    return shown if shown.startswith("-") else f"+{shown}"


def _notes(plan: ReproductionPlan, outcome: Outcome) -> Iterable[str]:
    yield from plan.notes
    departures = {key: record.protocol.departures for key, record in outcome.records.items() if record.protocol}
    yield from (f"own: {what} ({', '.join(keys)})" for what, keys in _by_what(departures).items())
    lacking = _by_what(outcome.missing)
    yield from (f"not run ({', '.join(keys)}), missing {what}" for what, keys in lacking.items())


def _signatures(outcome: Outcome, metric: str) -> Iterable[str]:
    scores = (outcome.score(key, metric) for key in outcome.records)
    yield from dict.fromkeys(
        f"own: signature {score.signature} (digest {score.digest})" for score in scores if score
    )


def _without_value(outcome: Outcome, metric: str) -> Iterable[str]:
    found = {key: outcome.score(key, metric) for key in outcome.records}
    yield from (
        f"own: {key} has no value: {score.status}"
        for key, score in found.items()
        if score and score.value is None
    )


def _claim(verdict: Verdict) -> str:
    found = verdict.difference
    if found is None:
        return f"claim: {verdict.claim.text}: not decided, for lack of a value or an interval"
    decimals = _decimals(found.value, found)
    return (
        f"claim: {verdict.claim.text}: {VERDICTS[verdict.holds]}; the first less the second is "
        f"{rounded(found.value, decimals)} {_ends(found.value, found)}, paired, {100 * found.level:g} %"
    )
