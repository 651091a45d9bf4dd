"""The contents of a page, built from its runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vdm_bench.leaderboards.published import Paper
from vdm_bench.leaderboards.record import Record
from vdm_bench.leaderboards.report.charts import (
    Metric,
    count_charts,
    curve_charts,
    guidance_charts,
    score_chart,
    time_charts,
)
from vdm_bench.leaderboards.report.gallery import Gallery
from vdm_bench.leaderboards.report.metric_tables import MetricTable, RankedGroup
from vdm_bench.leaderboards.report.plots import Chart, Plot, draw
from vdm_bench.leaderboards.report.runs import WITHOUT_PROTOCOL, ReportedRun, Runs
from vdm_bench.leaderboards.tables.matrix import Matrix, ProtocolSummary
from vdm_bench.leaderboards.tables.views import LEGEND, VERIFIED, numbered

MOST_PLOTS = 60  # of a page
_MOST_NAMES = 4
_RANKED = (
    "Ranks count within a group: scores of different groups were made in different ways and are not comparable."
)
_PUBLISHED = (
    "Published numbers are printed as their papers state them: they have no signature, and what ± means is up to "
    "the paper."
)


@dataclass(frozen=True)
class Section:
    """The scores of one metric, and their plots.

    Attributes:
        table: the scores.
        plots: of the group that is not dimmed.
        more_plots: of the other groups.
    """

    table: MetricTable
    plots: tuple[Plot, ...]
    more_plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Caveat:
    """A warning, and the names of the runs it applies to."""

    text: str
    names: str


@dataclass(frozen=True)
class Part:
    """The scores of one protocol.

    Attributes:
        anchor: identifies it within a page.
        title: of the part.
        sentence: about the protocol; may be empty.
        matrix: all metrics in one table; None for a single metric.
        sections: one per metric.
    """

    anchor: str
    title: str
    sentence: str
    matrix: Matrix | None
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class PageFrame:
    """What is around the contents of a page.

    Attributes:
        title: of the page.
        about: lines below the title.
        home: address of the index page; empty if there is none.
    """

    title: str
    about: tuple[str, ...] = ()
    home: str = ""


@dataclass(frozen=True)
class Page:
    """A page of runs.

    Attributes:
        frame: title and links.
        sentences: what to know before reading; at most three.
        warnings: about the runs.
        left_out: a sentence about each record that was refused.
        parts: scores by protocol.
        notes: footnotes of all tables, numbered.
        papers: that state the published numbers.
        count_plots: scores against the number of clips.
        galleries: clips side by side, with their addresses.
        runs: each in full.
    """

    frame: PageFrame
    sentences: tuple[str, ...]
    warnings: tuple[Caveat, ...]
    left_out: tuple[str, ...]
    parts: tuple[Part, ...]
    notes: Mapping[str, int]
    papers: tuple[Paper, ...]
    count_plots: tuple[Plot, ...]
    galleries: tuple[Gallery, ...]
    runs: tuple[ReportedRun, ...]

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Anchors and titles of the parts that are not empty."""
        entries = [
            ("warnings", "Before you read", self.sentences),
            *((part.anchor, part.title, part.sections) for part in self.parts),
            ("counts", "Number of clips", self.count_plots),
            ("clips", "Clips", self.galleries),
            ("notes", "Notes", self.notes or self.papers),
            ("runs", "Runs", self.runs),
        ]
        return [(anchor, text) for anchor, text, content in entries if content]


@dataclass(frozen=True)
class Scores:
    """The scores of a page.

    Attributes:
        tables: one per protocol and metric.
        matrices: one per protocol.
        published: number of published numbers.
        summaries: of the protocols, by name; may lack some.
    """

    tables: Sequence[MetricTable]
    matrices: Sequence[Matrix]
    published: int
    summaries: Mapping[str, ProtocolSummary] = field(default_factory=dict)


def make_page(runs: Runs, scores: Scores, frame: PageFrame, galleries: Sequence[Gallery] = ()) -> Page:
    """Build a page.

    Args:
        runs: shown in full.
        scores: of the runs, with published rows.
        frame: title and links.
        galleries: clips side by side, with their addresses.
    """
    plotter = _Plotter()
    parts = _parts(scores, runs, plotter)
    rows = [row for table in scores.tables for group in table.groups for row in group.board.plain]
    count_plots = plotter.draw(count_charts(row for row in rows if row["path"] in runs.by_path))
    if plotter.omitted:
        frame = PageFrame(frame.title, (*frame.about, f"{plotter.omitted} more plots are not drawn."), frame.home)
    shown = [row for table in scores.tables for row in table.rows]
    warnings = tuple(_warnings(runs.runs))
    return Page(
        frame=frame,
        sentences=tuple(_sentences(scores.tables, runs, warnings)),
        warnings=warnings,
        left_out=runs.left_out,
        parts=parts,
        notes=numbered(_notes(scores.tables)),
        papers=tuple(dict.fromkeys(row.paper for row in shown if row.paper)),
        count_plots=count_plots,
        galleries=tuple(galleries),
        runs=runs.runs,
    )


