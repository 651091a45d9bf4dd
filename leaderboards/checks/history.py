"""The scores of a baseline file over the commits that changed it, read with git."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.checks.baseline import Baseline, Key, title_of
from vdm_bench.leaderboards.checks.compare import Comparison, compare_scores
from vdm_bench.metrics.score import Score

UNCOMMITTED = "uncommitted"
_SECONDS = 60  # that git may take


@dataclass(frozen=True)
class Snapshot:
    """The baseline file at a commit.

    Attributes:
        commit: abbreviated hash, or `uncommitted` for the file in the working tree.
        date: date of the commit; None for the working tree.
        subject: first line of its message.
        baseline: the runs.
    """

    commit: str
    date: datetime | None
    subject: str
    baseline: Baseline


@dataclass(frozen=True)
class ScorePoint:
    """A commit that changed a score.

    Attributes:
        snapshot: the commit.
        score: the score from then on.
        compared: comparison with the score before, or None for the first.
    """

    snapshot: Snapshot
    score: Score
    compared: Comparison | None

    def to_dict(self) -> dict[str, Any]:
        """Return the point as plain JSON types."""
        interval = self.score.interval
        return {
            "commit": self.snapshot.commit,
            "date": self.snapshot.date and self.snapshot.date.isoformat(),
            "subject": self.snapshot.subject,
            "value": self.score.value,
            "low": interval and interval.low,
            "high": interval and interval.high,
            "digest": self.score.digest,
            "status": self.score.status,
            "verdict": self.compared and self.compared.verdict,
        }


@dataclass(frozen=True)
class ScoreHistory:
    """The history of a metric of a run.

    Attributes:
        title: title of the run, such as `my-model on shapes-unconditional`.
        points: the commits that changed the score, oldest first.
    """

    title: str
    points: tuple[ScorePoint, ...]

    @property
    def latest(self) -> Score:
        """The score today."""
        return self.points[-1].score

    def to_dict(self) -> dict[str, Any]:
        """Return the history as plain JSON types."""
        points = [point.to_dict() for point in self.points]
        return {"run": self.title, "metric": self.latest.metric, "points": points}


def read_snapshots(path: Path, *, note: Callable[[str], None]) -> list[Snapshot]:
    """Return a baseline file at every commit that changed it, oldest first, then the file itself if it differs.

    Args:
        path: the baseline file.
        note: called with one sentence per commit whose file cannot be read.

    Raises:
        InputError: the file is not in a git repository, or was never committed.
    """
    log = _git(path, "log", "--reverse", "--diff-filter=ACMRT", "--format=%H%x1f%h%x1f%cI%x1f%s", "--", path.name)
    snapshots, data = [], b""
    for line in log.decode("utf-8", "replace").splitlines():
        commit, short, date, subject = line.split("\x1f", 3)
        data = _git(path, "show", f"{commit}:./{path.name}")
        try:
            baseline = Baseline.parse(data, path)
        except InputError as error:
            note(f"left out commit {short}: {error}")
            continue
        snapshots.append(Snapshot(short, datetime.fromisoformat(date), subject, baseline))
    if not log:
        raise InputError(f"{path} has no commits; add and commit it, then its history begins")
    if path.is_file() and path.read_bytes() != data:
        snapshots.append(Snapshot(UNCOMMITTED, None, "", Baseline.read(path)))
    return snapshots


def _git(path: Path, *arguments: str) -> bytes:
    command = ["git", "-c", "log.showSignature=false", "-C", str(path.parent), *arguments]
    try:
        return subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS).stdout
    except FileNotFoundError as error:
        raise InputError("the history of a file is read with git, which is not installed; install git") from error
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or b"").decode("utf-8", "replace").strip() or str(error)
        raise InputError(
            f"git cannot read the history of {path}: {said}; give a file in a git repository"
        ) from error


def score_histories(snapshots: list[Snapshot]) -> list[ScoreHistory]:
    """Return the history of every score, by run and metric in the order of their appearance.

    A commit that does not change a score is no point of its history.

    Args:
        snapshots: from `read_snapshots`.
    """
    points: dict[tuple[Key, str], list[ScorePoint]] = {}
    titles: dict[Key, str] = {}
    for snapshot in snapshots:
        for key, run in snapshot.baseline.runs.items():
            titles[key] = title_of(run)
            for score in run.scores:
                found = points.setdefault((key, score.metric), [])
                if not found:
                    found.append(ScorePoint(snapshot, score, None))
                elif found[-1].score != score:
                    found.append(ScorePoint(snapshot, score, compare_scores(found[-1].score, score)))
    return [ScoreHistory(titles[key], tuple(found)) for (key, _), found in points.items()]
