"""The names of the files in a run folder, defined only here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

RECORD_FILE: Final = "run.json"
VERIFICATION_FILE: Final = "verified.json"
REPORT_FILE: Final = "report.html"
SAMPLES_FOLDER: Final = "samples"
FEATURES_FOLDER: Final = "features"


@dataclass(frozen=True)
class RunFolder:
    """A folder that `run` or `score --out` writes to.

    Attributes:
        path: the folder; it need not exist.
    """

    path: Path

    @property
    def record(self) -> Path:
        """The record. It is written last, so a run that has one is complete."""
        return self.path / RECORD_FILE

    @property
    def plan(self) -> Path:
        """The settings of the run; to resume it, the settings must be the same."""
        return self.path / "plan.json"

    @property
    def samples(self) -> Path:
        """The clip archive of the generated clips."""
        return self.path / SAMPLES_FOLDER

    @property
    def features(self) -> Path:
        """The folder of features and frame metrics, in blocks of clips."""
        return self.path / FEATURES_FOLDER

    @property
    def report(self) -> Path:
        """The page with tables, plots and clips."""
        return self.path / REPORT_FILE

    def earlier_record(self, clips: int) -> Path:
        """Return where the record of `clips` clips is moved when the run is extended to more clips."""
        return self.path / f"run-{clips}.json"
