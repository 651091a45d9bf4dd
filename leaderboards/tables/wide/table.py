"""One table per protocol with a row per run and a column per metric, as in a paper.

Comparable runs make a block of rows, headed by their numbers of clips and the first digits of their digests. In
each column, the best of the comparable scores and its ties are marked; baselines, such as real clips, are not.
`formats` writes the tables; here texts are unchanged, hostile ones included.
"""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vdm_bench.leaderboards.checks.compare import differing_keys
from vdm_bench.leaderboards.ranking import BEST, TIE
from vdm_bench.leaderboards.record import Record, StoredRecord
from vdm_bench.leaderboards.tables.reading import reading
from vdm_bench.leaderboards.tables.views import numbered
from vdm_bench.leaderboards.text import percent, rounded, useful_decimals
from vdm_bench.metrics.score import Score, Signature
from vdm_bench.runtime.run_folder import RECORD_FILE

SHORT_DIGEST = 6  # digits
UNRANKED = "baselines are not ranked"
_BASELINE = "baseline"  # kind of sampler


@dataclass(frozen=True)
class WideCell:
    """A score in a wide table.

    Attributes:
        value: the rounded value; empty if there is none.
        interval: the rounded interval, such as `[36.5, 39.5]`; empty if there is none.
        mark: `best`, `tie` or empty.
        notes: numbers of its footnotes.
    """

    value: str
    interval: str = ""
    mark: str = ""
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class WideRow:
    """A run in a wide table.

    Attributes:
        name: name of the run, with what distinguishes it from others of the same name.
        notes: numbers of the footnotes that concern all its scores.
        cells: one per metric; None if the run has no such score.
    """

    name: str
    notes: tuple[int, ...]
    cells: tuple[WideCell | None, ...]


@dataclass(frozen=True)
class RowBlock:
    """Comparable rows of a wide table.

    Attributes:
        clips: their numbers of clips, such as `N = 64, 256 real clips`.
        notes: numbers of the footnotes that concern all rows.
        digests: one per metric: the first digits of its digest, and footnotes that concern all its scores; None
            if no row has the metric.
        rows: ranked runs first, then baselines, each sorted by the first metric, best first.
    """

    clips: str
    notes: tuple[int, ...]
    digests: tuple[WideCell | None, ...]
    rows: tuple[WideRow, ...]


@dataclass(frozen=True)
class WideTable:
    """The runs of a protocol.

    Attributes:
        protocol: its name; empty for runs without one.
        metrics: name and direction (whether higher is better) of each column.
        levels: levels of the intervals.
        blocks: blocks of comparable rows, the largest first.
        footnotes: texts; footnote 1 is the first.
        unranked: whether there are baselines.
        scores: one score per metric and digest; their signatures say how the numbers were computed.
    """

    protocol: str
    metrics: tuple[tuple[str, bool], ...]
    levels: tuple[float, ...]
    blocks: tuple[RowBlock, ...]
    footnotes: tuple[str, ...]
    unranked: bool
    scores: tuple[Score, ...]

    @property
    def marks(self) -> set[str]:
        """The marks of its cells."""
        return {cell.mark for block in self.blocks for row in block.rows for cell in row.cells if cell}

    def signatures(self) -> list[str]:
        """Return one line per digest: its first digits, the signature, and how it differs from the first."""
        first: dict[str, Signature] = {}
        lines = []
        for score in self.scores:
            signature = Signature.parse(score.signature)
            other = first.setdefault(score.metric, signature)
            unlike = differing_keys(signature.differences(other))
            differs = f" (not comparable with {other.digest[:SHORT_DIGEST]}: {unlike})" if unlike else ""
            lines.append(f"{score.digest[:SHORT_DIGEST]}  {score.signature}{differs}")
        return lines


@dataclass
class _Group:
    """Runs whose common metrics have equal digests."""

    digests: dict[str, str] = field(default_factory=dict)
    runs: list[StoredRecord] = field(default_factory=list)

    def takes(self, digests: Mapping[str, str]) -> bool:
        shared = self.digests.keys() & digests.keys()
        return bool(shared) and all(self.digests[metric] == digests[metric] for metric in shared)


def wide_tables(runs: Iterable[StoredRecord]) -> list[WideTable]:
    """Return a table per protocol, sorted by name; runs without a protocol come last.

    Args:
        runs: from `read_records`; those without scores are left out.
    """
    by_protocol: dict[str, list[StoredRecord]] = {}
    for run in runs:
        if run.record.scores:
            protocol = run.record.protocol
            by_protocol.setdefault(protocol.name if protocol else "", []).append(run)
    return [_table(name, by_protocol[name]) for name in sorted(by_protocol, key=lambda name: (not name, name))]


