"""All scores of a protocol in one table: a row per model, a column per metric, rows of different groups apart.

`text_of_matrices` prints it for a terminal, at most a screen per protocol; `report` shows it as HTML.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from vdm_bench.leaderboards.ranking import BEST, PUBLISHED, Board, Row
from vdm_bench.leaderboards.tables.views import NAME, Table, TableRow, footnotes_of, numbered, tables_with_boards
from vdm_bench.leaderboards.text import NOTHING, TEXT_WIDTH, text_table
from vdm_bench.runtime.printable import printable

AS_PROTOCOL = "as the protocol says"
OWN = "your runs"
MOST_ROWS = 36  # of a protocol in a terminal, to fit on a screen with the lines around them
_MOST_NOTES = 8  # lines
_MOST_METRICS = 2  # of a table with a column of groups
_LEGEND = (
    "* best of its group and metric; different groups are not comparable. Published numbers are printed as their "
    "papers state them and have no signature. a/b: on the training/validation set, or with 1/10 splits. "
)


@dataclass(frozen=True)
class ProtocolSummary:
    """What a reader has to know about a protocol.

    Attributes:
        sentence: the task, the dataset and the number of clips.
        conditions: conditions that published numbers may deviate from, by name, such as `resolution: 64x64`.
    """

    sentence: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MatrixCell:
    """The score of a model.

    Attributes:
        text: the value, with its spread or interval; both numbers of a published pair.
        best: whether it is the best of several in its group.
    """

    text: str
    best: bool


@dataclass(frozen=True)
class MatrixRow:
    """A model, or a run.

    Attributes:
        name: of the model.
        cells: its scores, by metric.
        link: address of the run's details; may be empty.
        source: paper that states the numbers; empty for a run.
        notes: caveats and warnings.
    """

    name: str
    cells: dict[str, MatrixCell]
    link: str
    source: str
    notes: dict[str, None]


@dataclass(frozen=True)
class Matrix:
    """All scores of a protocol.

    Attributes:
        protocol: its name; empty for runs without one.
        metrics: titles of the metrics with their direction, such as `fvd ↓`, by name.
        groups: comparable rows, by the title of the group; your runs share a group without being comparable.
    """

    protocol: str
    metrics: dict[str, str]
    groups: dict[str, list[MatrixRow]]

    @property
    def size(self) -> int:
        """Number of rows."""
        return sum(map(len, self.groups.values()))


def make_matrices(tables: Sequence[tuple[Table, Board]]) -> list[Matrix]:
    """Return the scores of each protocol as one table.

    Args:
        tables: as `tables_with_boards` returns them.
    """
    matrices: dict[str, Matrix] = {}
    rows: dict[tuple[str, ...], MatrixRow] = {}
    for table, board in tables:
        matrix = matrices.setdefault(board.protocol, Matrix(board.protocol, {}, {}))
        matrix.metrics[board.metric] = f"{board.metric} {'↑' if board.higher_is_better else '↓'}"
        title = group_title(board)
        for row, shown in zip(board.plain, table.rows, strict=True):
            key = (row["path"],) if row["path"] else (board.protocol, title, row["table"], row["name"])
            if key not in rows:
                link = shown.cells[table.columns.index(NAME)].link
                rows[key] = MatrixRow(row["name"], {}, link, row["source"] or "", {})
                matrix.groups.setdefault(title, []).append(rows[key])
            best = row["mark"] == BEST and len(table.rows) > 1
            rows[key].cells[board.metric] = MatrixCell(_value(table, board, row, shown), best)
            rows[key].notes.update(dict.fromkeys(notes_of(row)))
    return list(matrices.values())


def group_title(board: Board) -> str:
    """Return what distinguishes a board from the others of its protocol and metric."""
    return OWN if board.apart else board.pair or AS_PROTOCOL


def notes_of(row: Row) -> list[str]:
    """Return the footnotes of a row, with the reason why a run is not ranked with published results."""
    reason = row["apart"] if not row["departures"] else ""
    return [*([f"ranked separately: {reason}"] if reason else []), *footnotes_of(row)]


def _value(table: Table, board: Board, row: Row, shown: TableRow) -> str:
    cells = {column.title: cell.text for column, cell in zip(table.columns, shown.cells, strict=True)}
    if board.half:
        # The columns of numbers are the rank and the halves.
        halves = [column.title for column in table.columns if column.kind == "number"][1:]
        return "/".join(cells[half] for half in halves)
    if row["origin"] == PUBLISHED:
        return f"{cells['value']} ± {row['spread']}" if row["spread"] else cells["value"]
    interval = next(
        (c.text for k, c in zip(table.columns, shown.cells, strict=True) if k.kind == "interval"), NOTHING
    )
    return cells["value"] if interval == NOTHING else f"{cells['value']} {interval}"


def text_of_boards(
    boards: Sequence[Board], summaries: Mapping[str, ProtocolSummary], *, width: int = TEXT_WIDTH
) -> str:
    """Print boards for a terminal, one table per protocol; text that ends in a newline.

    Args:
        boards: what `make_boards` returned.
        summaries: what is printed about the protocols, by name; may lack some.
        width: of the tables, in characters.
    """
    matrices = make_matrices(tables_with_boards(boards))
    if not matrices:
        return "no scores\n"
    sources = numbered(row.source for m in matrices for rows in m.groups.values() for row in rows if row.source)
    lines: list[str] = []
    for matrix in matrices:
        lines += [*_text(matrix, summaries.get(matrix.protocol), sources, width), ""]
    papers = "; ".join(f"[{number}] {source}" for source, number in sources.items())
    lines += textwrap.wrap(f"{_LEGEND}{papers}", width)
    return "".join(f"{printable(line, None).rstrip()}\n" for line in lines)


def _text(matrix: Matrix, summary: ProtocolSummary | None, sources: Mapping[str, int], width: int) -> list[str]:
    shown = [(title, row) for title, rows in matrix.groups.items() for row in rows][:MOST_ROWS]
    omitted = matrix.size - len(shown)
    notes = numbered(note for _, row in shown for note in row.notes)
    cells = [_cells(matrix, row, sources, notes) for _, row in shown]
    command = f"vdm-bench leaderboard {matrix.protocol} --format markdown".replace("  ", " ")
    return [
        matrix.protocol or "no protocol",
        *(textwrap.wrap(summary.sentence, width) if summary else []),
        *_tables(matrix, [title for title, _ in shown], cells, width),
        *([f"{omitted:,} more rows: {command}"] if omitted else []),
        *_wrapped_notes(notes, width),
    ]


def _cells(
    matrix: Matrix, row: MatrixRow, sources: Mapping[str, int], notes: Mapping[str, int]
) -> dict[str, str]:
    """Return the cells of a row by the titles of their columns."""
    return {
        "model": row.name,
        **{title: _cell(row.cells.get(metric)) for metric, title in matrix.metrics.items()},
        "source": f"[{sources[row.source]}]" if row.source else "run",
        "notes": ",".join(str(number) for number in sorted(notes[note] for note in row.notes)),
    }


def _tables(
    matrix: Matrix, groups: Sequence[str], cells: Sequence[Mapping[str, str]], width: int
) -> Iterator[str]:
    """Print one table with a column of groups; if the metrics leave no room for it, a table per group."""
    titles, right = list(cells[0]), set(matrix.metrics.values())
    if len(matrix.metrics) <= _MOST_METRICS:
        first = [group if group != above else "" for above, group in pairwise(["", *groups])]
        rows = [[group, *row.values()] for group, row in zip(first, cells, strict=True)]
        yield from text_table(["group", *titles], rows, right=right, width=width)
        return
    for group in dict.fromkeys(groups):
        of_group = [row for title, row in zip(groups, cells, strict=True) if title == group]
        shared = [title for title in titles[-2:] if len({row[title] for row in of_group}) == 1]
        yield "; ".join([group, *(f"{title} {of_group[0][title]}" for title in shared if of_group[0][title])])
        rows = [[text for title, text in row.items() if title not in shared] for row in of_group]
        kept = [title for title in titles if title not in shared]
        yield from text_table(kept, rows, right=right, width=width)


def _cell(cell: MatrixCell | None) -> str:
    return NOTHING if cell is None else f"{'*' if cell.best else ''}{cell.text}"


def _wrapped_notes(notes: Mapping[str, int], width: int) -> list[str]:
    text = "; ".join(f"({number}) {printable(note, None)}" for note, number in notes.items())
    return textwrap.wrap(text, width, max_lines=_MOST_NOTES, placeholder=" ... (all: --format markdown)")
