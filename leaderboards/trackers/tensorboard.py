"""TensorBoard: `tensorboard:DIR`; one folder per run, with scores, per-frame curves, facts and the record.

The folder is created atomically. Its name ends in a digest of the record, so a record is logged only once.
"""

import re
import shutil
from pathlib import Path

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.trackers import LoggedRun, library
from vdm_bench.runtime.files import remove_temporary_files, temporary_folder

RECORD_COPY = "record.json"  # not run.json: a search for runs must not find the same one twice
_NAME_LENGTH = 60


class TensorboardTracker:
    """Writes TensorBoard event files.

    Args:
        folder: the `--logdir` of TensorBoard.

    Raises:
        InputError: the folder is missing from the text, or TensorBoard is not installed.
    """

    def __init__(self, folder: str) -> None:
        if not folder:
            raise InputError("tensorboard needs a folder to log to; write tensorboard:DIR")
        library("tensorboard", "tensorboard")
        self._folder = Path(folder)

    def log(self, run: LoggedRun) -> None:
        """Log a run, unless it is already logged."""
        name = re.sub(r"[^\w.-]+", "-", run.record.name)[:_NAME_LENGTH].strip(".-")
        target = self._folder / f"{name or 'run'}-{run.key[:12]}"
        remove_temporary_files(self._folder, shared=True)  # left by killed processes; there is no lock
        if target.exists():
            return
        part = temporary_folder(self._folder, "log")
        try:
            made = part / "made"
            self._write(made, run)
            shutil.copyfile(run.path, made / RECORD_COPY)
            made.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _write(self, folder: Path, run: LoggedRun) -> None:
        tensorboard = library("torch.utils.tensorboard", "tensorboard")
        time = run.record.created.timestamp()
        with tensorboard.SummaryWriter(str(folder)) as writer:
            for name, value in run.metrics.items():
                writer.add_scalar(name, value, 0, walltime=time)
            for name, curve in run.curves.items():
                for frame, value in curve:
                    writer.add_scalar(name, value, frame, walltime=time)
            for name, fact in run.facts.items():
                writer.add_text(name, _verbatim(str(fact)), 0, walltime=time)


def _verbatim(text: str) -> str:
    """Indent text as a Markdown code block, so that TensorBoard shows it unchanged."""
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
