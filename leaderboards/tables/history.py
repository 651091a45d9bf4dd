"""The history of a baseline as tables for a terminal, and as a plot."""

import io
from collections.abc import Sequence
from pathlib import Path

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.checks.history import ScoreHistory, ScorePoint
from vdm_bench.leaderboards.tables.comparisons import notes, titled, value_of, values_and_change
from vdm_bench.leaderboards.text import NOTHING, UNFOLDED, interval_title, rounded, text_table, useful_decimals
from vdm_bench.runtime.files import remove_temporary_files_of, write_bytes
from vdm_bench.runtime.printable import printable

PLOT_FORMATS = (".png", ".svg", ".pdf")
_SUBJECT = 50  # characters of a commit message
_WIDTH, _HEIGHT = 7.0, 2.2  # inches of the plot of a score


def format_history(histories: Sequence[ScoreHistory]) -> str:
    """Return a table per run and metric, with a row per commit that changed the score, oldest first."""
    lines: list[str] = []
    for history in histories:
        levels = {point.score.interval.level for point in history.points if point.score.interval}
        titles = ("date", "commit", "score", interval_title(levels), "change", "verdict", "message")
        rows = [_row(point) for point in history.points]
        lines += [f"{history.title}: {titled(history.latest)}", ""]
        lines += text_table(titles, rows, right=("score", "change"), width=UNFOLDED)
        compared = [point.compared for point in history.points if point.compared]
        lines += [*dict.fromkeys(notes(compared)), ""]
    return "".join(f"{printable(line, None).rstrip()}\n" for line in lines[:-1]) or "no scores\n"


def _row(point: ScorePoint) -> list[str]:
    snapshot, score = point.snapshot, point.score
    date = f"{snapshot.date:%Y-%m-%d}" if snapshot.date else NOTHING
    change = values_and_change(point.compared)[2] if point.compared else NOTHING
    verdict = point.compared.verdict if point.compared else "first"
    message = printable(snapshot.subject, None)
    if len(message) > _SUBJECT:
        message = f"{message[: _SUBJECT - 3]}..."
    interval = NOTHING
    if score.interval and score.value is not None:
        ends = (score.interval.low, score.interval.high)
        decimals = useful_decimals(score.value, *ends)
        interval = f"[{', '.join(rounded(end, decimals) for end in ends)}]"
    return [date, snapshot.commit, value_of(score), interval, change, verdict, message]


def check_plot_path(path: Path) -> None:
    """Refuse a plot file of an unknown format.

    Raises:
        InputError: its suffix is not one of `PLOT_FORMATS`.
    """
    if path.suffix.lower() not in PLOT_FORMATS:
        raise InputError(f"{path} is not a plot file; name one that ends in {', '.join(PLOT_FORMATS)}")


def plot_history(histories: Sequence[ScoreHistory], path: Path) -> None:
    """Draw every score over the commits that changed it, with its interval; written atomically.

    Args:
        histories: from `score_histories`.
        path: file to write: PNG, SVG or PDF, by its suffix.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    check_plot_path(path)
    count = max(len(histories), 1)
    figure = Figure(figsize=(_WIDTH, _HEIGHT * count), layout="constrained")
    for axes, history in zip(figure.subplots(count, 1, squeeze=False)[:, 0], histories, strict=False):
        places = [place for place, point in enumerate(history.points) if point.score.value is not None]
        points = [history.points[place] for place in places]
        values = [point.score.value or 0.0 for point in points]
        intervals = [point.score.interval for point in points]
        below = [value - found.low if found else 0.0 for value, found in zip(values, intervals, strict=True)]
        above = [found.high - value if found else 0.0 for value, found in zip(values, intervals, strict=True)]
        axes.errorbar(places, values, yerr=(below, above), fmt="o-", capsize=3)
        axes.set_xticks(range(len(history.points)), [point.snapshot.commit for point in history.points])
        title = printable(f"{history.title}: {titled(history.latest)}", None)
        axes.set_title(title, loc="left", fontsize=9, parse_math=False)
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", alpha=0.3)
    target = io.BytesIO()
    figure.savefig(target, format=path.suffix.lower().removeprefix("."))
    remove_temporary_files_of(path, shared=True)
    write_bytes(path, target.getvalue())
