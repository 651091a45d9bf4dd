"""The front page of a site: every protocol in a sentence, with the best score of each of its groups."""

from collections.abc import Sequence
from dataclasses import dataclass

from vdm_bench.leaderboards.report.content import PageFrame
from vdm_bench.leaderboards.report.metric_tables import MetricTable, RankedGroup, ScoreRow

MOST_BEST = 12  # of a protocol that are not folded
MOST_FOLDED = 88


@dataclass(frozen=True)
class Best:
    """The best score of a group.

    Attributes:
        metric: with its direction, such as `fvd ↓`.
        group: what distinguishes the group.
        row: the best row.
        value: by which it is ranked.
        count: rows of the group that have a value and a rank.
    """

    metric: str
    group: str
    row: ScoreRow
    value: str
    count: int


@dataclass(frozen=True)
class PageLink:
    """The page of a protocol.

    Attributes:
        name: of the protocol.
        address: of the page.
    """

    name: str
    address: str


@dataclass(frozen=True)
class Card:
    """A protocol on the front page.

    Attributes:
        page: name of the protocol, and the address of its page.
        sentence: about the protocol; may be empty.
        about: numbers of runs and of published numbers.
        best: of every group.
    """

    page: PageLink
    sentence: str
    about: tuple[str, ...]
    best: tuple[Best, ...]

    @property
    def first(self) -> tuple[Best, ...]:
        """Those that are always shown."""
        return self.best[:MOST_BEST]

    @property
    def folded(self) -> tuple[Best, ...]:
        """Those that are shown on request."""
        return self.best[MOST_BEST:][:MOST_FOLDED]

    @property
    def omitted(self) -> int:
        """Number of those that are on the page of the protocol alone."""
        return max(len(self.best) - MOST_BEST - MOST_FOLDED, 0)


@dataclass(frozen=True)
class Front:
    """The front page.

    Attributes:
        frame: title and links.
        left_out: a sentence about each record that was refused.
        cards: one per protocol.
    """

    frame: PageFrame
    left_out: tuple[str, ...]
    cards: tuple[Card, ...]


def make_card(page: PageLink, sentence: str, about: tuple[str, ...], tables: Sequence[MetricTable]) -> Card:
    """Return what the front page shows of a protocol."""
    return Card(
        page=page,
        sentence=sentence,
        about=about,
        best=tuple(_best(table, group, group.best) for table in tables for group in table.groups if group.best),
    )


def _best(table: MetricTable, group: RankedGroup, row: ScoreRow) -> Best:
    metric = f"{table.metric} {'↑' if table.higher_is_better else '↓'}"
    count = sum(other.rank.sort_key is not None for other in group.rows)
    return Best(metric, group.title, row, group.headline(row), count)