def _table(protocol: str, runs: Sequence[StoredRecord]) -> WideTable:
    scores = [score for run in runs for score in run.record.scores]
    metrics = dict.fromkeys(score.metric for score in scores)
    directions = {score.metric: score.higher_is_better for score in scores}
    groups = _groups(runs, list(metrics))
    footnotes = numbered(text for group in groups for text in _all_notes(group))
    marks = _marks(runs)
    levels = tuple(sorted({score.interval.level for score in scores if score.interval}))
    return WideTable(
        protocol=protocol,
        metrics=tuple((metric, directions[metric]) for metric in metrics),
        levels=levels,
        blocks=tuple(_block(group, list(metrics), marks, footnotes, levels) for group in groups),
        footnotes=tuple(footnotes),
        unranked=any(_is_baseline(run.record) for run in runs),
        scores=_one_per_digest(list(metrics), groups),
    )


def _groups(runs: Sequence[StoredRecord], metrics: Sequence[str]) -> list[_Group]:
    """Put runs into groups, each sorted by its first metric.

    Runs with many metrics come first, so that those with fewer can join them.
    """
    groups: list[_Group] = []
    for run in sorted(runs, key=lambda run: -len(run.record.scores)):
        digests = {score.metric: score.digest for score in run.record.scores}
        group = next((group for group in groups if group.takes(digests)), None)
        if group is None:
            groups.append(group := _Group())
        group.digests.update(digests)
        group.runs.append(run)
    for group in groups:
        first = next(metric for metric in metrics if metric in group.digests)
        group.runs.sort(key=lambda run: _sort_key(run.record, first))
    return sorted(groups, key=lambda group: (-len(group.runs), -_most_clips(group)))


def _most_clips(group: _Group) -> int:
    return max(score.n_generated for run in group.runs for score in run.record.scores)


def _one_per_digest(metrics: Sequence[str], groups: Sequence[_Group]) -> tuple[Score, ...]:
    found: dict[str, Score] = {}
    for metric in metrics:
        for group in groups:
            for score in (score for run in group.runs for score in run.record.scores):
                if score.metric == metric:
                    found.setdefault(score.digest, score)
    return tuple(found.values())


def _is_baseline(record: Record) -> bool:
    return record.sampler.kind == _BASELINE


def _marks(runs: Sequence[StoredRecord]) -> dict[int, str]:
    """Return the mark of each score by its `id`: only of models, and only where several are comparable."""
    comparable: dict[str, list[Score]] = {}
    for run in runs:
        if not _is_baseline(run.record):
            for score in run.record.scores:
                if score.value is not None:
                    comparable.setdefault(score.digest, []).append(score)
    marks: dict[int, str] = {}
    for scores in comparable.values():
        if len(scores) > 1:
            best = (max if scores[0].higher_is_better else min)(scores, key=_value)
            marks |= {id(score): _mark(score, best) for score in scores}
    return marks


def _value(score: Score) -> float:
    return math.nan if score.value is None else score.value


def _mark(score: Score, best: Score) -> str:
    if score.value == best.value:
        return BEST
    a, b = score.interval, best.interval
    overlap = a and b and a.level == b.level and a.low <= b.high and b.low <= a.high
    return TIE if overlap else ""


def _block(
    group: _Group,
    metrics: Sequence[str],
    marks: Mapping[int, str],
    footnotes: Mapping[str, int],
    levels: Sequence[float],
) -> RowBlock:
    rows = []
    for name, run in zip(distinct_names(group.runs), group.runs, strict=True):
        scores = {score.metric: score for score in run.record.scores}
        common = _run_notes(run.record)
        cells = tuple(
            _cell(scores[metric], marks, _sorted(footnotes, _cell_notes(scores[metric], common)), levels)
            if metric in scores
            else None
            for metric in metrics
        )
        title = f"{name} ({_BASELINE})" if _is_baseline(run.record) else name
        rows.append(WideRow(title, _sorted(footnotes, common), cells))
    digests = (group.digests.get(metric, "")[:SHORT_DIGEST] for metric in metrics)
    heads = tuple(WideCell(digest) if digest else None for digest in digests)
    return _with_common_notes(RowBlock(_clips(group), (), heads, tuple(rows)))


def _sorted(footnotes: Mapping[str, int], texts: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted(footnotes[text] for text in texts))


def _with_common_notes(block: RowBlock) -> RowBlock:
    """Move the footnotes that all rows, or all scores of a metric, have to the head of the block."""
    notes = _common([row.notes for row in block.rows])
    columns = [[row.cells[place] for row in block.rows] for place in range(len(block.digests))]
    of_columns = [_common([cell.notes for cell in column if cell]) for column in columns]
    digests = tuple(
        digest and replace(digest, notes=common) for digest, common in zip(block.digests, of_columns, strict=True)
    )
    rows = []
    for row in block.rows:
        cells = tuple(
            cell and replace(cell, notes=_without(cell.notes, common))
            for cell, common in zip(row.cells, of_columns, strict=True)
        )
        rows.append(WideRow(row.name, _without(row.notes, notes), cells))
    return RowBlock(block.clips, notes, digests, tuple(rows))


