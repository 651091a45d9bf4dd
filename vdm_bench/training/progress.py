"""How far a training run is, in lines for people."""

import math
import time
from collections.abc import Callable

from vdm_bench.reference_model.config import TrainingConfig
from vdm_bench.reference_model.training.log import LogLine
from vdm_bench.runtime.progress import duration

_QUIET_SECONDS = 5.0  # between two lines


class LogPrinter:
    """Says how training goes, not too often.

    Args:
        note: gets each line.
        training: what is trained.
    """

    def __init__(self, note: Callable[[str], None], training: TrainingConfig) -> None:
        self._note, self._training, self._last = note, training, -math.inf

    def __call__(self, line: LogLine) -> None:
        """Say a line of the log, if none was said just now."""
        left = self._training.steps - line.step
        if left and time.monotonic() - self._last < _QUIET_SECONDS:
            return
        self._last = time.monotonic()
        remaining = left * self._training.batch / line.clips_per_second
        self._note(
            f"step {line.step:,} of {self._training.steps:,}: loss {line.loss:.4f}, "
            f"learning rate {line.learning_rate:.2g}, {line.clips_per_second:.3g} clips/s, "
            f"{duration(remaining)} left"
        )
