"""TensorBoard: `tensorboard:DIR`; a folder for each run, with scores, curves by frame, facts and the record.

The folder appears whole or not at all, and its name ends in a digest of the record: a record that is there is
left alone.
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
    """Writes event files.

    Args:
        folder: that TensorBoard is started with.

    Raises:
        InputError: there is no folder, or TensorBoard is not installed.
    """

    def __init__(self, folder: str) -> None:
        if not folder:
            raise InputError("tensorboard needs a folder to log to; write tensorboard:DIR")
        library("tensorboard", "tensorboard")
        self._folder = Path(folder)

    def log(self, run: LoggedRun) -> None:
        """Write a run, once."""
        name = re.sub(r"[^\w.-]+", "-", run.record.name)[:_NAME_LENGTH].strip(".-")
        target = self._folder / f"{name or 'run'}-{run.key[:12]}"
        remove_temporary_files(self._folder, shared=True)  # what killed processes left; there is no lock
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
    """Indent text, so that TensorBoard, which takes it for Markdown, shows it as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