def _common(notes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the footnotes that several rows have in common."""
    if len(notes) < 2:
        return ()
    return tuple(number for number in notes[0] if all(number in other for other in notes))


def _without(notes: tuple[int, ...], common: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(number for number in notes if number not in common)


def _sort_key(record: Record, metric: str) -> tuple[bool, bool, float, str]:
    score = next((score for score in record.scores if score.metric == metric), None)
    value = score.value if score else None
    signed = 0.0 if score is None or value is None else -value if score.higher_is_better else value
    return _is_baseline(record), value is None, signed, record.name


def distinct_names(runs: Sequence[StoredRecord]) -> list[str]:
    """Return the names of runs; equal ones get what distinguishes them: a setting, the date, or the folder."""
    names = [run.record.name for run in runs]
    for name in (name for name, count in Counter(names).items() if count > 1):
        places = [place for place, other in enumerate(names) if other == name]
        hints = next(
            found for found in _hints([runs[place] for place in places]) if len(set(found)) == len(found)
        )
        for place, hint in zip(places, hints, strict=True):
            names[place] = f"{name} ({hint})"
    return names


def _hints(runs: Sequence[StoredRecord]) -> Iterator[list[str]]:
    """Return what may distinguish runs, the most telling first; folders, which come last, always differ."""
    settings = [{**run.record.sampler.settings, "seed": run.record.sampler.seed} for run in runs]
    for key in dict.fromkeys(key for setting in settings for key in setting):
        yield [f"{key} {setting.get(key)}" for setting in settings]
    yield [f"{run.record.created:%Y-%m-%d}" for run in runs]
    yield [f"{run.record.created:%Y-%m-%d %H:%M}" for run in runs]
    folders = [str(run.path.parent if run.path.name == RECORD_FILE else run.path) for run in runs]
    common = os.path.commonpath(folders)
    yield [os.path.relpath(folder, common) for folder in folders]
    yield [str(run.path) for run in runs]


def _clips(group: _Group) -> str:
    scores = [score for run in group.runs for score in run.record.scores]
    generated = _range_of([score.n_generated for score in scores])
    reference = _range_of([score.n_reference for score in scores if score.n_reference])
    return f"N = {generated}" + (f", {reference} real clips" if reference else "")


def _range_of(counts: Sequence[int]) -> str:
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


def _all_notes(group: _Group) -> list[str]:
    """Return all footnotes of a group: first those of whole runs, then those of scores."""
    of_runs = [(run.record, _run_notes(run.record)) for run in group.runs]
    return [
        *(text for _, common in of_runs for text in common),
        *(text for record, common in of_runs for score in record.scores for text in _cell_notes(score, common)),
    ]


def _run_notes(record: Record) -> list[str]:
    """Return the footnotes of a run: its deviations, and marks that all its scores have, if it has several."""
    departures = record.protocol.departures if record.protocol else []
    shared = [mark for mark in record.scores[0].marks if all(mark in score.marks for score in record.scores)]
    return [
        *(f"departs from its protocol: {departure}" for departure in departures),
        *(shared if len(record.scores) > 1 else []),
    ]


def _cell_notes(score: Score, common: Sequence[str]) -> list[str]:
    ends = (score.interval.low, score.interval.high) if score.interval else None
    words = reading(
        score.value,
        ends,
        score.floor,
        n_reference=score.n_reference,
        n_generated=score.n_generated,
        higher_is_better=score.higher_is_better,
    )
    status = "" if score.status == "ok" else f"no value: {score.status}"
    return [text for text in (status, words, *score.marks) if text and text not in common]


def _cell(score: Score, marks: Mapping[int, str], notes: tuple[int, ...], levels: Sequence[float]) -> WideCell:
    if score.value is None:
        return WideCell("", notes=notes)
    decimals = useful_decimals(score.value, None, None)  # at most four digits
    interval = ""
    if score.interval:
        least, most = range_of(score)
        low, high = max(score.interval.low, least), min(score.interval.high, most)
        decimals = min(decimals, useful_decimals(score.value, score.interval.low, score.interval.high))
        interval = f"[{rounded(low, decimals)}, {rounded(high, decimals)}]"
        if len(levels) > 1:
            interval += f" {percent(score.interval.level)}"
    return WideCell(rounded(score.value, decimals), interval, marks.get(id(score), ""), notes)


def range_of(score: Score) -> tuple[float, float]:
    """Return the least and the largest value that the metric can have, as far as its signature tells."""
    fields = dict(Signature.parse(score.signature).fields)
    if "root" in fields:  # a Frechet distance
        return 0.0, math.inf
    if "splits" in fields:  # an inception score
        return 1.0, math.inf
    if "cap" in fields:  # PSNR
        return 0.0, float(fields["cap"].removesuffix("dB"))
    if score.metric.partition("/")[0] == "ssim":
        return -1.0, 1.0
    return -math.inf, math.inf