def _sentences(tables: Sequence[MetricTable], runs: Runs, warnings: Sequence[Caveat]) -> Iterator[str]:
    """Say in three sentences what a reader has to know."""
    if any(len(table.groups) > 1 for table in tables):
        yield _RANKED
    if any(row.published for table in tables for row in table.rows):
        yield _PUBLISHED
    counts = [
        *([_counted(len(warnings), "warning")] if warnings else []),
        *([f"{_counted(len(runs.left_out), 'record')} left out"] if runs.left_out else []),
    ]
    if counts:
        yield f"About the {_counted(len(runs.runs), 'run')} of this page: {' and '.join(counts)}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _notes(tables: Sequence[MetricTable]) -> Iterator[str]:
    for table in tables:
        if any(row.verified for row in table.rows):
            yield VERIFIED
        if table.has_ties:
            yield LEGEND["tie"]
        for row in table.rows:
            yield from row.notes


def _parts(scores: Scores, runs: Runs, plotter: "_Plotter") -> tuple[Part, ...]:
    matrices = {matrix.protocol: matrix for matrix in scores.matrices if len(matrix.metrics) > 1}
    sections: dict[str, list[Section]] = {}
    for table in scores.tables:
        of_group = [_charts(table, group, runs) for group in table.groups]
        others = [chart for place, charts in enumerate(of_group) if place != table.focus for chart in charts]
        section = Section(table, plotter.draw(of_group[table.focus]), plotter.draw(others))
        sections.setdefault(table.protocol, []).append(section)
    title = "Scores" if len(sections) == 1 else "Scores: {}"
    return tuple(
        Part(
            anchor=f"scores-{number}",
            title=title.format(protocol or WITHOUT_PROTOCOL),
            sentence=scores.summaries.get(protocol, ProtocolSummary()).sentence,
            matrix=matrices.get(protocol),
            sections=tuple(of_protocol),
        )
        for number, (protocol, of_protocol) in enumerate(sections.items(), start=1)
    )


class _Plotter:
    """Draws plots, up to the limit of a page."""

    def __init__(self) -> None:
        self._drawn = 0
        self.omitted = 0

    def draw(self, charts: Sequence[Chart]) -> tuple[Plot, ...]:
        shown = charts[: MOST_PLOTS - self._drawn]
        self._drawn += len(shown)
        self.omitted += len(charts) - len(shown)
        return tuple(map(draw, shown))


def _charts(table: MetricTable, group: RankedGroup, runs: Runs) -> list[Chart]:
    metric, rows = Metric(table.metric, table.higher_is_better), group.board.plain
    return [
        *score_chart(metric, rows),
        *curve_charts(metric, rows, runs.by_path),
        *guidance_charts(metric, rows, runs.by_path),
        *time_charts(metric, rows, runs.by_path),
    ]


def _warnings(runs: Iterable[ReportedRun]) -> Iterator[Caveat]:
    """Yield each warning once, with the names of its runs."""
    names: dict[str, dict[str, None]] = {}
    for run in runs:
        for text in _warnings_of(run.record):
            names.setdefault(text, {})[run.record.name] = None
    for text, runs_with_it in names.items():
        more = len(runs_with_it) - _MOST_NAMES
        yield Caveat(
            text, ", ".join([*list(runs_with_it)[:_MOST_NAMES], *([f"{more} more"] if more > 0 else [])])
        )


def _warnings_of(record: Record) -> Iterator[str]:
    for departure in record.protocol.departures if record.protocol else ():
        yield f"departs from its protocol: {departure}"
    for score in record.scores:
        if score.value is None:
            yield f"{score.metric} has no value: {score.status}"
        yield from (f"{score.metric}: {mark}" for mark in score.marks)
    for side, counts in (("reference", record.reference), ("generated", record.generated)):
        if counts.skipped:
            yield f"{len(counts.skipped)} of {counts.expected} {side} clips skipped"
        if counts.repeated:
            yield f"{counts.repeated} of {counts.scored} {side} clips repeat an earlier one"
    if record.environment.code_dirty:
        yield "made by code with uncommitted changes"
